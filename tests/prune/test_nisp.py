"""Importance of the final responses, on numbers that can be checked by hand."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from compress.errors import DataError, NetworkError
from compress.options import build
from compress.prune.criteria import criteria
from compress.prune.criteria.nisp import infinite_feature_selection
from compress.prune.problem import PruningProblem, Samples


def problem_of(network, shape, count=12):
    images = torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))
    return PruningProblem.of(network.eval(), shape, Samples(images, torch.zeros(count, dtype=torch.int64)), 0)


def scores(problem, **options):
    return build(criteria, "nisp", options).score(problem)


def test_inf_fs_sums_paths_of_all_lengths():
    # Deviations 1 and ½; the second falls where the first rises, so they are alike, |ρ| = 1.
    responses = np.array([[-1.0, 0.5], [1, -0.5], [-1, 0.5], [1, -0.5]])
    affinity = 0.5 * np.array([[1, 1], [1, 0.5]])
    radius = np.linalg.eigvalsh(affinity).max()
    total, power = np.zeros(2), np.eye(2)
    for _ in range(400):
        power = power @ affinity * (0.9 / radius)
        total += power.sum(axis=1)
    found = infinite_feature_selection(responses, 0.5, 0.9)
    assert found == pytest.approx(total)
    assert found[0] > found[1]
    # α = 0 leaves difference alone: the third is like none of the others.
    third = np.column_stack([responses, [1.0, 1, -1, -1]])
    found = infinite_feature_selection(third, 0.0, 0.9)
    assert found[2] > found[0] == pytest.approx(found[1])
    assert infinite_feature_selection(np.ones((4, 3)), 0.5, 0.9).tolist() == [1, 1, 1]


def test_importance_goes_back_through_the_magnitudes():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(4, 2), nn.Tanh(), nn.Linear(2, 2, bias=False), nn.ReLU(inplace=True), nn.Linear(2, 2)
    )
    with torch.no_grad():
        network[3].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 0.0]]))
    problem = problem_of(network, (1, 2, 2))
    first, second = scores(problem)
    responses = network[:5](problem.samples.images).detach().numpy().astype(np.float64)
    assert second == pytest.approx(infinite_feature_selection(responses, 0.5, 0.9), rel=1e-5)
    assert first == pytest.approx([second[0] + 3 * second[1], 2 * second[0]])
    assert scores(problem, alpha=0.1)[1] != pytest.approx(second, rel=1e-2)
    assert scores(problem, factor=0.5)[1] != pytest.approx(second, rel=1e-2)


def test_normalisation_scales_and_pooling_shares():
    network = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, eps=0), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 1, 2, bias=False)
    )
    network = nn.Sequential(*network, nn.Flatten(), nn.Linear(1, 2))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([-3.0, 1.0]))
        network[1].running_var.copy_(torch.tensor([4.0, 1.0]))
        network[4].weight.copy_(torch.tensor([[[[1.0, -1], [2, 0]], [[0.0, 0], [0, -5]]]]))
    (first,) = scores(problem_of(network, (1, 4, 4)))
    # One final response: 1 / (1 − 0.9) − 1. |γ| / √v = 1.5 and 1; a tap is shared by four pixels, which add up to it.
    assert first == pytest.approx(9 * np.array([1.5 * 4, 5]))


class Sum(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1), nn.Linear(2, 2)
        with torch.no_grad():
            self.b.weight.copy_(torch.tensor([[2.0, 0.0], [-1.0, 0.5]]).reshape(2, 2, 1, 1))

    def forward(self, x):
        x = self.a(x)
        return self.out((x + self.b(x)).mean((2, 3)))


def test_a_stream_has_the_responses_of_all_that_add_to_it():
    problem = problem_of(Sum(), (1, 2, 2))
    with torch.no_grad():
        network = copy.deepcopy(problem.network)
        maps = network.a(problem.samples.images)
        final = infinite_feature_selection((maps + network.b(maps)).mean((2, 3)).double().numpy(), 0.5, 0.9)
    (stream,) = scores(problem)
    at_a = final + np.array([2 * final[0] + final[1], 0.5 * final[1]])
    assert stream == pytest.approx(at_a + final, rel=1e-4)


def test_products_of_responses_are_refused():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.gate, self.out = nn.Conv2d(1, 4, 1), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            x = self.a(x)
            x = x * torch.sigmoid(self.gate(x.mean((2, 3))))[:, :, None, None]
            return self.out(x.mean((2, 3)))

    with pytest.raises(NetworkError, match="multiplies or normalises responses"):
        scores(problem_of(Gate(), (1, 3, 3)))


def test_without_images_it_says_what_it_lacks():
    with pytest.raises(DataError, match="looks at training images"):
        scores(PruningProblem.of(Sum().eval(), (1, 2, 2), None, 0))
