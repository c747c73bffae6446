"""Checkpoints: what is written is what is read, and whatever else is in a file is refused in one line."""

import json
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from compress.architectures import NetworkSpec, build_network
from compress.errors import CompressError, ModelFileError
from compress.train.checkpoint import load_checkpoint, save_checkpoint
from compress.train.weights import read_tensors, weights_sha256

SPEC = NetworkSpec("resnet8", {"width": 4}, (3, 8, 8))
SHARED = Path(__file__).parents[2].parent / "shared"


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(3)
    model = build_network(SPEC)
    model.train()(torch.randn(8, 3, 8, 8))
    path = tmp_path / "net.safetensors"
    save_checkpoint(path, model, SPEC, facts={"accuracy": 12.5})
    return path, model.eval()


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_network_comes_back_whole(saved):
    path, model = saved
    loaded = load_checkpoint(path)
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(loaded.model(x), model(x))
    assert not loaded.model.training
    assert (loaded.spec, loaded.plan, loaded.facts) == (SPEC, None, {"accuracy": 12.5})
    assert loaded.model.bn1.num_batches_tracked == 1


def test_loading_leaves_the_random_state_alone(saved):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    load_checkpoint(saved[0])
    assert torch.equal(torch.rand(1), expected)


def test_equal_networks_give_equal_bytes_whatever_their_layout(saved, tmp_path):
    path, model = saved
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, model.to(memory_format=torch.channels_last), SPEC, facts={"accuracy": 12.5})
    assert other.read_bytes() == path.read_bytes()


class TiedNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x.flatten(1)))


def test_tied_weights_are_written_once_and_stay_tied(tmp_path):
    (tmp_path / "net.py").write_text("import sys\nbuild = sys.modules['tied_nets'].TiedNet\n")
    module = types.ModuleType("tied_nets")
    module.TiedNet = TiedNet
    sys.modules["tied_nets"] = module
    spec = NetworkSpec("net.py:build", {}, (1, 2, 2), tmp_path)
    model = build_network(spec).eval()
    save_checkpoint(tmp_path / "tied.safetensors", model, spec)
    assert len(safetensors.torch.load_file(tmp_path / "tied.safetensors")) == 3
    loaded = load_checkpoint(tmp_path / "tied.safetensors").model
    assert loaded.first.weight is loaded.second.weight
    x = torch.randn(3, 1, 2, 2)
    assert torch.equal(loaded(x), model(x))


def test_a_plain_state_dict_needs_a_network(saved, tmp_path):
    _, model = saved
    plain = tmp_path / "plain.safetensors"
    weights = {k: v.contiguous() for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    safetensors.torch.save_file(weights, plain)
    with pytest.raises(ModelFileError, match="weights only"):
        load_checkpoint(plain)
    loaded = load_checkpoint(plain, spec=SPEC)
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(loaded.model(x), model(x))


def test_names_and_shapes_that_do_not_fit_are_named(saved):
    path, _ = saved
    with pytest.raises(ModelFileError, match=r"wrong shape: bn1\.bias") as caught:
        load_checkpoint(path, spec=NetworkSpec("resnet8", {"width": 8}, (3, 8, 8)))
    assert "more" in one_line(caught)
    with pytest.raises(ModelFileError, match=r"missing conv1.bias.*unexpected bn1.bias") as caught:
        load_checkpoint(path, spec=NetworkSpec("lenet-5-caffe", {"in_channels": 3}, (3, 16, 16)))
    one_line(caught)


def test_weights_that_are_not_finite_are_refused(saved, tmp_path):
    _, model = saved
    model.linear.bias.data[0] = float("nan")
    save_checkpoint(tmp_path / "nan.safetensors", model, SPEC)
    with pytest.raises(ModelFileError, match=r"linear\.bias holds values that are not finite"):
        load_checkpoint(tmp_path / "nan.safetensors")


@pytest.mark.parametrize("head", range(0x280, 0x580, 0x100))
def test_a_head_whose_length_looks_like_a_pickle_is_read(tmp_path, head):
    path = tmp_path / "weights.safetensors"
    tensors = {"weight": torch.ones(3)}
    plain = int.from_bytes(safetensors.torch.save(tensors, {"key": ""})[:8], "little")
    path.write_bytes(safetensors.torch.save(tensors, {"key": "x" * (head - plain)}))
    assert path.read_bytes()[:2] == bytes([0x80, head >> 8])
    read, _ = read_tensors(path, "checkpoint")
    assert torch.equal(read["weight"], tensors["weight"])


def test_pickles_are_refused_whatever_their_name(tmp_path):
    for name, zipped in (("net.pt", True), ("old.pth", False), ("lie.safetensors", True)):
        torch.save({"a": torch.zeros(1)}, tmp_path / name, _use_new_zipfile_serialization=zipped)
        with pytest.raises(ModelFileError, match=r"pickle.*save_file\(model.state_dict\(\)") as caught:
            load_checkpoint(tmp_path / name, spec=SPEC)
        one_line(caught)


def test_missing_empty_and_foreign_files_are_refused(tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("not a model\n" * 9)
    for name, message in (("absent", "does not exist"), ("empty", "is empty"), ("text", "damaged"), (".", "folder")):
        with pytest.raises(ModelFileError, match=message) as caught:
            load_checkpoint(tmp_path / name)
        one_line(caught)


def test_every_truncation_is_refused(saved, tmp_path):
    data = saved[0].read_bytes()
    broken = tmp_path / "broken.safetensors"
    for length in [*range(1, 60), *range(60, len(data), len(data) // 20), len(data) - 1]:
        broken.write_bytes(data[:length])
        with pytest.raises(ModelFileError):
            load_checkpoint(broken)


def test_no_changed_byte_gives_anything_but_a_network_or_one_line(saved, tmp_path):
    data = bytearray(saved[0].read_bytes())
    broken = tmp_path / "broken.safetensors"
    header = 8 + int.from_bytes(data[:8], "little")
    rng = np.random.default_rng(0)
    messages = []
    for place in rng.integers(0, header, 80):
        changed = bytearray(data)
        changed[place] ^= int(rng.integers(1, 256))
        broken.write_bytes(changed)
        try:
            load_checkpoint(broken)
        except CompressError as error:
            messages.append(str(error))
    assert len(messages) > 40
    assert not any("\n" in message for message in messages)


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ("{", "description is damaged"),
        ("[]", "description is damaged"),
        (json.dumps({"format": 1}), "description is damaged"),
        (json.dumps({"format": 2, "spec": {}, "plan": None, "facts": {}}), "another format; got 2; allowed: 1"),
        (json.dumps({"format": 1, "spec": [], "plan": None, "facts": {}}), "description is damaged"),
        (json.dumps({"format": 1, "spec": {}, "plan": None, "facts": {}}), "description of a network"),
    ],
)
def test_damaged_descriptions_are_refused(tmp_path, described, message):
    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1)}, path, {"compress": described})
    with pytest.raises(CompressError, match=message) as caught:
        load_checkpoint(path)
    one_line(caught)


