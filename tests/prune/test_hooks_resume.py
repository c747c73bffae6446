"""Regularizers with a memory or parameters of their own: an interrupted training ends as an undisturbed one."""

import numpy as np
import pytest
import torch
from torch import nn

from compress.channels.groups import Groups
from compress.channels.trace import trace
from compress.data.base import Dataset, Split
from compress.errors import TrainingError
from compress.options import build
from compress.prune.regularizers import regularizers
from compress.recipe import TrainSettings
from compress.torch_graph import trace_network
from compress.train.loop import fit
from compress.train.weights import read_tensors


class Fake(Split):
    """Images whose brightest quarter is their class, with noise."""

    def __init__(self, count, seed):
        rng = np.random.default_rng(seed)
        self.labels = np.arange(count, dtype=np.int64) % 4
        self.images = rng.normal(0, 0.3, (count, 1, 4, 4)).astype(np.float32)
        self.images[np.arange(count), 0, self.labels] += 1

    def __len__(self):
        return len(self.labels)

    def batches(self, batch_size, *, rng=None, augment=None):
        order = np.arange(len(self)) if rng is None else rng.permutation(len(self))
        for start in range(0, len(self), batch_size):
            yield self.images[order[start : start + batch_size]], self.labels[order[start : start + batch_size]]

    def take(self, count, rng):
        raise NotImplementedError


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.more, self.linear = nn.Conv2d(8, 6, 3), nn.Linear(24, 4)

    def forward(self, x):
        return self.linear(self.more(self.bn(self.conv(x)).relu()).relu().flatten(1))


def make_net():
    torch.manual_seed(0)
    return Net()


@pytest.fixture(scope="module")
def groups():
    traced = trace_network(make_net(), (1, 4, 4))
    return Groups(trace(traced.graph, fold=False), traced.parameters)


DATASET = Dataset("fake", Fake(40, 0), Fake(16, 1), Fake(16, 2), 4, (1, 4, 4))
SETTINGS = TrainSettings(epochs=5, batch_size=8, learning_rate=0.02, device="cpu")


class InterruptionError(Exception):
    pass


def interrupt(report):
    if (report.epoch, report.step) == (4, 2):
        raise InterruptionError


@pytest.mark.parametrize(
    ("name", "strength", "options"),
    [
        ("l0", 1e-3, {}),
        ("sss", 5.0, {}),
        ("admm", 0.1, {}),
        ("increg", 1.0, {"epsilon": 0.9}),
        ("group-brain-damage", 0.1, {"threshold": 0.5, "drop": 10.0}),
        ("filter-skeleton", 1.0, {"threshold": 0.9}),
        ("dropout", 1.0, {}),
        ("dropconnect", 1.0, {}),
    ],
)
def test_a_resumed_training_is_the_undisturbed_one(name, strength, options, groups, tmp_path):
    def hook():
        return build(regularizers, name, options).bind(make_net(), groups, strength)

    undisturbed, interrupted, resumed = make_net(), make_net(), make_net()
    names = list(undisturbed.state_dict())
    fit(undisturbed, DATASET, SETTINGS, seed=7, hooks=[hook()])
    path = tmp_path / "state"
    with pytest.raises(InterruptionError):
        fit(interrupted, DATASET, SETTINGS, seed=7, hooks=[hook()], checkpoint=path, progress=interrupt)
    assert list(interrupted.state_dict()) == names
    stored = read_tensors(path, "state")[0]
    seen = []
    fit(
        resumed,
        DATASET,
        SETTINGS,
        seed=7,
        hooks=[hook()],
        checkpoint=path,
        progress=lambda report: seen.append(report.epoch),
    )
    assert set(seen) == {4, 5}
    assert list(resumed.state_dict()) == names
    assert all(torch.equal(tensor, resumed.state_dict()[n]) for n, tensor in undisturbed.state_dict().items())
    assert any("parametrizations" in n for n in stored) == (name in ("l0", "sss", "filter-skeleton", "dropconnect"))
    if name in ("sss", "increg", "group-brain-damage", "filter-skeleton"):
        assert any((weight == 0).any() for weight in undisturbed.parameters())


def test_brain_damage_needs_a_hold_out(groups):
    dataset = Dataset("fake", Fake(40, 0), Fake(0, 1), Fake(16, 2), 4, (1, 4, 4))
    hook = build(regularizers, "group-brain-damage", {}).bind(make_net(), groups, 0.1)
    with pytest.raises(TrainingError, match="validation above 0"):
        fit(make_net(), dataset, SETTINGS, seed=0, hooks=[hook])
