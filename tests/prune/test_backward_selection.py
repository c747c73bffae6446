"""Backward selection against algorithm 1 written down as it stands."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from compress.errors import NetworkError
from compress.prune import ChannelMask, trial
from compress.prune.problem import PruningProblem, Samples, sample_losses
from compress.prune.replay import Replay
from compress.prune.search import backward_selection
from compress.prune.search.backward_selection import BackwardSelection
from compress.recipe import PruneSettings


def naive(problem, may_go, steps):
    """Every candidate, every sample, the whole masked network; lowest loss, then lowest number."""
    keep, order, losses = np.ones(problem.groups.size, dtype=bool), [], []
    for _ in range(steps):
        tried = {}
        for unit in np.flatnonzero(keep & may_go):
            stratum = next(s for s in problem.strata if unit in s.units)
            if keep[stratum.units].sum() == 1:
                continue
            without = keep.copy()
            without[unit] = False
            network = copy.deepcopy(problem.network)
            ChannelMask(problem.groups, without).apply(network)
            tried[int(unit)] = sample_losses(network, problem.samples.images, problem.samples.labels).mean().item()
        best = min(tried, key=lambda unit: (tried[unit], unit))
        keep[best] = False
        order.append(best)
        losses.append(tried[best])
    return order, losses


@pytest.mark.parametrize("last", [False, True])
def test_order_is_that_of_the_naive_algorithm(problem, last):
    found = BackwardSelection(last=last).choose(problem, PruneSettings(ratio=0.45, of="channels"))
    may_go = ~backward_selection._last_convolution(problem) | last
    order, losses = naive(problem, may_go, len(found.details["order"]))
    assert len(order) > 5
    assert list(found.details["order"]) == order
    np.testing.assert_allclose(found.details["losses"], losses, rtol=1e-5)
    assert np.flatnonzero(~found.keep).tolist() == sorted(order)


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_order_does_not_depend_on_the_shortcuts(problem_of, monkeypatch, chunk):
    """Chunks, hints and compaction may change what is computed, not what is found."""
    problem = problem_of("residual-b")
    settings = PruneSettings(ratio=0.45, of="channels")
    expected = tuple(BackwardSelection().choose(problem, settings).details["order"])
    monkeypatch.setattr(trial, "_CHUNK", chunk)
    monkeypatch.setattr(trial, "_COMPACT_BELOW", 2.0 if chunk == 7 else 0.0)
    assert tuple(BackwardSelection().choose(problem, settings).details["order"]) == expected


def test_equal_losses_fall_by_number(problem_of):
    """Channels that are dead already cost nothing: they go first, the lowest number first."""
    problem = problem_of("residual-b")
    keep = np.ones(problem.groups.size, dtype=bool)
    dead = [5, 7, 10, 12]
    keep[dead] = False
    network = copy.deepcopy(problem.network)
    ChannelMask(problem.groups, keep).apply(network)
    harmless = dataclasses.replace(problem, network=network)
    found = BackwardSelection().choose(harmless, PruneSettings(ratio=0.3, of="channels"))
    baseline = sample_losses(network, problem.samples.images, problem.samples.labels).mean().item()
    kept = [
        unit
        for unit, loss in zip(found.details["order"], found.details["losses"], strict=True)
        if loss == pytest.approx(baseline)
    ]
    assert [unit for unit in found.details["order"] if unit in dead] == sorted(set(dead) & set(found.details["order"]))
    assert all(unit in dead for unit in kept)


def test_rejecting_early_saves_work(problem_of, monkeypatch):
    problem = problem_of("residual-b")
    images = []
    run = Replay.run

    def counted(self, *arguments):
        outputs = run(self, *arguments)
        images.append(len(outputs))
        return outputs

    monkeypatch.setattr(Replay, "run", counted)
    monkeypatch.setattr(trial, "_CHUNK", 4)
    found = BackwardSelection().choose(problem, PruneSettings(ratio=0.3, of="channels"))
    assert sum(images) < 0.8 * found.details["evaluations"] * len(problem.samples.images)


def test_what_computes_a_candidate_is_not_computed_again(problem_of, monkeypatch):
    """Whoever reads the channel leaves it out: that is all that changes."""
    problem = problem_of("residual-b")
    unit = next(
        int(start)
        for group, start in zip(problem.groups.groups, problem.groups.offsets[:-1], strict=True)
        if group.producers[0].parameter == "conv1.weight"
    )
    tried = trial.UnitTrial(problem, np.ones(problem.groups.size, dtype=bool))
    tried.replay.record(tried.images)
    computed = []
    forward = nn.Conv2d._conv_forward
    monkeypatch.setattr(nn.Conv2d, "_conv_forward", lambda self, *rest: computed.append(self) or forward(self, *rest))
    losses = tried._losses(unit, tried.images, tried.labels, float("inf"))
    network = tried.replay.network
    assert network.conv2 in computed
    assert network.conv1 not in computed
    assert network.stem[0] not in computed
    keep = np.ones(problem.groups.size, dtype=bool)
    keep[unit] = False
    masked = copy.deepcopy(problem.network)
    ChannelMask(problem.groups, keep).apply(masked)
    torch.testing.assert_close(losses, sample_losses(masked, tried.images, tried.labels), rtol=1e-5, atol=1e-6)


def test_the_hardest_samples_come_first(problem_of, monkeypatch):
    problem = problem_of("residual-b")
    first = []
    record = Replay.record
    monkeypatch.setattr(Replay, "record", lambda self, images: (first.append(images[0]), record(self, images))[1])
    BackwardSelection().choose(problem, PruneSettings(ratio=0.05, of="channels"))
    losses = sample_losses(problem.network, problem.samples.images, problem.samples.labels)
    assert torch.equal(first[0], problem.samples.images[losses.argmax()])


def test_the_last_convolution_is_left_alone_unless_asked_for(problem_of):
    problem = problem_of("residual-b")
    last = backward_selection._last_convolution(problem)
    assert last.sum() == 8
    settings = PruneSettings(ratio=0.4, of="parameters")
    assert BackwardSelection().choose(problem, settings).keep[last].all()
    assert not BackwardSelection(last=True).choose(problem, settings).keep[last].all()


def test_minimum_and_rounding_hold(problem_of):
    problem = problem_of("plain")
    settings = PruneSettings(ratio=0.4, of="parameters", round_to=2, minimum_channels=3)
    found = BackwardSelection(last=True).choose(problem, settings)
    for stratum in problem.strata:
        count = int(found.keep[stratum.units].sum())
        assert count == stratum.units.size or (count % 2 == 0 and count >= 4)
    assert problem.cost(found.keep).parameters <= 0.6 * problem.cost.everything().parameters


def test_an_unreachable_ratio_is_told_before_the_search(problem_of):
    with pytest.raises(NetworkError, match=r"ratio 0\.99 of macs cannot be reached: at most 0\.\d+ can go"):
        BackwardSelection().choose(problem_of("plain"), PruneSettings(ratio=0.99))


def test_a_network_that_loses_its_numbers_is_refused(problem_of):
    problem = problem_of("residual-b")
    network = copy.deepcopy(problem.network)
    with torch.no_grad():
        network.linear.bias.fill_(float("nan"))
    with pytest.raises(NetworkError, match="loss on the samples is not a number"):
        BackwardSelection().choose(dataclasses.replace(problem, network=network), PruneSettings(ratio=0.1))


class FixedSizes(nn.Module):
    """A forward() that names a channel count: it can be masked, not compacted."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3), nn.Conv2d(6, 6, 1)
        self.out = nn.Linear(6 * 16, 3)

    def forward(self, x):
        x = torch.relu(self.b(torch.relu(self.a(x)).reshape(-1, 6, 6, 6)))
        return self.out(torch.relu(self.c(x)).reshape(-1, 96))


