"""Accuracy and loss, and that measuring changes nothing."""

import pytest
import torch

from compress.errors import DataError, MachineError
from compress.train.evaluate import accuracy, evaluate
from compress.train.placement import placed


def test_accuracy_and_loss_are_those_of_the_whole_split(dataset, make_model):
    model = make_model().eval()
    split = dataset.test
    logits = model(torch.from_numpy(split.images))
    labels = torch.from_numpy(split.labels)
    got = evaluate(model, split, device="cpu", batch_size=5)
    assert got.accuracy == pytest.approx(100 * (logits.argmax(1) == labels).float().mean().item())
    assert got.loss == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert got.images == 16
    assert accuracy(model, split, device="cpu") == got.accuracy


def test_the_model_is_left_as_it_was(dataset, make_model):
    model = make_model().train()
    model.bn.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    evaluate(model, dataset.test, device="cpu")
    assert model.training
    assert not model.bn.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_placed_model_keeps_its_parameters_and_gets_its_layout_back():
    model = torch.nn.Conv2d(3, 4, 3)
    weight, values = model.weight, model.weight.detach().clone()
    with placed(model, torch.device("cpu"), channels_last=True):
        assert weight.is_contiguous(memory_format=torch.channels_last)
        assert not weight.is_contiguous()
    assert model.weight is weight
    assert weight.is_contiguous()
    assert torch.equal(weight, values)


def test_bfloat16_is_near_float32(dataset, make_model):
    model = make_model()
    exact = evaluate(model, dataset.test, device="cpu")
    rough = evaluate(model, dataset.test, device="cpu", precision="bfloat16")
    assert rough.loss != exact.loss
    assert rough.loss == pytest.approx(exact.loss, rel=0.02)


def test_an_empty_split_is_an_error(make_dataset, make_model):
    with pytest.raises(DataError, match="no images"):
        evaluate(make_model(), make_dataset(validation=0).validation, device="cpu")


def test_a_gpu_that_is_not_there_is_an_error(dataset, make_model, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MachineError, match="no GPU"):
        evaluate(make_model(), dataset.test, device="cuda")
