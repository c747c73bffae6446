"""What a regularizer is for: less is lost by a cut after training with it than after plain training."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from compress.options import build
from compress.prune.driver import method_of, result_of
from compress.prune.masks import WeightMask
from compress.prune.problem import PruningProblem
from compress.prune.regularizers import regularizers
from compress.recipe import PruneSettings


class Wide(nn.Module):
    """Sixteen hidden channels for what two can do, on images of 3×3."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Conv2d(4, 16, 3), nn.Conv2d(16, 2, 1)

    def forward(self, x):
        return self.out(self.hidden(x).relu()).flatten(1)


def images(kind, count):
    """Two of four input channels tell the class: `middle`, in the middle alone; `spread`, everywhere, with noise."""
    noise = torch.randn(count, 4, 3, 3)
    signal = noise[:, :, 1:2, 1:2] if kind == "middle" else torch.randn(count, 4, 1, 1)
    x = noise if kind == "middle" else signal + 0.5 * noise
    return x, (signal[:, 0] + signal[:, 1] > 0).flatten().long()


@pytest.fixture(scope="module")
def problem():
    torch.manual_seed(0)
    found = PruningProblem.of(Wide(), (4, 3, 3), None, 0)
    return dataclasses.replace(found, weights=("hidden.weight",))


@pytest.fixture(scope="module")
def draws():
    """Two data sets a kind: images to train on and their classes, and others to measure on."""
    found = {}
    for kind in ("middle", "spread"):
        for seed in (0, 1):
            torch.manual_seed(seed)
            found[kind, seed] = (*images(kind, 512), *images(kind, 1000))
    return found


def trained(problem, data, name, strength, options, steps=150, epoch=10):
    """Trains as the loop does, with the validation on the training images."""
    x, y = data[:2]
    network = copy.deepcopy(problem.network).train()
    hook = build(regularizers, name, options).bind(network, problem.groups, strength)
    torch.manual_seed(1)
    hook.attach(network)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    for step in range(steps):
        hook.before_step(network, x, y)
        loss = nn.functional.cross_entropy(network(x), y)
        penalty = hook.penalty(network)
        optimizer.zero_grad()
        (loss if penalty is None else loss + penalty).backward()
        hook.after_backward(network)
        optimizer.step()
        hook.after_step(network, 0.1)
        if step % epoch == epoch - 1:
            hook.after_epoch(network, step // epoch + 1)
            right = (network.eval()(x).argmax(1) == y).float().mean().item()
            network.train()
            hook.after_validation(network, 100 * right)
    hook.detach(network)
    return network.eval()


def loss_after(network, problem, settings, data):
    """Cuts a copy, and returns the loss on images that were not trained on."""
    cut = copy.deepcopy(network)
    seen = problem.seen_on(cut)
    result_of(seen, method_of(settings).choose(seen, settings), settings.method).apply(cut)
    with torch.no_grad():
        return nn.functional.cross_entropy(cut(data[2]), data[3]).item()


def loss_of_random(network, problem, settings, data):
    """The control: as many channels, or weights of the hidden layer, by chance."""
    if settings.of == "channels":
        return loss_after(network, problem, settings.model_copy(update={"method": "random"}), data)
    cut = copy.deepcopy(network)
    WeightMask({"hidden.weight": np.random.default_rng(0).random((16, 4, 3, 3)) > settings.ratio}).apply(cut)
    with torch.no_grad():
        return nn.functional.cross_entropy(cut(data[2]), data[3]).item()


CHANNELS = PruneSettings(method="filter-l2", of="channels", ratio=0.875)
ANY_CHANNELS = PruneSettings(method="random", of="channels", ratio=0.5)
SHAPES = PruneSettings(method="magnitude", of="parameters", ratio=0.9, options={"part": "shape"})
STRIPES = PruneSettings(method="magnitude", of="parameters", ratio=0.95, options={"part": "stripe"})
WEIGHTS = PruneSettings(method="magnitude", of="parameters", ratio=0.97)
ADMM = {"ratio": 0.97, "linear": False}


@pytest.mark.parametrize(
    ("name", "strength", "options", "kind", "settings", "training"),
    [
        ("l0", 1e-2, {}, "middle", CHANNELS, {}),
        ("sss", 3e-2, {}, "middle", CHANNELS, {}),
        ("increg", 1e-1, {"ratio": 0.875}, "middle", CHANNELS, {}),
        ("admm", 1e-1, ADMM, "spread", WEIGHTS, {"steps": 500, "epoch": 50}),
        ("group-brain-damage", 3e-2, {}, "spread", SHAPES, {}),
        ("filter-skeleton", 3e-2, {}, "spread", STRIPES, {}),
        ("dropout", 0.0, {"rate": 0.5}, "middle", ANY_CHANNELS, {}),
        ("dropconnect", 0.0, {"rate": 0.2}, "middle", ANY_CHANNELS, {}),
    ],
)
def test_less_is_lost_by_a_cut(name, strength, options, kind, settings, training, problem, draws):
    found, by_plain, by_chance = 0.0, 0.0, 0.0
    for seed in (0, 1):
        data = draws[kind, seed]
        plain = trained(problem, data, "l1", 0.0, {}, **training)
        found += loss_after(trained(problem, data, name, strength, options, **training), problem, settings, data)
        by_plain += loss_after(plain, problem, settings, data)
        by_chance += loss_of_random(plain, problem, settings, data)
    assert found < 0.75 * min(by_plain, by_chance), (found, by_plain, by_chance)
