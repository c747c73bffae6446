"""The loop: it learns, obeys its settings and hooks, and refuses what cannot work."""

import numpy as np
import pytest
import torch
from torch import nn

from compress.data.base import Augment
from compress.errors import CompressError, DataError, NetworkError, TrainingError
from compress.recipe import DistillSettings, TrainSettings
from compress.train.evaluate import accuracy
from compress.train.hooks import Hook
from compress.train.loop import fit


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Linear(nn.Module):
    """Logits linear in the pixels, starting at zero: steps can be worked out by hand."""

    def __init__(self, classes=4):
        super().__init__()
        self.linear = nn.Linear(16, classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x):
        return self.linear(x.flatten(1))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("channels_last", [True, False])
def test_a_tiny_set_is_learnt_by_heart(dataset, make_model, optimizer, precision, channels_last):
    rate = 0.05 if optimizer == "sgd" else 0.01
    settings = TrainSettings(
        epochs=15,
        batch_size=8,
        optimizer=optimizer,
        learning_rate=rate,
        precision=precision,
        channels_last=channels_last,
        device="cpu",
    )
    model = make_model()
    result = fit(model, dataset, settings, seed=0)
    assert accuracy(model, dataset.train, device="cpu") == 100
    assert result.epochs == 15
    assert not result.stopped_early
    assert result.history[-1]["loss"] < 0.2 * result.history[0]["loss"]
    assert not model.training
    assert model.conv.weight.is_contiguous()


def test_the_history_says_what_happened(dataset, make_model, settings):
    model = make_model()
    result = fit(model, dataset, settings, seed=0)
    assert [entry["epoch"] for entry in result.history] == [1, 2, 3]
    last = result.history[-1]
    assert last["validation_accuracy"] == accuracy(model, dataset.validation, device="cpu")
    # Cosine at the last of 15 steps: (1 + cos(14π/15)) / 2 of the peak.
    assert last["learning_rate"] == pytest.approx(0.05 * (1 + np.cos(np.pi * 14 / 15)) / 2)
    assert set(last) == {"epoch", "loss", "train_accuracy", "validation_accuracy", "learning_rate", "seconds"}


