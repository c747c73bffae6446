"""Methods that change groups of weights themselves, on numbers that can be checked by hand."""

import pytest
import torch
from torch import nn

from compress.channels.groups import Groups
from compress.channels.trace import trace
from compress.options import build
from compress.prune.regularizers import regularizers
from compress.prune.regularizers.admm import project
from compress.prune.regularizers.increg import increment
from compress.prune.weight_groups import weight_groups
from compress.torch_graph import trace_network


@pytest.fixture
def conv():
    """W[O = 2, I = 2, 1, 2]: squares of the parts are all different."""
    layer = nn.Conv2d(2, 2, (1, 2), bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[1.0, -3.0], [9.0, 0.0]], [[-8.0, 8.0], [0.5, 0.5]]]).reshape(2, 2, 1, 2))
    return nn.Sequential(layer)


@pytest.mark.parametrize(
    ("structure", "sums"),
    [
        ("weight", [1, 9, 81, 0, 64, 64, 0.25, 0.25]),
        ("filter", [10, 81, 128, 0.5]),
        ("neuron", [91, 128.5]),
        ("feature", [138, 81.5]),
        ("shape", [65, 73, 81.25, 0.25]),
        ("stripe", [82, 9, 64.25, 64.25]),
    ],
)
def test_groups_by_hand(conv, structure, sums):
    (layer,) = weight_groups(conv, None, structure, linear=False)
    squares = {name: weight.square() for name, weight in layer.stored(conv).items()}
    assert layer.sums(squares).tolist() == sums
    assert layer.counts().sum() == 8
    gone = torch.zeros(layer.size, dtype=torch.bool)
    gone[0] = True
    layer.zero(conv, gone)
    assert conv[0].weight.square().sum().item() == sum(sums[1:])


def test_channels_join_the_layers_that_produce_them():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.out = nn.Conv2d(1, 2, 1), nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1)

        def forward(self, x):
            return self.out((self.a(x) + self.b(x)).relu())

    network = Sum()
    traced = trace_network(network, (1, 4, 4))
    groups = Groups(trace(traced.graph, fold=False), traced.parameters)
    (layer,) = weight_groups(network, groups, "channel", linear=True)
    found = layer.sums({name: weight.square() for name, weight in layer.stored(network).items()})
    torch.testing.assert_close(found, (network.a.weight.square() + network.b.weight.square()).detach().flatten())
    assert layer.first_unit == 0


def test_a_projection_keeps_the_largest_groups(conv):
    (layer,) = weight_groups(conv, None, "stripe", linear=False)
    found = project(layer, layer.stored(conv), 0.5)["0.weight"]
    # Stripes: 82, 9, 64.25, 64.25; of two equal ones the first goes.
    assert found.flatten().tolist() == [1, 0, 9, 0, 0, 8, 0, 0.5]


def test_the_three_steps_of_admm_by_hand():
    network = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False))
    weight = network[0].weight
    with torch.no_grad():
        weight.copy_(torch.tensor([3.0, 1.0]).reshape(2, 1, 1, 1))
    hook = build(regularizers, "admm", {"every": 2}).bind(network, None, 0.5)
    assert hook.penalty(network) is None
    hook.attach(network)
    assert hook.penalty(network).item() == pytest.approx(0.25 * 1)  # Z = (3, 0), U = 0
    hook.after_epoch(network, 1)
    assert hook.penalty(network).item() == pytest.approx(0.25 * 1)
    hook.after_epoch(network, 2)  # U = (0, 1)
    assert hook.penalty(network).item() == pytest.approx(0.25 * 4)
    with torch.no_grad():
        weight.copy_(torch.tensor([1.0, 1.5]).reshape(2, 1, 1, 1))
    hook.after_epoch(network, 4)  # W + U = (1, 2.5): Z = (0, 2.5), U = (1, 0)
    assert hook.penalty(network).item() == pytest.approx(0.25 * (2**2 + 1))


