"""An interrupted training ends as an undisturbed one, bit for bit; a state that does not belong is not used."""

import numpy as np
import pytest
import torch

from compress.data.base import Augment
from compress.errors import ModelFileError, TrainingError
from compress.recipe import TrainSettings
from compress.train.hooks import Hook
from compress.train.loop import fit

AUGMENT = Augment(("flip",))


class InterruptionError(Exception):
    pass


def interrupt_at(epoch, step=2):
    def progress(report):
        if (report.epoch, report.step) == (epoch, step):
            raise InterruptionError

    return progress


def identical(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def without_times(history):
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in history]


class Memory(Hook):
    """A regularizer whose strength grows with every step."""

    def __init__(self):
        self.steps = torch.zeros(())

    def penalty(self, model):
        return 1e-3 * self.steps * model.linear.weight.square().sum()

    def after_step(self, model, learning_rate):
        self.steps += 1

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"].clone()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_resumed_training_is_the_undisturbed_one(dataset, make_model, tmp_path, optimizer, precision):
    settings = TrainSettings(
        epochs=5,
        batch_size=8,
        optimizer=optimizer,
        precision=precision,
        learning_rate=0.02,
        early_stop_epochs=4,
        device="cpu",
    )
    undisturbed, resumed = make_model(), make_model()
    expected = fit(undisturbed, dataset, settings, seed=7, augment=AUGMENT, hooks=[Memory()])
    path = tmp_path / "state.safetensors"
    for epoch in (1, 3, 4):
        model = make_model()
        with pytest.raises(InterruptionError):
            fit(
                model,
                dataset,
                settings,
                seed=7,
                augment=AUGMENT,
                hooks=[Memory()],
                checkpoint=path,
                progress=interrupt_at(epoch),
            )
        assert path.exists() == (epoch > 1)
    epochs_run = []
    got = fit(
        resumed,
        dataset,
        settings,
        seed=7,
        augment=AUGMENT,
        hooks=[Memory()],
        checkpoint=path,
        progress=lambda report: epochs_run.append(report.epoch),
    )
    assert sorted(set(epochs_run)) == [4, 5]
    assert identical(undisturbed, resumed)
    assert without_times(got.history) == without_times(expected.history)
    assert not list(tmp_path.glob(".*"))


def test_a_finished_training_is_not_run_again(dataset, make_model, settings, tmp_path):
    first, second = make_model(), make_model()
    fit(first, dataset, settings, seed=0, checkpoint=tmp_path / "state")
    epochs_run = []
    result = fit(second, dataset, settings, seed=0, checkpoint=tmp_path / "state", progress=epochs_run.append)
    assert epochs_run == []
    assert result.epochs == 3
    assert identical(first, second)


def test_an_early_stop_is_remembered(dataset, make_model, tmp_path):
    settings = TrainSettings(epochs=40, batch_size=8, learning_rate=0.05, early_stop_epochs=1, device="cpu")
    first, second = make_model(), make_model()
    expected = fit(first, dataset, settings, seed=0, checkpoint=tmp_path / "state")
    assert expected.stopped_early
    got = fit(second, dataset, settings, seed=0, checkpoint=tmp_path / "state")
    assert got == expected
    assert identical(first, second)


@pytest.mark.parametrize("change", ["settings", "seed", "weights", "augment", "data"])
def test_a_state_of_another_training_is_ignored(dataset, make_dataset, make_model, settings, tmp_path, change):
    path = tmp_path / "state"
    fit(make_model(), dataset, settings, seed=0, checkpoint=path)
    given = {
        "model": lambda: make_model(seed=1 if change == "weights" else 0),
        "dataset": make_dataset(train=48) if change == "data" else dataset,
        "settings": settings.model_copy(update={"learning_rate": 0.01}) if change == "settings" else settings,
        "seed": 1 if change == "seed" else 0,
        "augment": AUGMENT if change == "augment" else None,
    }
    fresh, ignoring = given["model"](), given["model"]()
    arguments = {"seed": given["seed"], "augment": given["augment"]}
    fit(fresh, given["dataset"], given["settings"], **arguments)
    fit(ignoring, given["dataset"], given["settings"], **arguments, checkpoint=path)
    assert identical(fresh, ignoring)


def test_a_damaged_state_says_to_delete_it(dataset, make_model, settings, tmp_path):
    path = tmp_path / "state"
    fit(make_model(), dataset, settings, seed=0, checkpoint=path)
    data = path.read_bytes()
    for broken in (b"", b"junk" * 40, data[:100], data[: len(data) // 2], data[:-1]):
        path.write_bytes(broken)
        with pytest.raises(ModelFileError) as caught:
            fit(make_model(), dataset, settings, seed=0, checkpoint=path)
        assert "\n" not in str(caught.value)
        assert not broken or "delete it" in str(caught.value)


def test_no_changed_byte_of_the_header_gives_a_traceback(dataset, make_model, settings, tmp_path):
    path = tmp_path / "state"
    short = settings.model_copy(update={"epochs": 1})
    fit(make_model(), dataset, short, seed=0, checkpoint=path)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    messages = []
    for place in rng.integers(0, 8 + int.from_bytes(data[:8], "little"), 60):
        changed = bytearray(data)
        changed[place] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        try:
            fit(make_model(), dataset, short, seed=0, checkpoint=path)
        except ModelFileError as error:
            messages.append(str(error))
    assert len(messages) > 20
    assert all("delete it" in message and "\n" not in message for message in messages)


def test_a_training_that_breaks_leaves_the_last_good_state(dataset, make_model, settings, tmp_path):
    class BreaksInEpochTwo(Hook):
        def __init__(self):
            self.epoch = 1

        def penalty(self, model):
            return model.linear.weight.sum() * float("nan") if self.epoch == 2 else None

        def after_epoch(self, model, epoch):
            self.epoch += 1

    path = tmp_path / "state"
    with pytest.raises(TrainingError, match="the loss is nan at epoch 2, step 1"):
        fit(make_model(), dataset, settings, seed=0, checkpoint=path, hooks=[BreaksInEpochTwo()])
    undisturbed, resumed = make_model(), make_model()
    fit(undisturbed, dataset, settings, seed=0)
    fit(resumed, dataset, settings, seed=0, checkpoint=path)
    assert identical(undisturbed, resumed)
