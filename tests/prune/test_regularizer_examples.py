"""Penalties on numbers that can be checked by hand, and the views of a weight that they share."""

import copy

import pytest
import torch
from torch import nn

from compress.errors import NetworkError
from compress.prune.groupings import kernel_weights
from compress.prune.regularizers.hierarchical import HierarchicalSquareGroupL12
from compress.prune.regularizers.slimming import Slimming
from compress.train.hooks import Hook


@pytest.fixture
def conv():
    """W[O = 2, I = 2, 1, 2]; L1 of the kernels: [[4, 9], [16, 1]]."""
    layer = nn.Conv2d(2, 2, (1, 2))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[1.0, -3.0], [9.0, 0.0]], [[-8.0, 8.0], [0.5, 0.5]]]).reshape(2, 2, 1, 2))
    return nn.Sequential(layer)


@pytest.mark.parametrize(
    ("grouping", "expected"),
    [
        ("feature", (2 + 4) ** 2 + (3 + 1) ** 2),  # columns: √4 + √16, √9 + √1
        ("neuron", (2 + 3) ** 2 + (4 + 1) ** 2),  # rows
        ("filter", 4 + 9 + 16 + 1),  # each kernel alone: (√r)²
    ],
)
def test_hsq_gl12_is_equation_2_19_with_2_17(conv, grouping, expected):
    bound = HierarchicalSquareGroupL12(grouping=grouping).bind(conv, None, 0.5)
    assert bound.penalty(conv).item() == pytest.approx(0.5 * expected, rel=1e-6)


def test_hsq_gl12_gradient_is_that_of_the_equation(conv):
    # ∂/∂w of (√a + √b)² for w in a: (√a + √b) / √a · sign(w)
    HierarchicalSquareGroupL12().bind(conv, None, 1.0).penalty(conv).backward()
    gradient = conv[0].weight.grad
    assert gradient[0, 0].flatten().tolist() == pytest.approx([6 / 2, -6 / 2])
    assert gradient[0, 1].flatten().tolist() == pytest.approx([4 / 3, 0])
    assert conv[0].bias.grad is None


def test_hsq_gl12_epsilon_stands_below_the_root(conv):
    penalty = HierarchicalSquareGroupL12(epsilon=0.25, grouping="filter").bind(conv, None, 1.0).penalty(conv)
    assert penalty.item() == pytest.approx(4 + 9 + 16 + 1 + 4 * 0.25)


def test_hsq_gl12_takes_linear_layers_where_asked(conv):
    network = nn.Sequential(conv[0], nn.Flatten(), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        network[2].weight.copy_(torch.tensor([[1.0, 4.0], [9.0, 16.0]]))
    alone = HierarchicalSquareGroupL12().bind(network, None, 1.0).penalty(network)
    assert alone.item() == pytest.approx(52, rel=1e-6)
    both = HierarchicalSquareGroupL12(linear=True).bind(network, None, 1.0).penalty(network)
    assert both.item() == pytest.approx(52 + (1 + 3) ** 2 + (2 + 4) ** 2, rel=1e-6)
    with pytest.raises(NetworkError, match="linear = true"):
        HierarchicalSquareGroupL12().bind(nn.Sequential(nn.Linear(2, 2)), None, 1.0)


def test_grouped_and_transposed_convolutions_group_by_their_own_channels():
    grouped = nn.Conv2d(4, 6, 1, groups=2)
    with torch.no_grad():
        grouped.weight.copy_(torch.arange(12.0).reshape(6, 2, 1, 1))
    (weight,) = kernel_weights(grouped, linear=False)
    # Output channels 0…2 read input channels 0 and 1, the others 2 and 3.
    assert weight.view(grouped, "feature").squeeze(-1).tolist() == [[0, 2, 4], [1, 3, 5], [6, 8, 10], [7, 9, 11]]
    assert weight.view(grouped, "neuron").squeeze(-1).tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]
    transposed = nn.ConvTranspose2d(2, 3, 1)
    with torch.no_grad():
        transposed.weight.copy_(torch.arange(6.0).reshape(2, 3, 1, 1))
    (weight,) = kernel_weights(transposed, linear=False)
    assert weight.view(transposed, "feature").squeeze(-1).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert weight.view(transposed, "neuron").squeeze(-1).tolist() == [[0, 3], [1, 4], [2, 5]]
    assert weight.view(transposed, "filter").shape == (6, 1, 1)


def test_slimming_is_the_l1_norm_of_the_scales():
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.BatchNorm2d(2, affine=False))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([-0.5, 0.0]))
    bound = Slimming().bind(network, None, 0.1)
    penalty = bound.penalty(network)
    assert penalty.item() == pytest.approx(0.05)
    penalty.backward()
    assert network[1].weight.grad.tolist() == pytest.approx([-0.1, 0.0])
    assert network[0].weight.grad is None
    assert isinstance(bound, Hook)
    with pytest.raises(NetworkError, match="no BatchNorm scale"):
        Slimming().bind(nn.Sequential(nn.Conv2d(1, 2, 1)), None, 0.1)


def test_hsq_gl12_tells_features_apart(problem_of):
    """What the penalty is for: on its own, it drives small features to zero faster than large ones."""
    network = copy.deepcopy(problem_of("residual-b").network)
    bound = HierarchicalSquareGroupL12().bind(network, None, 1e-2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    spread = []
    for _ in range(40):
        optimizer.zero_grad()
        bound.penalty(network).backward()
        optimizer.step()
        norms = network.conv1.weight.detach().square().sum((0, 2, 3)).sqrt()
        spread.append((norms.max() / norms.min()).item())
    assert spread[-1] > spread[0]
