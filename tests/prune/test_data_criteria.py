"""Criteria that look at distances, feature maps, gradients and losses, on numbers that can be checked by hand."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from compress.errors import DataError
from compress.options import build
from compress.prune.activations import feature_maps
from compress.prune.criteria import criteria
from compress.prune.criteria.hrank import mean_rank
from compress.prune.criteria.pfa import spectrum_scores
from compress.prune.masks import ChannelMask
from compress.prune.problem import PruningProblem, Samples, sample_losses


class Small(nn.Module):
    """Four filters of one weight each on an image of 2 × 2, ReLU, a linear layer."""

    def __init__(self, weights, bias=(0, 0, 0, 0)):
        super().__init__()
        self.conv, self.out = nn.Conv2d(1, 4, 1), nn.Linear(4, 2)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor(weights).reshape(4, 1, 1, 1))
            self.conv.bias.copy_(torch.tensor(bias, dtype=torch.float32))
            self.out.weight.copy_(torch.tensor([[1.0, 2.0, 0.0, -1.0], [0.0, 1.0, 1.0, 1.0]]))

    def forward(self, x):
        return self.out(self.conv(x).relu().mean((2, 3)))


def problem_of(network, images, labels=None):
    labels = torch.zeros(len(images), dtype=torch.int64) if labels is None else labels
    return PruningProblem.of(network.eval(), tuple(images.shape[1:]), Samples(images, labels), 0)


def scores(name, problem, **options):
    (found,) = build(criteria, name, options).score(problem)
    return found.tolist()


IMAGES = torch.tensor([[[1.0, 2.0], [0.0, -1.0]], [[3.0, 1.0], [1.0, 1.0]]]).unsqueeze(1)


def test_fpgm_is_the_sum_of_distances():
    problem = problem_of(Small([0.0, 1.0, 3.0, 7.0]), IMAGES)
    assert scores("fpgm", problem) == pytest.approx([1 + 3 + 7, 1 + 2 + 6, 3 + 2 + 4, 7 + 6 + 4], rel=1e-6)


def test_fpgm_mix_takes_three_by_distance_and_one_by_norm():
    # Distances: 11, 9, 9, 17, so 1, 2 and 0 go first; then the least norm that is left: 3.
    problem = problem_of(Small([0.0, 1.0, 3.0, 7.0]), IMAGES)
    assert scores("fpgm-mix", problem) == [0.75, 0.25, 0.5, 1.0]

    class Eight(nn.Sequential):
        pass

    torch.manual_seed(0)
    network = Eight(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 1, 1), nn.Flatten())
    problem = problem_of(network, torch.randn(1, 1, 4, 4))
    (mixed,), (distance,), (norm,) = (
        build(criteria, name, {}).score(problem) for name in ("fpgm-mix", "fpgm", "filter-l2")
    )
    order = np.argsort(mixed)
    assert order[:3].tolist() == np.argsort(distance)[:3].tolist()
    assert order[3] == next(i for i in np.argsort(norm) if i not in order[:3])


def test_apoz_counts_what_is_not_zero_after_the_activation():
    # The pixels are 1 2 0 −1 and 3 1 1 1: of 8 values 6 are positive, 1 is negative, 1 is zero.
    problem = problem_of(Small([1.0, -1.0, 0.0, 2.0], bias=(0, 0, 0, 10)), IMAGES)
    assert scores("apoz", problem) == [6 / 8, 1 / 8, 0, 1]


def test_feature_maps_are_read_after_normalisation_and_activation():
    network = nn.Sequential(
        nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3, 2)
    )
    problem = problem_of(network, IMAGES)
    ((maps,),) = list(feature_maps(problem))
    with torch.no_grad():
        assert maps.values == pytest.approx(network[:3](IMAGES).numpy(), abs=1e-6)
    assert maps.unit.tolist() == [0, 1, 2]


def test_hrank_is_the_mean_rank():
    identity, one = np.eye(3), np.ones((3, 3))
    maps = np.array([[identity, one, one * 0], [identity, identity, one]])
    assert mean_rank(maps).tolist() == [3, 2, 0.5]
    assert mean_rank(maps.reshape(2, 3, 9)).tolist() == [1, 1, 0.5]


def test_pfa_drops_the_correlated_and_scores_by_the_spectrum():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 4000))
    a, b = a / a.std(), b / b.std()
    # 0 and 2 are the same response, 2 at twice the size; 3 never changes. Variances 1, 1, 4, 0.
    responses = np.stack([a, b, 2 * a, np.full(4000, 5.0)], axis=1)
    found = spectrum_scores(responses)
    # Eigenvalues 5, 1, 0, 0 of 6: the constant goes, then of the two that agree the smaller.
    assert np.argsort(found, kind="stable").tolist()[:2] in ([0, 3], [3, 0])
    assert found[3] == pytest.approx(0, abs=1e-9)
    assert found[0] == pytest.approx(0, abs=1e-9)
    assert sorted(found[[1, 2]]) == pytest.approx([1 / 6, 5 / 6], abs=0.02)


def test_taylor_of_weights_is_the_square_of_the_summed_products():
    network = Small([1.0, -1.0, 0.5, 2.0])
    labels = torch.tensor([0, 1])
    problem = problem_of(network, IMAGES, labels)
    found = scores("taylor", problem, batch=1)
    expected = np.zeros(4)
    for image, label in zip(IMAGES, labels, strict=True):
        network.zero_grad()
        nn.functional.cross_entropy(network(image[None]), label[None]).backward()
        expected += (network.conv.weight.grad * network.conv.weight).flatten().detach().numpy() ** 2 / 2
    assert found == pytest.approx(expected, rel=1e-5)
    assert scores("taylor", problem, batch=2) != pytest.approx(expected, rel=1e-3)


def test_taylor_of_activations_is_that_of_the_maps_themselves():
    network = Small([1.0, -1.0, 0.5, 2.0])
    problem = problem_of(network, IMAGES, torch.tensor([0, 1]))
    expected = np.zeros(4)
    for image, label in zip(IMAGES, (0, 1), strict=True):
        maps = network.conv(image[None]).relu().detach().requires_grad_()
        nn.functional.cross_entropy(network.out(maps.mean((2, 3))), torch.tensor([label])).backward()
        expected += np.abs((maps.grad * maps).sum((0, 2, 3)).detach().numpy()) / 2
    found = scores("taylor", problem, of="activations")
    assert found == pytest.approx(expected / np.linalg.norm(expected), rel=1e-5)


def test_loss_increase_is_what_a_mask_does():
    network = Small([1.0, -1.0, 0.5, 2.0], bias=(0.1, 3, 0, 0))
    problem = problem_of(network, IMAGES, torch.tensor([0, 1]))
    before = sample_losses(network, IMAGES, problem.samples.labels).mean().item()
    expected = []
    for unit in range(4):
        keep, masked = np.ones(4, dtype=bool), copy.deepcopy(network)
        keep[unit] = False
        ChannelMask(problem.groups, keep).apply(masked)
        expected.append(sample_losses(masked, IMAGES, problem.samples.labels).mean().item() - before)
    assert any(value < 0 for value in expected)
    assert scores("loss-increase", problem) == pytest.approx(expected, abs=1e-6)
    assert scores("loss-increase", problem, absolute=True) == pytest.approx(np.abs(expected), abs=1e-6)
    assert math.isfinite(before)


@pytest.mark.parametrize("name", ["apoz", "hrank", "pfa", "taylor", "loss-increase"])
def test_without_images_they_say_what_they_lack(name):
    problem = PruningProblem.of(Small([1.0, 2.0, 3.0, 4.0]).eval(), (1, 2, 2), None, 0)
    with pytest.raises(DataError, match="looks at training images"):
        build(criteria, name, {}).score(problem)
