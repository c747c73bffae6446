"""Small networks with the couplings that matter, traced once; and what reorders or counts their channels."""

import copy
import dataclasses
import functools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from compress.prune.problem import PruningProblem, Samples, places


class Padded(nn.Module):
    """Option A: every other pixel, with channels of zeros before and after."""

    def __init__(self, low, high):
        super().__init__()
        self.register_buffer("low", torch.zeros(1, low, 1, 1), persistent=False)
        self.register_buffer("high", torch.zeros(1, high, 1, 1), persistent=False)

    def forward(self, x):
        x = x[:, :, ::2, ::2]
        n, _, h, w = x.shape
        return torch.cat([self.low.expand(n, -1, h, w), x, self.high.expand(n, -1, h, w)], 1)


class Residual(nn.Module):
    """A stem, a block with an identity, a block with a shortcut of option A or B, a linear layer."""

    def __init__(self, option, inplace=False):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace))
        self.conv1, self.bn1 = nn.Conv2d(4, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5)
        self.conv2, self.bn2 = nn.Conv2d(5, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv3, self.bn3 = nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv4, self.bn4 = nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        project = nn.Sequential(nn.Conv2d(4, 8, 1, stride=2, bias=False), nn.BatchNorm2d(8))
        self.shortcut = Padded(2, 2) if option == "A" else project
        self.relu = nn.ReLU(inplace)
        self.linear = nn.Linear(8, 3)

    def forward(self, x):
        x = self.stem(x)
        x = self.relu(x + self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))
        x = self.relu(self.bn4(self.conv4(self.relu(self.bn3(self.conv3(x))))) + self.shortcut(x))
        return self.linear(x.mean((2, 3)))


class Plain(nn.Module):
    """Convolutions with biases and no BatchNorm, one depthwise, a concatenation, flatten, two linear layers."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.left, self.right = nn.Conv2d(6, 4, 1), nn.Conv2d(6, 5, 1)
        self.hidden = nn.Linear(9 * 16, 7)
        self.out = nn.Linear(7, 3)

    def forward(self, x):
        x = functional.relu(self.depthwise(functional.relu(self.first(x))))
        x = functional.max_pool2d(functional.relu(torch.cat([self.left(x), self.right(x)], 1)), 2)
        return self.out(functional.relu(self.hidden(x.flatten(1))))


NETWORKS = {
    "residual-a": lambda: Residual("A"),
    "residual-b": lambda: Residual("B", inplace=True),
    "plain": Plain,
}


def network_of(name):
    """A network with weights in which no two channels are alike, all statistics off their defaults."""
    torch.manual_seed(3)
    network = NETWORKS[name]().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 2)
    last = network.linear if hasattr(network, "linear") else network.out
    with torch.no_grad():
        # Outputs that differ between images, as those of a trained network do.
        outputs = network(_images())
        last.weight /= outputs.std(0, keepdim=True).T / 4
        last.bias.zero_()
        last.bias -= network(_images()).mean(0)
    return network


def _images(count=24):
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(5))


def samples_of(network):
    """Images, with what the network says of them as labels, but for two: most samples are easy, a few are hard."""
    with torch.no_grad():
        labels = network(_images()).argmax(1)
    labels[:2] = (labels[:2] + 1) % 3
    return Samples(_images(), labels)


@functools.cache
def _problem(name, exclude=(), couple=True):
    network = network_of(name)
    return PruningProblem.of(network, (3, 8, 8), samples_of(network), 0, exclude=exclude, couple=couple)


@pytest.fixture
def problem_of():
    """Returns the problem of a named network, traced once for all tests."""
    return _problem


@pytest.fixture(params=NETWORKS)
def problem(request):
    return _problem(request.param)


@pytest.fixture
def reordered():
    """Returns a problem whose unit i was unit order[i], with the same function, and `order`."""

    def make(problem):
        rng = np.random.default_rng(1)
        order = np.arange(problem.groups.size)
        for stratum in problem.strata:
            order[stratum.units] = rng.permutation(stratum.units)
        network = copy.deepcopy(problem.network)
        tensors = dict(network.named_parameters()) | dict(network.named_buffers())
        with torch.no_grad():
            for place in places(problem.groups):
                index = np.arange(place.unit.size)
                for unit in np.unique(place.unit[place.unit >= 0]):
                    index[place.unit == unit] = np.flatnonzero(place.unit == order[unit])
                tensor = tensors[place.parameter]
                tensor.copy_(tensor.index_select(place.axis, torch.from_numpy(index)))
        return dataclasses.replace(problem, network=network), order

    return make


@pytest.fixture
def state_of():
    def copy_state(problem):
        return {name: tensor.clone() for name, tensor in problem.network.state_dict().items()}

    return copy_state