def test_a_network_with_fixed_sizes_is_searched_by_masks():
    torch.manual_seed(0)
    network = FixedSizes().eval()
    samples = Samples(torch.randn(16, 3, 8, 8), torch.arange(16) % 3)
    problem = PruningProblem.of(network, (3, 8, 8), samples, 0)
    found = BackwardSelection().choose(problem, PruneSettings(ratio=0.5, of="macs"))
    order, _ = naive(problem, ~backward_selection._last_convolution(problem), len(found.details["order"]))
    assert list(found.details["order"]) == order
    assert problem.cost(found.keep).macs < 0.75 * problem.cost.everything().macs


def calls_of(network, name):
    counted = []
    network.get_submodule(name).register_forward_hook(lambda *_: counted.append(1))
    return counted


@pytest.mark.parametrize("name", ["residual-a", "residual-b", "plain"])
def test_replay_equals_the_whole_network(problem_of, name):
    problem = problem_of(name)
    images = problem.samples.images.double()
    for parameter in [p for p in problem.parameters if p.endswith("weight")]:
        network, plain = copy.deepcopy(problem.network).double(), copy.deepcopy(problem.network).double()
        replay = Replay(network, images[:2], [[parameter]])
        replay.record(images)
        for changed in (network, plain):
            with torch.no_grad():
                changed.get_parameter(parameter).mul_(1.5)
        with torch.no_grad():
            expected = plain(images)
        for samples in (slice(0, 9), slice(9, 24), slice(0, 9)):
            torch.testing.assert_close(
                replay.run(images, samples, replay.starts[0]), expected[samples], rtol=0, atol=1e-10
            )