def test_the_same_seed_gives_the_same_network_and_another_seed_another(dataset, make_model, settings):
    models = [make_model() for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        torch.manual_seed(seed * 100 + int(torch.randint(9, ()).item()))
        fit(model, dataset, settings, seed=seed, augment=Augment(("flip",)))
    assert equal(state(models[0]), state(models[1]))
    assert not equal(state(models[0]), state(models[2]))


def test_every_epoch_has_its_own_order(dataset, settings):
    seen = []

    class Watched(Linear):
        def forward(self, x):
            if self.training:
                seen.append(x[0].clone())
            return super().forward(x)

    fit(Watched(), dataset, settings, seed=0)
    first, second, third = seen[0], seen[5], seen[10]
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


def test_torchs_random_state_is_left_alone(dataset, make_model, settings):
    model = make_model()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    fit(model, dataset, settings, seed=0)
    assert torch.equal(torch.rand(1), expected)


def test_no_epochs_change_nothing(dataset, make_model, settings):
    model = make_model()
    before = state(model)
    result = fit(model, dataset, settings.model_copy(update={"epochs": 0}), seed=0)
    assert equal(before, state(model))
    assert (result.epochs, result.history, result.stopped_early) == (0, [], False)


def test_one_step_of_sgd_by_hand(dataset):
    model = Linear()
    model.linear.bias.data.fill_(2.0)
    settings = TrainSettings(
        epochs=1, batch_size=40, learning_rate=0.5, weight_decay=0.1, schedule="constant", device="cpu"
    )
    fit(model, dataset, settings, seed=0)
    # Equal logits: p = 1/4 for all, and each class is a quarter of the set, so the bias only decays: 2 − 0.5·0.1·2.
    assert model.linear.bias.tolist() == pytest.approx([1.9] * 4)
    images, labels = torch.from_numpy(dataset.train.images).flatten(1), torch.from_numpy(dataset.train.labels)
    gradient = (0.25 - nn.functional.one_hot(labels, 4).float()).T @ images / 40
    assert torch.allclose(model.linear.weight, -0.5 * gradient, atol=1e-6)


def test_gradient_clip_bounds_the_step(dataset):
    model = Linear()
    settings = TrainSettings(
        epochs=1,
        batch_size=40,
        learning_rate=1.0,
        weight_decay=0,
        gradient_clip=0.01,
        schedule="constant",
        device="cpu",
    )
    fit(model, dataset, settings, seed=0)
    assert torch.cat([p.flatten() for p in model.parameters()]).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_frozen_parameters_stay(dataset, make_model, settings):
    model = make_model()
    model.conv.weight.requires_grad_(False)
    before = model.conv.weight.clone()
    fit(model, dataset, settings, seed=0)
    assert torch.equal(model.conv.weight, before)


class Recorder(Hook):
    """Does all that a hook may do, and remembers it."""

    def __init__(self):
        self.calls = []

    def penalty(self, model):
        self.calls.append("penalty")
        return model.linear.weight.square().sum()

    def attach(self, model):
        self.calls.append("attach")

    def detach(self, model):
        self.calls.append("detach")

    def before_step(self, model, images, labels):
        self.calls.append(("before", tuple(images.shape), len(labels)))

    def after_backward(self, model):
        self.calls.append(model.linear.weight.grad is not None)

    def after_step(self, model, learning_rate):
        self.calls.append(round(learning_rate, 4))

    def after_epoch(self, model, epoch):
        self.calls.append(f"epoch {epoch}")


def test_hooks_are_called_in_order(make_dataset, make_model):
    settings = TrainSettings(epochs=2, batch_size=8, learning_rate=0.02, schedule="constant", device="cpu")
    recorder = Recorder()
    fit(make_model(), make_dataset(train=16), settings, seed=0, hooks=[recorder])
    once = [("before", (8, 1, 4, 4), 8), "penalty", True, 0.02] * 2
    assert recorder.calls == ["attach", *once, "epoch 1", *once, "epoch 2", "detach"]


def test_one_step_with_a_penalty_by_hand(dataset):
    class Slope(Hook):
        def penalty(self, model):
            return 3.0 * model.linear.bias[:2].sum()

    model = Linear()
    settings = TrainSettings(epochs=1, batch_size=40, learning_rate=0.5, schedule="constant", device="cpu")
    result = fit(model, dataset, settings, seed=0, hooks=[Slope()])
    # The cross-entropy of equal logits over balanced classes has no gradient here: only 0.5 · 3 remains.
    assert model.linear.bias.tolist() == pytest.approx([-1.5, -1.5, 0, 0], abs=1e-6)
    assert result.history[0]["loss"] == pytest.approx(np.log(4))


def test_a_regularizer_may_have_no_penalty(dataset, make_model, settings):
    class Nothing(Hook):
        def penalty(self, model):
            return None

    plain, same = make_model(), make_model()
    fit(plain, dataset, settings, seed=0)
    fit(same, dataset, settings, seed=0, hooks=[Nothing()])
    assert equal(state(plain), state(same))


def test_masks_hold_after_every_step_against_momentum_and_decay(dataset, make_model, settings):
    class Mask:
        def apply(self, model):
            with torch.no_grad():
                model.conv.weight[:4] = 0

    model = make_model()
    seen = []
    fit(
        model,
        dataset,
        settings,
        seed=0,
        masks=Mask(),
        progress=lambda _: seen.append(model.conv.weight[:4].abs().max().item()),
    )
    assert len(seen) == 15
    assert max(seen) == 0
    assert model.conv.weight[4:].abs().min() > 0


@pytest.mark.parametrize("kind", ["kl", "logits"])
def test_a_student_learns_from_its_teacher_alone(dataset, make_model, settings, kind):
    teacher = make_model(seed=1)
    fit(teacher, dataset, settings.model_copy(update={"epochs": 10}), seed=0)
    before = state(teacher)
    teacher.train()
    # The teacher names each class by the next one: only its term can teach that.
    teacher.linear.weight.data = teacher.linear.weight.data.roll(1, 0)
    teacher.linear.bias.data = teacher.linear.bias.data.roll(1, 0)
    distill = DistillSettings(kind=kind, weight=1.0, temperature=2.0)
    chosen = settings.model_copy(update={"epochs": 30, "learning_rate": 0.01, "distill": distill})
    student = make_model(seed=2)
    fit(student, dataset, chosen, seed=0, teacher=teacher)
    student.eval()
    predicted = student(torch.from_numpy(dataset.train.images)).argmax(1).numpy()
    assert (predicted == (dataset.train.labels + 1) % 4).mean() > 0.9
    assert teacher.training
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items() if "bn" in name)


def test_a_last_batch_of_one_image_is_left_out(make_dataset):
    dataset = make_dataset(train=17)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
    reports = []
    settings = TrainSettings(epochs=2, batch_size=8, learning_rate=0.01, device="cpu")
    fit(model, dataset, settings, seed=0, progress=reports.append)
    assert dataset.train.sizes == [8, 8, 1]
    assert [(report.epoch, report.step, report.steps) for report in reports] == [
        (1, 1, 2),
        (1, 2, 2),
        (2, 1, 2),
        (2, 2, 2),
    ]


