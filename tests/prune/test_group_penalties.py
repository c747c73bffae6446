"""Penalties on groups, each on numbers that can be checked by hand, and where channels are coupled."""

import copy
import math

import pytest
import torch
from torch import nn

from compress.channels.groups import Groups
from compress.channels.trace import trace
from compress.errors import NetworkError
from compress.options import build
from compress.prune.regularizers import regularizers
from compress.prune.regularizers.ssl import residual_branches
from compress.torch_graph import trace_network


@pytest.fixture
def conv():
    """W[O = 2, I = 2, 1, 2]; the kernels' L1 norms are [[4, 9], [16, 1]], their L2 norms [[√10, 9], [√128, √½]]."""
    layer = nn.Conv2d(2, 2, (1, 2))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[1.0, -3.0], [9.0, 0.0]], [[-8.0, 8.0], [0.5, 0.5]]]).reshape(2, 2, 1, 2))
    return nn.Sequential(layer)


K = {"l1": [[4, 9], [16, 1]], "l2": [[math.sqrt(10), 9], [math.sqrt(128), math.sqrt(0.5)]]}
L1, SQUARES = 30, 10 + 81 + 128 + 0.5


def root_sum(*squares):
    return math.sqrt(sum(squares))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("l1", {}, L1),
        ("l2", {}, SQUARES),
        ("group-lasso", {}, root_sum(10, 81) + root_sum(128, 0.5)),
        ("group-lasso", {"grouping": "feature"}, root_sum(10, 128) + root_sum(81, 0.5)),
        ("group-lasso", {"grouping": "filter"}, math.sqrt(10) + 9 + math.sqrt(128) + math.sqrt(0.5)),
        ("sparse-group-lasso", {"alpha": 0.25}, 0.25 * (root_sum(10, 81) + root_sum(128, 0.5)) + 0.75 * L1),
        ("exclusive", {}, 0.5 * (13**2 + 17**2)),
        ("exclusive", {"grouping": "feature"}, 0.5 * (20**2 + 10**2)),
        ("group-l12", {}, math.sqrt(13) + math.sqrt(17)),
        ("hsqrt-gl", {}, math.sqrt(K["l2"][0][0] + K["l2"][1][0]) + math.sqrt(K["l2"][0][1] + K["l2"][1][1])),
        ("hsq-gl", {}, (K["l2"][0][0] + K["l2"][1][0]) ** 2 + (K["l2"][0][1] + K["l2"][1][1]) ** 2),
        ("hsqrt-es", {}, math.sqrt(8 + 128) + math.sqrt(40.5 + 0.5)),
        ("hsq-es", {}, (8 + 128) ** 2 + (40.5 + 0.5) ** 2),
        ("hsqrt-gl12", {}, math.sqrt(2 + 4) + math.sqrt(3 + 1)),
        ("hsq-gl12", {}, (2 + 4) ** 2 + (3 + 1) ** 2),
        ("shsqrt-gl12", {}, 0.5 * (math.sqrt(6) + 2) + 0.5 * L1),
        ("shsq-gl12", {"alpha": 0.25}, 0.25 * 52 + 0.75 * L1),
        ("shsqrt-es", {}, 0.5 * (math.sqrt(136) + math.sqrt(41)) + 0.5 * L1),
        ("shsq-es", {}, 0.5 * (136**2 + 41**2) + 0.5 * L1),
        ("shsqrt-gl", {"grouping": "filter"}, 0.5 * sum(math.sqrt(k) for row in K["l2"] for k in row) + 0.5 * L1),
        ("shsq-gl", {"grouping": "filter"}, 0.5 * SQUARES + 0.5 * L1),
        ("ssl-filter", {}, root_sum(10, 81) + root_sum(128, 0.5)),
        ("ssl-channel", {}, root_sum(10, 128) + root_sum(81, 0.5)),
        # Columns W[:, i, 0, y]: (1, −8), (−3, 8), (9, ½), (0, ½).
        ("ssl-shape", {}, root_sum(1, 64) + root_sum(9, 64) + root_sum(81, 0.25) + 0.5),
    ],
)
def test_equations_by_hand(conv, name, options, expected):
    bound = build(regularizers, name, options).bind(conv, None, 0.5)
    assert bound.penalty(conv).item() == pytest.approx(0.5 * expected, rel=1e-4)


def test_cges_shifts_from_group_lasso_to_exclusive_with_depth():
    network = nn.Sequential(*(nn.Conv2d(1, 1, (1, 2), bias=False) for _ in range(3)))
    with torch.no_grad():
        for layer in network:
            layer.weight.copy_(torch.tensor([3.0, 4.0]).reshape(1, 1, 1, 2))
    # ‖W‖₂ = 5, ½ ‖W‖₁² = 24.5; μ = 0.1, 0.5, 0.9.
    found = build(regularizers, "cges", {"lowest": 0.1}).bind(network, None, 1.0).penalty(network)
    assert found.item() == pytest.approx(sum((1 - mu) * 5 + mu * 24.5 for mu in (0.1, 0.5, 0.9)), rel=1e-6)