def test_replay_runs_only_what_comes_after(problem_of):
    network = copy.deepcopy(problem_of("residual-b").network)
    images = problem_of("residual-b").samples.images
    counts = {name: calls_of(network, name) for name in ("stem.0", "conv1", "conv3", "conv4", "shortcut.0")}
    replay = Replay(network, images[:2], [["conv3.weight", "bn3.weight"], ["conv1.weight"]])
    replay.record(images)
    for counted in counts.values():
        counted.clear()
    replay.run(images, slice(0, 4), replay.starts[0])
    # A hook on a call that is replayed runs too; what was inside it does not.
    assert [len(counts[name]) for name in ("stem.0", "conv3", "conv4", "shortcut.0")] == [0, 1, 1, 1]


class Doubled(nn.Module):
    """Changes its input in place, and what is then in it is not what a second run would leave."""

    def forward(self, x):
        return x.mul_(2)


class InPlace(nn.Module):
    """A recorded output that is overwritten later, and one that is used again after it was overwritten."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
        self.twice = Doubled()

    def forward(self, x):
        x = self.a(x)
        y = self.b(self.twice(x))
        return self.c(y.add_(1) + x)


@pytest.mark.parametrize("changed", ["a.weight", "b.weight", "c.weight"])
def test_replay_minds_modules_that_work_in_place(changed):
    torch.manual_seed(0)
    network = InPlace().double()
    plain = copy.deepcopy(network)
    inputs = torch.randn(6, 3, dtype=torch.float64)
    replay = Replay(network, inputs[:2], [[changed]])
    replay.record(inputs)
    with torch.no_grad():
        network.get_parameter(changed).add_(1)
        plain.get_parameter(changed).add_(1)
        expected = plain(inputs)
    for _ in range(2):
        torch.testing.assert_close(replay.run(inputs, slice(2, 6), replay.starts[0]), expected[2:])


class Unruly(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2))

    def forward(self, x):
        return self.first(self.second(x)) if x.sum() > 0 else self.second(self.first(x))


def test_replay_refuses_a_network_that_changes_its_order():
    replay = Replay(Unruly(), torch.ones(1, 2), [["first.weight"]])
    replay.record(torch.ones(3, 2))
    with pytest.raises(NetworkError, match="another order"):
        replay.run(-torch.ones(3, 2), slice(0, 3), 0)
