"""What may go, and what stays because the recipe says so."""

import numpy as np
import pytest
import torch
from torch import nn

from compress.errors import DataError, NetworkError
from compress.prune.problem import PruningProblem, Samples, places


def stays(problem):
    split = problem.groups.split(problem.prunable)
    return {g.name: not may_go.any() for g, may_go in zip(problem.groups.groups, split, strict=True)}


def test_excluded_parameters_keep_their_units(problem_of):
    problem = problem_of("plain", exclude=("hidden",))
    # It reads both branches of the concatenation and produces the hidden units.
    assert stays(problem) == {"first": False, "left": True, "right": True, "hidden": True}
    problem = problem_of("plain", exclude=("right.bias",))
    assert stays(problem) == {"first": False, "left": False, "right": True, "hidden": False}


def test_an_unknown_name_in_exclude_is_told_with_the_nearest(problem_of):
    with pytest.raises(NetworkError, match=r"exclude: no parameter .* 'rigth'; next: did you mean 'right'"):
        problem_of("plain", exclude=("rigth",))
    with pytest.raises(NetworkError, match="'righ'"):
        problem_of("plain", exclude=("righ",))


def test_without_coupling_only_units_of_one_producer_go(problem_of):
    assert stays(problem_of("residual-b", couple=False)) == {
        "stem.0": True,
        "conv1": False,
        "conv3": False,
        "conv4": True,
    }
    # A depthwise convolution is no second producer.
    assert not any(stays(problem_of("plain", couple=False)).values())


def test_strata_hold_units_of_the_same_layers(problem_of):
    problem = problem_of("residual-a")
    sizes = {(problem.groups.groups[s.group].name, s.units.size) for s in problem.strata}
    # The stream has 8 channels in its second stage: 4 are those of the first, 2 and 2 lie before and after them.
    assert sizes == {("stem.0", 4), ("stem.0", 2), ("conv1", 5), ("conv3", 6)}
    assert sorted(np.concatenate([s.units for s in problem.strata])) == list(range(problem.groups.size))
    coupled = [s for s in problem.strata if problem.groups.groups[s.group].name == "stem.0"]
    stem = next(place for place in places(problem.groups) if place.parameter == "stem.0.weight")
    assert any(set(stem.unit) == set(s.units) for s in coupled)


def test_roles_are_found_by_name(problem_of):
    problem = problem_of("plain")
    left = next(group for group in problem.groups.groups if group.name == "left")
    assert [m.parameter for m in problem.members(left, "out")] == ["left.weight"]
    assert [m.parameter for m in problem.members(left, "shift")] == ["left.bias"]
    (reader,) = problem.members(left, "in")
    # Each of 4 channels is 4×4 = 16 positions of the flattened input; each position is read by 7 hidden units.
    assert problem.per_unit(left, reader, np.ones((7, 144))).tolist() == [16 * 7] * 4


def test_the_users_network_is_copied():
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2 * 64, 2)).train()
    samples = Samples(torch.zeros(1, 3, 8, 8), torch.zeros(1, dtype=torch.int64))
    problem = PruningProblem.of(network, (3, 8, 8), samples, 0)
    assert problem.network is not network
    assert network.training
    assert not problem.network.training


def test_a_network_without_channels_is_refused():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    samples = Samples(torch.zeros(1, 3, 2, 2), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(NetworkError, match="no channel of this network can go"):
        PruningProblem.of(network, (3, 2, 2), samples, 0)


def test_samples_must_match():
    with pytest.raises(DataError, match="3 images, labels of shape"):
        Samples(torch.zeros(3, 1, 2, 2), torch.zeros(2, dtype=torch.int64))


class TokenMixer(nn.Module):
    """Tokens through two linear layers, whose weights the exporter transposes: they are read by MatMul."""

    def __init__(self):
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 16, 4, 4), nn.LayerNorm(16)
        self.up, self.down, self.head = nn.Linear(16, 32), nn.Linear(32, 16), nn.Linear(16, 10)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + self.down(nn.functional.gelu(self.up(self.norm(x))))
        return self.head(x.mean(1))


def test_weights_behind_a_transposition_are_found_under_their_own_names():
    problem = PruningProblem.of(TokenMixer(), (3, 8, 8), None, 0)
    (hidden,) = problem.groups.groups
    roles = {(member.parameter, member.axis): member.role for member in hidden.members}
    assert roles == {("up.weight", 0): "out", ("up.bias", 0): "other", ("down.weight", 1): "in"}
    # Four tokens: patches 48·16, up and down 16·32 each; the head once 16·10.
    assert problem.cost.everything().macs == 4 * (48 * 16 + 2 * 16 * 32) + 160
    half = problem.cost(np.arange(32) < 16)
    assert half.macs == 4 * (48 * 16 + 16 * 32) + 160