def test_the_increment_falls_from_one_through_zero_to_minus_one():
    # N = 6, R N = 2: 1 − r/2, then −(r − 2)/3.
    found = increment(torch.arange(6.0), 2, 6)
    torch.testing.assert_close(found, torch.tensor([1, 0.5, 0, -1 / 3, -2 / 3, -1]))


def test_increg_moves_each_factor_by_its_averaged_rank():
    network = nn.Sequential(nn.Conv2d(1, 4, 1, bias=False))
    weight = network[0].weight
    hook = build(regularizers, "increg", {"grouping": "neuron", "epsilon": 0.1}).bind(network, _empty(), 0.5)
    with torch.no_grad():
        weight.copy_(torch.tensor([4.0, 1.0, 2.0, 3.0]).reshape(4, 1, 1, 1))
    hook.after_step(network, 0.1)  # ranks 3, 0, 1, 2; R N = 2: Δ = −1, 1, ½, 0
    assert hook.state_dict()["0.factor"].tolist() == [0, 0.5, 0.25, 0]
    weight.grad = torch.zeros_like(weight)
    hook.after_backward(network)
    assert weight.grad.flatten().tolist() == [0, 0.5, 0.5, 0]
    with torch.no_grad():
        weight.copy_(torch.tensor([4.0, 2.0, 1.0, 3.0]).reshape(4, 1, 1, 1))
    hook.after_step(network, 0.1)  # sums of ranks 6, 1, 1, 4: the first of two equal ones is first
    assert hook.state_dict()["0.factor"].tolist() == [0, 1, 0.5, 0]
    with torch.no_grad():
        weight.copy_(torch.tensor([4.0, 0.4, 0.3, 0.2]).reshape(4, 1, 1, 1))
    hook.after_step(network, 0.1)  # three are small, two are to go: the smallest
    assert weight.flatten().tolist() == pytest.approx([4, 0.4, 0, 0])
    hook.after_step(network, 0.1)
    assert hook.state_dict()["0.factor"].tolist() == [0, 0, 0, 0]


def _empty():
    traced = trace_network(nn.Sequential(nn.Conv2d(1, 2, 1)), (1, 4, 4))
    return Groups(trace(traced.graph, fold=False), traced.parameters)


def test_brain_damage_takes_a_cut_back_that_costs_too_much():
    network = nn.Sequential(nn.Conv2d(4, 1, 1, bias=False))
    weight = network[0].weight
    options = {"threshold": 0.15, "growth": 2.0, "drop": 1.0, "epsilon": 1e-12}
    hook = build(regularizers, "group-brain-damage", options).bind(network, None, 0.5)
    start = torch.tensor([10.0, 1.0, 2.0, 5.0]).reshape(1, 4, 1, 1)
    with torch.no_grad():
        weight.copy_(start)
    assert hook.penalty(network).item() == pytest.approx(0.5 * 18)  # Σ ‖W[:, i, x, y]‖₂

    def epoch(number, accuracy):
        hook.after_epoch(network, number)
        validated = weight.flatten().tolist()
        hook.after_validation(network, accuracy)
        hook.after_step(network, 0.1)
        return validated, weight.flatten().tolist()

    assert epoch(1, 90.0) == ([10, 1, 2, 5], [10, 1, 2, 5])  # nothing to compare with yet
    assert epoch(2, 89.5) == ([10, 0, 2, 5], [10, 0, 2, 5])  # below 0.15 · 10, within one point: stays; τ = 0.3
    assert epoch(3, 88.0) == ([10, 0, 0, 5], [10, 0, 2, 5])  # costs two points: comes back; τ = 0.15
    assert epoch(4, 95.0) == ([10, 0, 2, 5], [10, 0, 2, 5])
    with torch.no_grad():
        weight.add_(1)
    hook.after_step(network, 0.1)
    assert weight.flatten().tolist() == [11, 0, 3, 6]