def test_batches_of_one_image_train_where_the_network_allows(make_dataset, make_model):
    dataset = make_dataset(train=3)
    settings = TrainSettings(epochs=1, batch_size=1, learning_rate=0.01, device="cpu")
    reports = []
    fit(make_model(), dataset, settings, seed=0, progress=reports.append)
    assert len(reports) == 3
    flat = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
    with pytest.raises(TrainingError, match="batches of one image"):
        fit(flat, dataset, settings, seed=0)


def test_progress_counts_and_measures(dataset, make_model, settings):
    reports = []
    fit(make_model(), dataset, settings, seed=0, progress=reports.append)
    assert len(reports) == 15
    assert (reports[-1].epoch, reports[-1].epochs, reports[-1].step, reports[-1].steps) == (3, 3, 5, 5)
    assert reports[0].learning_rate == 0.05
    assert all(report.images_per_second > 0 and np.isfinite(report.loss) for report in reports)


def test_early_stop_ends_and_brings_back_the_best(dataset, make_model):
    class Spoiler(Hook):
        """Wrecks the classifier from the third epoch on."""

        def penalty(self, model):
            return None

        def after_epoch(self, model, epoch):
            if epoch >= 3:
                with torch.no_grad():
                    model.linear.weight.zero_()
                    model.linear.bias.copy_(torch.tensor([1.0, 0, 0, 0]))

    settings = TrainSettings(epochs=30, batch_size=8, learning_rate=0.05, early_stop_epochs=2, device="cpu")
    model = make_model()
    result = fit(model, dataset, settings, seed=0, hooks=[Spoiler()])
    measured = [entry["validation_accuracy"] for entry in result.history]
    best = int(np.argmax(measured)) + 1
    assert best <= 2
    assert result.stopped_early
    assert result.epochs == best + 2
    assert accuracy(model, dataset.validation, device="cpu") == max(measured) > 25


@pytest.mark.parametrize("rate", [1e10, 1e30])
def test_a_loss_that_is_no_number_names_the_place(dataset, make_model, rate):
    settings = TrainSettings(epochs=2, batch_size=8, learning_rate=rate, schedule="constant", device="cpu")
    with pytest.raises(TrainingError, match=r"epoch \d, .*learning rate 1e\+.*lower \[train\] learning_rate") as caught:
        fit(make_model(), dataset, settings, seed=0)
    assert "\n" not in str(caught.value)


def test_weights_that_break_in_the_last_step_are_seen(make_dataset, make_model, tmp_path):
    class Breaker(Hook):
        def penalty(self, model):
            return None

        def after_step(self, model, learning_rate):
            model.linear.bias.data[0] = float("inf")

    settings = TrainSettings(epochs=1, batch_size=8, device="cpu")
    with pytest.raises(TrainingError, match=r"linear\.bias is not finite at the end of epoch 1"):
        fit(make_model(), make_dataset(train=8), settings, seed=0, hooks=[Breaker()], checkpoint=tmp_path / "state")
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("changes", "sizes", "message"),
    [
        ({}, {"train": 0}, "no training images"),
        ({"early_stop_epochs": 2}, {"validation": 0}, "early_stop_epochs needs validation images"),
        ({"distill": DistillSettings()}, {}, "given together or not at all; got no teacher"),
        ({"nesterov": True, "momentum": 0.0}, {}, "nesterov needs SGD with momentum"),
        ({"nesterov": True, "optimizer": "adamw"}, {}, "nesterov needs SGD with momentum"),
    ],
)
def test_settings_that_do_not_fit_are_refused(make_dataset, make_model, settings, changes, sizes, message):
    with pytest.raises(CompressError, match=message):
        fit(make_model(), make_dataset(**sizes), settings.model_copy(update=changes), seed=0)


def test_a_network_that_does_not_fit_is_refused(dataset, make_model, settings):
    with pytest.raises(NetworkError, match="do not fit the classes; got 3; allowed: 4"):
        fit(make_model(classes=3), dataset, settings, seed=0)
    frozen = make_model().requires_grad_(False)
    with pytest.raises(TrainingError, match="no parameter to train"):
        fit(frozen, dataset, settings, seed=0)
    distilled = settings.model_copy(update={"distill": DistillSettings()})
    with pytest.raises(NetworkError, match="got 4, the teacher 5"):
        fit(make_model(), dataset, distilled, seed=0, teacher=make_model(classes=5))


def test_no_validation_images_are_no_hindrance(make_dataset, make_model, settings):
    result = fit(make_model(), make_dataset(validation=0), settings, seed=0)
    assert [entry["validation_accuracy"] for entry in result.history] == [None] * 3


def test_data_errors_pass_through(dataset, make_model, settings):
    def broken(*_, **__):
        raise DataError("a broken image")
        yield

    dataset.train.batches = broken
    with pytest.raises(DataError, match="a broken image"):
        fit(make_model(), dataset, settings, seed=0)