def test_a_plan_is_applied_before_the_weights(saved, tmp_path, monkeypatch):
    def apply_plan(model, plan):
        model.linear.weight = nn.Parameter(model.linear.weight[:, plan["kept"]])

    monkeypatch.setitem(sys.modules, "compress.compact", types.SimpleNamespace(apply_plan=apply_plan))
    plan_module = types.SimpleNamespace(Plan=types.SimpleNamespace(from_dict=lambda described: described))
    monkeypatch.setitem(sys.modules, "compress.channels.plan", plan_module)
    _, model = saved
    apply_plan(model, {"kept": [0, 5, 6]})
    save_checkpoint(tmp_path / "cut.safetensors", model, SPEC, plan={"kept": [0, 5, 6]})
    loaded = load_checkpoint(tmp_path / "cut.safetensors")
    assert loaded.plan == {"kept": [0, 5, 6]}
    assert torch.equal(loaded.model.linear.weight, model.linear.weight)


def test_the_hash_sees_values_and_names_but_not_layout(saved):
    _, model = saved
    before = weights_sha256(model)
    assert weights_sha256(model.to(memory_format=torch.channels_last)) == before
    with torch.no_grad():
        model.conv1.weight[0, 0, 0, 0] += 1e-3
    assert weights_sha256(model) != before


PUBLISHED = {20: 91.73, 32: 92.63, 44: 93.10, 56: 93.39}


@pytest.mark.parametrize("depth", PUBLISHED)
def test_published_checkpoints_load(depth):
    path = SHARED / "data" / "checkpoints" / f"resnet{depth}-cifar10.safetensors"
    if not path.is_file():
        pytest.skip(f"no {path.name} in ../shared/data/checkpoints")
    spec = NetworkSpec(f"resnet{depth}", {"classes": 10, "in_channels": 3}, (3, 32, 32))
    loaded, stored = load_checkpoint(path, spec=spec).model.state_dict(), safetensors.torch.load_file(path)
    assert len(stored) > depth
    assert all(torch.equal(loaded[name], tensor) for name, tensor in stored.items())


def test_the_published_resnet20_classifies_real_images():
    path = SHARED / "data" / "checkpoints" / "resnet20-cifar10.safetensors"
    images = Path(os.environ.get("COMPRESS_DATA", "absent")) / "cifar-10" / "test_batch.bin"
    if not path.is_file() or not images.is_file():
        pytest.skip("needs ../shared/data/checkpoints and COMPRESS_DATA with cifar-10/test_batch.bin")
    records = np.fromfile(images, np.uint8, 3073 * 1000).reshape(-1, 3073)
    x = records[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32) / 255
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    x = ((x - mean[:, None, None]) / std[:, None, None]).astype(np.float32)
    model = load_checkpoint(path, spec=NetworkSpec("resnet20", {}, (3, 32, 32))).model
    with torch.no_grad():
        right = (model(torch.from_numpy(x)).argmax(1).numpy() == records[:, 0]).mean()
    assert right > 0.9
