"""Criteria of gradients and curvature, on numbers that can be checked by hand; and single weights against chance."""

import copy

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from compress.errors import DataError
from compress.options import build
from compress.prune import prune
from compress.prune.criteria import criteria
from compress.prune.curvature import hessian_diagonal
from compress.prune.masks import WeightMask
from compress.prune.problem import PruningProblem, Samples, sample_losses
from compress.prune.select_weights import select_weights
from compress.recipe import PruneSettings


class Three(nn.Module):
    """Hidden values relu(w x), then two logits."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(1, 2, bias=False), nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.hidden.weight.copy_(torch.tensor([[1.0], [-1.0]]))
            self.out.weight.copy_(torch.tensor([[2.0, 0.0], [2.0, 0.0]]))

    def forward(self, x):
        return self.out(torch.relu(self.hidden(x.flatten(1))))


def three(images=(1.0, 3.0), labels=(0, 1)):
    samples = Samples(torch.tensor(images).reshape(-1, 1, 1, 1), torch.tensor(labels))
    return PruningProblem.of(Three().eval(), (1, 1, 1), samples, 0)


def test_obd_is_half_the_curvature_times_the_weight_squared():
    scores = build(criteria, "obd", {}).score(three())
    # p = ½, ½ for both samples; a = (x, 0): h of the logits' weights is p (1 − p) x², the mean of ¼ and 9⁄4.
    assert scores["out.weight"] == pytest.approx(np.array([[1.25 * 4 / 2, 0], [1.25 * 4 / 2, 0]]))
    # Both logits move together: nothing depends on the hidden weights.
    assert scores["hidden.weight"] == pytest.approx(np.zeros((2, 1)), abs=1e-12)


class Curved(nn.Module):
    """Of smooth activations, so that the Hessian has all of its terms; one weight under two names."""

    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.Linear(3, 3)
        self.c, self.out = nn.Linear(3, 3), nn.Linear(3, 2)
        self.c.weight = self.b.weight

    def forward(self, x):
        x = torch.tanh(self.norm(self.a(x))).mean((2, 3))
        return self.out(torch.tanh(self.c(torch.tanh(self.b(x)))))


@pytest.fixture(scope="module")
def curved():
    torch.manual_seed(0)
    samples = Samples(torch.randn(6, 1, 3, 3), torch.randint(0, 2, (6,)))
    return PruningProblem.of(Curved().eval(), (1, 3, 3), samples, 0)


def gauss_newton(problem, name):
    """The diagonal of the mean of Jᵀ H_z J by the plain definition."""
    network = copy.deepcopy(problem.network).double()
    names = {n for n, p in problem.network.named_parameters(remove_duplicate=False) if p is problem.tensor(name)}

    def outputs(value):
        return torch.func.functional_call(network, dict.fromkeys(names, value), (problem.samples.images.double(),))

    weight = problem.tensor(name).detach().double()
    jacobian = torch.autograd.functional.jacobian(outputs, weight).flatten(2)  # [N, K, weights]
    p = outputs(weight).softmax(1)
    inner = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    return torch.einsum("nkw,nkl,nlw->w", jacobian, inner, jacobian).div(len(p)).reshape(weight.shape).detach().numpy()


def test_gauss_newton_is_its_definition(curved):
    found = hessian_diagonal(curved, "gauss-newton", 1)
    for name in ("a.weight", "norm.weight", "b.weight", "c.weight", "out.weight"):
        assert found[name] == pytest.approx(gauss_newton(curved, name), rel=1e-9, abs=1e-12)
        assert (found[name] >= 0).all()


def test_hutchinson_converges_to_the_hessian_itself(curved):
    draws = 200
    found = hessian_diagonal(curved, "hutchinson", draws)
    network = copy.deepcopy(curved.network).double()
    parameters = {name: p.detach() for name, p in network.named_parameters()}
    ends = np.cumsum([p.numel() for p in parameters.values()])[:-1]

    def loss(flat):
        pieces = torch.tensor_split(flat, torch.tensor(ends))
        values = {n: piece.reshape(p.shape) for (n, p), piece in zip(parameters.items(), pieces, strict=True)}
        outputs = torch.func.functional_call(network, values, (curved.samples.images.double(),))
        return nn.functional.cross_entropy(outputs, curved.samples.labels)

    flat = torch.cat([p.flatten() for p in parameters.values()])
    hessian = torch.autograd.functional.hessian(loss, flat).numpy()
    # Of one draw the variance is the sum of the squares off the diagonal.
    spread = np.sqrt((np.square(hessian).sum(1) - np.diag(hessian) ** 2) / draws)
    estimate = np.concatenate([found[name].reshape(-1) for name in parameters])
    assert (np.abs(estimate - np.diag(hessian)) <= 5 * spread + 1e-12).all()
    assert (found["c.weight"] == found["b.weight"]).all()
    # It holds the second derivatives of the network itself, which Gauss-Newton leaves out.
    gauss = hessian_diagonal(curved, "gauss-newton", 1)
    omitted = np.abs(np.concatenate([gauss[name].reshape(-1) for name in parameters]) - np.diag(hessian))
    assert (omitted > 10 * spread).any()


def test_snip_is_the_share_of_the_gradient_times_the_weight():
    scores = build(criteria, "snip", {}).score(three(images=(1.0, 3.0), labels=(0, 0)))
    # ∂L/∂z = (p₀ − 1, p₁) = (−½, ½), times the mean of x, 2; times the weights 2, 2. The hidden weights cancel.
    assert scores["out.weight"] == pytest.approx(np.array([[0.5, 0], [0.5, 0]]))
    assert scores["hidden.weight"] == pytest.approx(np.zeros((2, 1)))


def test_snip_normalises_by_the_batch():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))
    images, labels = 5 + 3 * torch.randn(8, 1, 2, 2), torch.tensor([0, 1] * 4)
    scores = build(criteria, "snip", {}).score(PruningProblem.of(network, (1, 2, 2), Samples(images, labels), 0))
    network.train().double()
    nn.functional.cross_entropy(network(images.double()), labels).backward()
    expected = {name: (network.get_parameter(name).grad * network.get_parameter(name)).abs() for name in scores}
    total = sum(value.sum() for value in expected.values())
    for name, value in expected.items():
        assert scores[name] == pytest.approx((value / total).detach().numpy(), rel=1e-4, abs=1e-9)
    with pytest.raises(DataError, match="normalises by the batch"):
        build(criteria, "snip", {}).score(
            PruningProblem.of(network.float(), (1, 2, 2), Samples(images[:1], labels[:1]), 0)
        )


def test_taylor_2_adds_the_curvature():
    problem = three(images=(1.0, 3.0), labels=(0, 0))
    (first,) = build(criteria, "taylor", {"batch": 2}).score(problem)
    assert first == pytest.approx([0, 0], abs=1e-12)
    network = problem.network
    with torch.no_grad():
        network.out.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    try:
        (found,) = build(criteria, "taylor-2", {"batch": 2}).score(problem)
    finally:
        with torch.no_grad():
            network.out.weight.copy_(torch.tensor([[2.0, 0.0], [2.0, 0.0]]))
    # The logits differ by 2 w x with w = 1: p₀ = σ(2x); g = −2x (1 − p₀), h = 4x² p₀ (1 − p₀).
    x = np.array([1.0, 3.0])
    p = 1 / (1 + np.exp(-2 * x))
    gradient, curvature = (-2 * x * (1 - p)).mean(), (4 * x**2 * p * (1 - p)).mean()
    assert found == pytest.approx([(gradient - curvature / 2) ** 2, 0], abs=1e-12)


@pytest.mark.parametrize("name", ["obd", "snip", "taylor-2"])
def test_without_images_they_say_what_they_lack(name):
    problem = PruningProblem.of(Three().eval(), (1, 1, 1), None, 0)
    with pytest.raises(DataError, match="looks at training images"):
        build(criteria, name, {}).score(problem)


def digits():
    images, labels = load_digits(return_X_y=True)
    images = torch.tensor(images / 8 - 1, dtype=torch.float32).reshape(-1, 1, 8, 8)
    return images, torch.tensor(labels, dtype=torch.int64)


def train(network, images, labels, mask=None, steps=150):
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(steps):
        chosen = torch.randint(0, len(labels), (128,))
        loss = nn.functional.cross_entropy(network(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if mask is not None:
            mask.apply(network)
    return network


def untrained():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, 10))


@pytest.fixture(scope="module")
def trained():
    images, labels = digits()
    return train(untrained(), images[:1200], labels[:1200]).eval(), images, labels


def chance(problem, settings):
    rng = np.random.default_rng(0)
    return WeightMask(
        select_weights(problem, {name: rng.random(problem.tensor(name).shape) for name in problem.weights}, settings)
    )


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("name", ["obd", "obs"])
def test_single_weights_beat_chance(trained, name, scope):
    network, images, labels = trained
    settings = PruneSettings(method=name, ratio=0.6, of="parameters", scope=scope)
    result = prune(network, (1, 8, 8), settings, (images[:256], labels[:256]), seed=0)
    cut, other = copy.deepcopy(network), copy.deepcopy(network)
    result.apply(cut)
    chance(PruningProblem.of(network, (1, 8, 8), None, 0), settings).apply(other)
    assert result.weights is not None
    lost, at_random = (sample_losses(n, images[1200:], labels[1200:]).mean().item() for n in (cut, other))
    assert lost < 0.6 * at_random


def test_obs_makes_up_for_what_goes(trained):
    network, images, labels = trained
    losses = {}
    for name in ("obs", "magnitude"):
        settings = PruneSettings(method=name, ratio=0.7, of="parameters", scope="global")
        result = prune(network, (1, 8, 8), settings, (images[:256], labels[:256]), seed=0)
        cut = copy.deepcopy(network)
        result.apply(cut)
        losses[name] = sample_losses(cut, images[1200:], labels[1200:]).mean().item()
        if name == "obs":
            without = copy.deepcopy(network)
            result.mask.apply(without)
            losses["no update"] = sample_losses(without, images[1200:], labels[1200:]).mean().item()
    assert losses["obs"] < 0.7 * losses["no update"]
    assert losses["obs"] < 0.8 * losses["magnitude"]


def test_snip_before_training_beats_chance_after_it():
    images, labels = digits()
    settings = PruneSettings(method="snip", ratio=0.97, of="parameters", scope="global")
    network, other = untrained(), untrained()
    mask = prune(network, (1, 8, 8), settings, (images[:256], labels[:256]), seed=0).mask
    at_random = chance(PruningProblem.of(other, (1, 8, 8), None, 0), settings)
    losses = []
    for start, held in ((network, mask), (other, at_random)):
        held.apply(start)
        done = train(start, images[:1200], labels[:1200], held).eval()
        losses.append(sample_losses(done, images[1200:], labels[1200:]).mean().item())
    assert losses[0] < 0.8 * losses[1]
