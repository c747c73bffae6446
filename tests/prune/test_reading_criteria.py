"""Criteria that look at what the next layer reads, on numbers that can be checked by hand; and what they rebuild."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from compress.errors import DataError, NetworkError
from compress.options import build
from compress.prune.criteria import criteria
from compress.prune.criteria.lasso_channel import entries
from compress.prune.criteria.obs import updated
from compress.prune.criteria.thinet import greedy_errors
from compress.prune.driver import result_of
from compress.prune.problem import PruningProblem, Samples
from compress.prune.readings import columns, layer_of
from compress.prune.refitting import moments
from compress.recipe import PruneSettings

CHANNELS = ["thinet", "lasso-channel", "activity-variance"]


class Two(nn.Module):
    """Two channels that are x and 2x; y = x + 2x and y = 2x."""

    def __init__(self):
        super().__init__()
        self.first, self.out = nn.Conv2d(1, 2, 1, bias=False), nn.Conv2d(2, 2, 1, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1))
            self.out.weight.copy_(torch.tensor([[1.0, 1.0], [0.0, 1.0]]).reshape(2, 2, 1, 1))

    def forward(self, x):
        return self.out(self.first(x)).mean((2, 3))


IMAGES = torch.tensor([[[1.0, 2.0], [0.0, -1.0]], [[3.0, 1.0], [1.0, 1.0]]]).unsqueeze(1)


@pytest.fixture(scope="module")
def two():
    return PruningProblem.of(Two().eval(), (1, 2, 2), Samples(IMAGES, torch.tensor([0, 1])), 0)


def test_thinet_takes_what_adds_least_to_the_error_of_all_that_has_gone():
    # Contributions of four channels to three outputs.
    parts = np.array([[3.0, 0, 0], [-3, 0, 1], [0, 2, 0], [0, 0, 4]])
    found = greedy_errors(parts @ parts.T)
    # 2 goes first, error 4; with it 0 makes 9 + 4; 1 cancels that to 4 + 1, yet goes after it; at last 3: 4 + 25.
    assert found == pytest.approx([13, 13, 4, 29])
    assert np.argsort(found).tolist() == [2, 0, 1, 3]


def test_thinet_scales_the_channel_that_stays(two):
    (scores,) = build(criteria, "thinet", {}).score(two)
    # Contributions are x, 0 and 2x, 2x of outputs 3x, 2x: 1 and 8 of 13.
    assert scores == pytest.approx([1 / 13, 1])
    values = build(criteria, "thinet", {}).reconstruct(two, np.array([False, True]))
    # (3x, 2x) ≈ s (2x, 2x): s = (6 + 4) / 8.
    assert values["out.weight"].reshape(2, 2) == pytest.approx(np.array([[0, 1.25], [0, 1.25]]), rel=1e-5)


def test_lasso_drops_channels_as_lambda_rises():
    # Apart from each other, β_c = max(0, 1 − λ / g_c).
    assert entries(np.diag([4.0, 1, 9]), np.array([4.0, 1, 9])) == pytest.approx([4, 1, 9])
    # The second is half the first: (1 + ½) of the first does for both.
    assert entries(np.array([[4.0, 2], [2, 1]]), np.array([6.0, 3])) == pytest.approx([6, 0])


def test_lasso_channel_refits_the_next_layer(two):
    values = build(criteria, "lasso-channel", {}).reconstruct(two, np.array([False, True]))
    # 3x and 2x from 2x alone, exactly.
    assert values["out.weight"].reshape(2, 2) == pytest.approx(np.array([[0, 1.5], [0, 1]]), rel=1e-5)


def test_activity_variance_is_that_of_the_contributions_norm(two):
    (scores,) = build(criteria, "activity-variance", {}).score(two)
    # ‖x‖ of the two images is √6 and √12, their variance (√12 − √6)² / 4; the contributions are x, 0 and 2x, 2x.
    variance = (12**0.5 - 6**0.5) ** 2 / 4
    assert scores == pytest.approx([variance / 2, 4 * variance])


def test_activity_variance_of_a_padded_strided_convolution():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Conv2d(3, 5, 3, 2, padding=2, dilation=2), nn.Flatten())
    images = torch.randn(20, 1, 6, 6)
    problem = PruningProblem.of(network, (1, 6, 6), Samples(images, torch.zeros(20, dtype=torch.int64)), 0)
    (scores,) = build(criteria, "activity-variance", {}).score(problem)
    with torch.no_grad():
        maps = network[:2](images)
        for channel in range(3):
            one = network[2].weight[:, channel : channel + 1]
            norms = functional.conv2d(maps[:, channel : channel + 1], one, None, 2, 2, 2).flatten(2).norm(dim=2)
            assert scores[channel] == pytest.approx(norms.var(0, correction=0).mean().item(), rel=1e-4)


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Conv2d(4, 6, 3, padding=1, groups=2), (2, 4, 5, 5)),
        (nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding="valid", dilation=(1, 2)), (2, 2, 7, 6)),
        (nn.Conv2d(2, 3, 3, padding="same", padding_mode="reflect"), (2, 2, 5, 6)),
        (nn.Conv1d(3, 4, 3, padding=1), (2, 3, 9)),
        (nn.Conv3d(2, 3, 2), (2, 2, 3, 4, 3)),
        (nn.Linear(5, 3), (2, 7, 5)),
    ],
)
def test_columns_times_weight_is_the_layer(module, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = columns(module, x)  # [N, P, g, D]
    rows = module.weight.reshape(found.shape[2], -1, found.shape[3])
    product = torch.einsum("npgd,god->npgo", found, rows).flatten(2) + module.bias
    expected = module(x)
    expected = expected if isinstance(module, nn.Linear) else expected.flatten(2).mT
    torch.testing.assert_close(product, expected.reshape(product.shape), rtol=1e-4, atol=1e-5)


def test_obs_is_the_optimum_of_the_quadratic():
    hessian = np.array([[[2.0, 1], [1, 2]]])
    rows = np.array([[[1.0, 2], [1, 2]]])
    found = updated(rows, hessian, np.array([[[False, True], [True, False]]]))
    # δ_2 = ½ · 1 · 1, and δ_1 = ½ · 1 · 2.
    assert found[0] == pytest.approx(np.array([[0, 2.5], [2, 0]]))
    increases = [delta @ hessian[0] @ delta / 2 for delta in found[0] - rows[0]]
    # H⁻¹ = ⅓ [[2, −1], [−1, 2]]: w² / (2 · ⅔).
    assert increases == pytest.approx([0.75, 3])


def test_obs_scores_are_the_increases_that_its_update_causes():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
    problem = PruningProblem.of(
        network, (1, 3, 3), Samples(torch.randn(64, 1, 3, 3), torch.zeros(64, dtype=torch.int64)), 0
    )
    method = build(criteria, "obs", {"damping": 1e-9})
    scores = method.score(problem)
    gram = moments(problem, layer_of(problem, "3.weight")).gram[0]
    for column in range(12):
        held = {"3.weight": np.ones((2, 12), dtype=bool)}
        held["3.weight"][1, column] = False
        delta = (method.reconstruct(problem, held)["3.weight"] - problem.array("3.weight"))[1]
        assert scores["3.weight"][1, column] == pytest.approx(delta @ gram @ delta / 2, rel=1e-4)
    # Several at once: no other weights in their place give a smaller error.
    held["3.weight"][1, :5] = False
    found = method.reconstruct(problem, held)["3.weight"][1]
    with torch.no_grad():
        inputs = network[:3](problem.samples.images).double().numpy()
    kept = held["3.weight"][1]
    best = np.linalg.lstsq(inputs[:, kept], inputs @ problem.array("3.weight")[1], rcond=None)[0]
    assert found[kept] == pytest.approx(best, abs=1e-5)
    assert (found[~kept] == 0).all()


@pytest.mark.parametrize("name", ["thinet", "lasso-channel"])
@pytest.mark.parametrize("network", ["residual-a", "residual-b", "plain"])
def test_rebuilding_brings_the_outputs_nearer(problem_of, name, network):
    problem = problem_of(network)
    settings = PruneSettings(method=name, ratio=0.3, of="channels")
    choice = build(criteria, name, {"positions": 64}).choose(problem, settings)
    assert choice.values

    def error(values):
        cut = copy.deepcopy(problem.network)
        result_of(problem, dataclasses.replace(choice, values=values), name).apply(cut)
        with torch.no_grad():
            difference = cut(problem.samples.images) - problem.network(problem.samples.images)
        return difference.square().mean().item()

    assert error(choice.values) < 0.7 * error({})


def test_what_cannot_be_recorded_is_named():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(4, 8)
            self.weight = nn.Parameter(torch.ones(3, 8))

        def forward(self, x):
            return functional.linear(self.first(x.flatten(1)), self.weight)

    problem = PruningProblem.of(
        Attention(), (1, 2, 2), Samples(torch.zeros(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64)), 0
    )
    for name in CHANNELS:
        with pytest.raises(NetworkError, match="what 'weight' reads cannot be recorded"):
            build(criteria, name, {}).score(problem)


@pytest.mark.parametrize("name", [*CHANNELS, "obs"])
def test_without_images_they_say_what_they_lack(name):
    problem = PruningProblem.of(Two().eval(), (1, 2, 2), None, 0)
    with pytest.raises(DataError, match="looks at training images"):
        build(criteria, name, {}).score(problem)