class Residual(nn.Module):
    """A stem and a block that share a stream of two channels; the shortcut of a second block is a convolution."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 1, bias=False)
        self.inner, self.outer = nn.Conv2d(2, 3, 1, bias=False), nn.Conv2d(3, 2, 1, bias=False)
        self.first, self.second = nn.Conv2d(2, 3, 1, bias=False), nn.Conv2d(3, 4, 1, bias=False)
        self.shortcut = nn.Conv2d(2, 4, 1, bias=False)
        self.out = nn.Linear(4, 2, bias=False)

    def forward(self, x):
        x = self.stem(x).relu()
        x = x + self.outer(self.inner(x).relu())
        x = self.shortcut(x) + self.second(self.first(x).relu())
        return self.out(x.mean((2, 3)))


@pytest.fixture(scope="module")
def residual():
    torch.manual_seed(0)
    network = Residual()
    traced = trace_network(network, (1, 4, 4))
    return network, Groups(trace(traced.graph, fold=False), traced.parameters)


def test_coupled_producers_of_a_channel_are_one_group(residual):
    network, groups = residual
    found = build(regularizers, "group-lasso", {"grouping": "channel"}).bind(network, groups, 1.0).penalty(network)
    rows = {name: weight.detach().flatten(1).square().sum(1) for name, weight in network.named_parameters()}
    expected = (
        (rows["stem.weight"] + rows["outer.weight"]).sqrt().sum()
        + rows["inner.weight"].sqrt().sum()
        + rows["first.weight"].sqrt().sum()
        + (rows["second.weight"] + rows["shortcut.weight"]).sqrt().sum()
    )
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_oicsr_joins_the_filters_and_columns_of_a_channel(residual):
    network, groups = residual
    found = build(regularizers, "oicsr", {}).bind(network, groups, 1.0).penalty(network)
    squares = {name.split(".")[0]: weight.detach().square() for name, weight in network.named_parameters()}

    def rows(name):
        return squares[name].flatten(1).sum(1)

    def columns(name):
        return squares[name].transpose(0, 1).flatten(1).sum(1)

    stream = rows("stem") + rows("outer") + columns("inner") + columns("first") + columns("shortcut")
    expected = (
        stream.sqrt().sum()
        + (rows("inner") + columns("outer")).sqrt().sum()
        + (rows("first") + columns("second")).sqrt().sum()
        + (rows("second") + rows("shortcut") + columns("out")).sqrt().sum()
    )
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_branch_is_the_longer_way_to_a_sum(residual):
    network, groups = residual
    names = {name for name, _ in network.named_parameters()}
    branches = residual_branches(groups.trace.graph, names)
    assert branches == [("inner.weight", "outer.weight"), ("first.weight", "second.weight")]
    found = build(regularizers, "ssl-depth", {}).bind(network, groups, 1.0).penalty(network)
    norms = [root_sum(*(float(network.get_parameter(n).detach().square().sum()) for n in b)) for b in branches]
    assert found.item() == pytest.approx(sum(norms), rel=1e-5)


def test_a_branch_driven_to_zero_is_cut_away(residual):
    """What `ssl-depth` aims at: once a branch is zero, its channels go and the function stays."""
    from compress.compact import apply_plan, plan_of_zeros

    network = copy.deepcopy(residual[0])
    with torch.no_grad():
        network.outer.weight.zero_()
        network.inner.weight.zero_()
    plan = plan_of_zeros(network, (1, 4, 4))
    images = torch.randn(2, 1, 4, 4)
    expected = network(images)
    apply_plan(network, plan)
    assert network.inner.weight.shape[0] == 1
    torch.testing.assert_close(network(images), expected)


def test_what_a_network_lacks_is_said(conv):
    traced = trace_network(nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 2, 1)), (1, 4, 4))
    groups = Groups(trace(traced.graph, fold=False), traced.parameters)
    with pytest.raises(NetworkError, match="no residual branch"):
        build(regularizers, "ssl-depth", {}).bind(conv, groups, 1.0)


GROUPED = ["group-lasso", "sparse-group-lasso", "group-l12", "oicsr", "ssl-filter", "ssl-channel", "ssl-shape", "l1"]
GROUPED += [f"{h}-{r}" for h in ("hsqrt", "hsq", "shsqrt", "shsq") for r in ("gl", "es", "gl12")]
GROUPED += ["exclusive", "cges", "l2"]
STRENGTHS = (3e-2, 1e-2, 3e-3, 1e-3, 3e-4)


class Wide(nn.Module):
    """Sixteen hidden channels for what two can do."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Conv2d(12, 16, 1), nn.Conv2d(16, 2, 1)

    def forward(self, x):
        return self.out(self.hidden(x).relu()).flatten(1)


@pytest.fixture(scope="module")
def task():
    torch.manual_seed(0)
    network, x = Wide(), torch.randn(256, 12, 1, 1)
    traced = trace_network(network, (12, 1, 1))
    return (
        network,
        Groups(trace(traced.graph, fold=False), traced.parameters),
        x,
        (x[:, 0] + x[:, 1] > 0).flatten().long(),
    )


@pytest.fixture(scope="module")
def loss_of_plain(task):
    return loss_after_cut(task, None, 0.0)


def loss_after_cut(task, name, strength):
    """Trains, zeroes the 12 hidden channels of least norm, and returns the loss."""
    start, groups, x, y = task
    network = copy.deepcopy(start)
    hook = build(regularizers, name, {}).bind(network, groups, strength) if name else None
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(120):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(x), y)
        (loss if hook is None else loss + hook.penalty(network)).backward()
        optimizer.step()
    with torch.no_grad():
        norms = network.hidden.weight.flatten(1).norm(dim=1) * network.out.weight.flatten(1).norm(dim=0)
        gone = norms.argsort()[:12]
        network.hidden.weight[gone], network.hidden.bias[gone] = 0, 0
        return nn.functional.cross_entropy(network(x), y).item()


@pytest.mark.parametrize("name", GROUPED)
def test_less_is_lost_by_cutting_what_the_penalty_made_small(name, task, loss_of_plain):
    """λ is swept, as the papers do."""
    losses = [loss_after_cut(task, name, strength) for strength in STRENGTHS]
    assert min(losses) < 0.7 * loss_of_plain, (loss_of_plain, losses)
