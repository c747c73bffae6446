"""Criteria on numbers that can be checked by hand."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from compress.errors import NetworkError
from compress.prune.criteria.bn_scale import BatchNormScale
from compress.prune.criteria.filter_norm import FilterL1, FilterL2
from compress.prune.criteria.random import Random
from compress.prune.problem import PruningProblem, Samples


class Hand(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.bn = nn.Conv2d(1, 2, (1, 2), bias=False), nn.BatchNorm2d(2)
        self.b = nn.Conv2d(2, 2, 1, bias=False)
        self.c = nn.Conv2d(2, 2, 1, bias=False)
        self.out = nn.Linear(2, 2)

    def forward(self, x):
        x = self.bn(self.a(x))
        return self.out((self.b(x) + self.c(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def hand():
    network = Hand()
    with torch.no_grad():
        network.a.weight.copy_(torch.tensor([[3.0, -4.0], [0.0, 2.0]]).reshape(2, 1, 1, 2))
        network.bn.weight.copy_(torch.tensor([-0.5, 0.25]))
        network.b.weight.copy_(torch.tensor([[1.0, -1.0], [0.0, 2.0]]).reshape(2, 2, 1, 1))
        network.c.weight.copy_(torch.tensor([[6.0, 0.0], [-3.0, 3.0]]).reshape(2, 2, 1, 1))
    samples = Samples(torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64))
    return PruningProblem.of(network, (1, 4, 4), samples, 0, exclude=["b", "c"])


def test_filter_l1_sums_absolute_weights_over_all_producers(hand):
    first, coupled = FilterL1().score(hand)
    assert first.tolist() == [7, 2]
    assert coupled.tolist() == [2 + 6, 2 + 6]


def test_filter_l1_normalised_divides_by_the_layers_mean_and_averages_producers(hand):
    first, coupled = FilterL1(normalise=True).score(hand)
    np.testing.assert_allclose(first, [7 / 4.5, 2 / 4.5])
    np.testing.assert_allclose(coupled, [1, 1])


def test_filter_l2_is_the_root_of_the_squares(hand):
    first, coupled = FilterL2().score(hand)
    np.testing.assert_allclose(first, [5, 2])
    np.testing.assert_allclose(coupled, [np.sqrt(2) + 6, 2 + np.sqrt(18)])
    np.testing.assert_allclose(FilterL2(normalise=True).score(hand)[0], [5 / 3.5, 2 / 3.5])


def test_bn_scale_is_the_magnitude_of_gamma(hand):
    first, coupled = BatchNormScale().score(hand)
    assert first.tolist() == [0.5, 0.25]
    assert coupled.tolist() == [0, 0]


def test_bn_scale_names_the_group_without_batch_norm(problem_of):
    with pytest.raises(NetworkError, match="channel group 'first' has no BatchNorm scale"):
        BatchNormScale().score(problem_of("plain"))


def test_random_depends_on_the_seed(hand):
    same, other = (np.concatenate(Random().score(dataclasses.replace(hand, seed=s))) for s in (0, 1))
    assert (np.concatenate(Random().score(hand)) == same).all()
    assert (same != other).any()
