"""Gates and factors that are learnt beside the weights: numbers by hand, exact zeros, and what is baked in the end."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from compress.channels.groups import Groups
from compress.channels.plan import Plan
from compress.channels.trace import trace
from compress.compact import compact, plan_of_zeros
from compress.errors import NetworkError, RecipeError
from compress.options import build
from compress.prune import bind_regularizer, prune
from compress.prune.gates import attach_gates, channel_gates
from compress.prune.groupings import kernel_weights
from compress.prune.masks import ChannelMask, WeightMask
from compress.prune.parametrized import bake
from compress.prune.regularizers import regularizers
from compress.prune.regularizers.filter_skeleton import Skeleton
from compress.prune.regularizers.l0 import HardConcrete, HardConcreteL0
from compress.prune.regularizers.sss import Scales
from compress.recipe import MethodSettings, PruneSettings
from compress.rewrite import rewrite
from compress.torch_graph import to_onnx, trace_network

NETWORKS = ("residual-a", "residual-b", "plain")


def attached(problem, name, **options):
    """A copy of a problem's network with a regularizer attached, in evaluation mode."""
    network = copy.deepcopy(problem.network)
    hook = build(regularizers, name, options).bind(problem.network, problem.groups, 0.1)
    hook.attach(network)
    return network.eval(), hook


def gates_of(network, kind):
    return next(module for module in network.modules() if isinstance(module, kind))


def groups_of(network, shape):
    traced = trace_network(network, shape)
    return Groups(trace(traced.graph, fold=False), traced.parameters)


def test_hard_concrete_by_hand():
    gates = HardConcrete(3, 0.5, HardConcreteL0())  # log α = 0
    # Afterwards: σ(0) · 1.2 − 0.1; P(z ≠ 0) = σ(⅔ ln 11).
    assert gates.eval()().tolist() == pytest.approx([0.5] * 3)
    assert gates.open().tolist() == pytest.approx([11 ** (2 / 3) / (1 + 11 ** (2 / 3))] * 3)
    # log u − log(1 − u) = β ln 3, β ln(1/19), β ln 19: s = ¾, 1/20, 19/20.
    odds = torch.tensor([3.0, 1 / 19, 19.0]) ** (2 / 3)
    gates.noise.copy_(odds / (1 + odds))
    assert gates.train()().tolist() == pytest.approx([0.8, 0.0, 1.0], abs=1e-6)


def test_l0_counts_the_weights_that_a_gate_holds():
    network = nn.Sequential(nn.Conv2d(2, 3, (1, 2)), nn.Conv2d(3, 2, 1))
    hook = HardConcreteL0(start=0.5).bind(network, groups_of(network, (2, 4, 4)), 0.25)
    assert hook.penalty(network) is None
    hook.attach(network)
    # Three channels of 2 · 1 · 2 weights and a bias; the outputs cannot go.
    expected = 0.25 * 3 * 5 * 11 ** (2 / 3) / (1 + 11 ** (2 / 3))
    assert hook.penalty(network).item() == pytest.approx(expected)


def test_accelerated_proximal_gradient_by_hand():
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1))
    hook = build(regularizers, "sss", {}).bind(network, groups_of(network, (1, 4, 4)), 3.0)
    hook.attach(network)
    scale = gates_of(network, Scales).scale
    found = []
    for gradient in (2.0, 0.0, 0.0, 0.0, 0.0):
        scale.grad = torch.tensor([gradient, 0.0])
        hook.after_backward(network)
        assert scale.grad is None  # the optimizer leaves it alone
        hook.after_step(network, 0.1)
        found.append(scale[0].item())
    # z = 0.8, S = 0.5, v = −0.5; then S = 0, v = −0.05 − 0.45; S = −0.15, v = 0.3 − 0.45; S = 0, v = 0.285 − 0.135; 0.
    assert found == pytest.approx([0.5 - 0.45, -0.45, -0.15 - 0.135, 0.135, 0.0], abs=1e-6)
    assert found[-1] == 0


def test_a_skeleton_multiplies_stripes():
    conv = nn.Conv2d(2, 2, (1, 2), bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.arange(8.0).reshape(2, 2, 1, 2))
    skeleton = Skeleton(conv.weight, *kernel_weights(conv, linear=False))
    assert skeleton.skeleton.shape == (2, 1, 1, 2)
    with torch.no_grad():
        skeleton.skeleton.copy_(torch.tensor([1.0, 0.0, 2.0, 3.0]).reshape(2, 1, 1, 2))
    assert skeleton(conv.weight).flatten().tolist() == [0, 0, 2, 0, 8, 15, 12, 21]
    # [I, O/g, kW] of a transposed convolution in two groups: outputs 0, 1 are made from input 0, outputs 2, 3 from 1.
    back = nn.ConvTranspose1d(2, 4, 1, groups=2)
    skeleton = Skeleton(back.weight, *kernel_weights(back, linear=False))
    with torch.no_grad():
        skeleton.skeleton.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(2, 1, 2, 1))
    assert torch.equal(skeleton(torch.ones(2, 2, 1)).flatten(), torch.tensor([1.0, 2.0, 3.0, 4.0]))


def test_small_stripes_go_for_good():
    network = nn.Sequential(nn.Conv2d(1, 2, (1, 2)))
    hook = build(regularizers, "filter-skeleton", {"threshold": 0.1}).bind(network, None, 0.5)
    hook.attach(network)
    stripes = gates_of(network, Skeleton).skeleton
    assert hook.penalty(network).item() == pytest.approx(0.5 * 4)
    with torch.no_grad():
        stripes.copy_(torch.tensor([0.1, -0.05, 0.2, 1.0]).reshape(2, 1, 1, 2))
    stripes.grad = torch.zeros_like(stripes)
    hook.after_backward(network)
    hook.after_step(network, 0.1)
    assert stripes.flatten().tolist() == pytest.approx([0, 0, 0.2, 1])
    hook.after_backward(network)
    with torch.no_grad():
        stripes += 0.5  # what momentum would do
    hook.after_step(network, 0.1)
    assert stripes.flatten().tolist() == pytest.approx([0, 0, 0.7, 1.5])
    computed = network[0].weight.detach().clone()
    hook.detach(network)
    assert torch.equal(network[0].weight, computed)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_gate_multiplies_a_channel_once(name, problem_of):
    """Where ReLU follows, what a layer hands on is scaled by the gate, through a depthwise convolution too."""
    problem = problem_of(name)
    network, _ = attached(problem, "sss")
    layer = {"plain": "depthwise"}.get(name, "bn3")
    seen = []
    for model in (problem.network, network):
        model.get_submodule(layer).register_forward_hook(lambda *given: seen.append(given[2].relu()))
    with torch.no_grad():
        problem.network(problem.samples.images)
        index = next(
            i
            for i, group in enumerate(problem.groups.groups)
            if any(m.parameter.startswith(layer) for m in group.members)
        )
        start, end = problem.groups.offsets[index : index + 2]
        gates_of(network, Scales).scale[start:end] = 0.25
        network(problem.samples.images)
    problem.network.get_submodule(layer)._forward_hooks.clear()
    torch.testing.assert_close(seen[1], 0.25 * seen[0])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("regularizer", ["l0", "sss"])
def test_a_gate_of_zero_is_a_channel_that_goes(name, regularizer, problem_of):
    problem = problem_of(name)
    network, hook = attached(problem, regularizer)
    rng = np.random.default_rng(0)
    keep = np.ones(problem.groups.size, dtype=bool)
    for stratum in problem.strata:
        keep[rng.choice(stratum.units, stratum.units.size // 2, replace=False)] = False
    with torch.no_grad():
        if regularizer == "l0":
            gates_of(network, HardConcrete).log_alpha[torch.from_numpy(~keep)] = -10
        else:
            gates_of(network, Scales).scale.uniform_(0.5, 1.5)[torch.from_numpy(~keep)] = 0
        images = problem.samples.images
        expected = network(images)
        baked = bake(copy.deepcopy(network))(images)
        hook.detach(network)
        torch.testing.assert_close(baked, expected)
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-4)
    wanted = Plan.from_kept(problem.groups.kept(keep), problem.parameters)
    assert plan_of_zeros(network, (3, 8, 8)).keep == wanted.keep
    settings = PruneSettings(method="filter-l2", threshold=0.0)
    assert (prune(network, (3, 8, 8), settings, None, seed=0).keep == keep).all()
    compact(network, wanted, (3, 8, 8))


def test_masks_hold_what_is_computed(problem_of):
    problem = problem_of("residual-b")
    network, hook = attached(problem, "l0")
    keep = np.ones(problem.groups.size, dtype=bool)
    keep[::2] = False
    ChannelMask(problem.groups, keep).apply(network)
    held = np.ones(problem.tensor("conv1.weight").shape, dtype=bool)
    held[0, 1] = False
    WeightMask({"conv1.weight": held}).apply(network)
    assert problem.seen_on(network).array("conv1.weight")[0, 1].max() == 0
    hook.detach(network)
    assert network.conv1.weight[0, 1].abs().max() == 0
    assert problem.seen_on(network).network.bn1.weight.eq(0).any()


class Grouped(nn.Module):
    """A block whose middle convolution has four groups, in a residual sum."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 1)
        self.before, self.middle = nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.after, self.out = nn.Conv2d(8, 4, 1), nn.Linear(4, 2)

    def forward(self, x):
        x = self.stem(x).relu()
        x = (x + self.after(self.middle(self.before(x).relu()).relu())).relu()
        return self.out(x.mean((2, 3)))


@pytest.mark.parametrize("scaled", ["groups", "blocks"])
def test_whole_groups_and_blocks_go(scaled):
    torch.manual_seed(0)
    network = Grouped().eval()
    hook = build(regularizers, "sss", {"scaled": scaled}).bind(network, groups_of(network, (1, 4, 4)), 0.1)
    hook.attach(network)
    scale = gates_of(network, Scales).scale
    assert scale.numel() == {"groups": 4, "blocks": 1}[scaled]
    with torch.no_grad():
        scale[0] = 0
        images = torch.randn(2, 1, 4, 4)
        expected = network(images)
        hook.detach(network)
        torch.testing.assert_close(network(images), expected)
    if scaled == "groups":
        left = {t.name: list(t.dims) for t in rewrite(to_onnx(network, (1, 4, 4))).model.graph.initializer}
        assert left["middle.weight"] == [6, 2, 3, 3]
        assert left["before.weight"][0] == 6
    else:
        compact(network, plan_of_zeros(network, (1, 4, 4)), (1, 4, 4))
        assert network.after.weight.abs().max() == 0
        assert network.before.weight.shape[0] == 4  # a channel of each of its four groups


def test_what_there_is_nothing_to_scale_of_is_said(problem_of):
    problem = problem_of("plain")
    for scaled in ("groups", "blocks"):
        with pytest.raises(NetworkError, match="scaled = 'channels'"):
            build(regularizers, "sss", {"scaled": scaled}).bind(problem.network, problem.groups, 0.1)


def test_tied_parameters_are_not_gated_in_part():
    network = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    groups = groups_of(network, (4, 4, 4))
    network[2].weight = network[0].weight
    with pytest.raises(NetworkError, match="shared by several layers"):
        attach_gates(network, Scales(groups.size), channel_gates(groups))


@pytest.mark.parametrize("name", ["dropout", "dropconnect"])
def test_dropping_has_no_strength(name, problem_of):
    network = problem_of("plain").network
    assert bind_regularizer(network, (3, 8, 8), MethodSettings(name=name, options={"rate": 0.1})) is not None
    with pytest.raises(RecipeError, match="strength means nothing"):
        bind_regularizer(network, (3, 8, 8), MethodSettings(name=name, strength=0.1))


@pytest.mark.parametrize("drops", ["activations", "channels"])
def test_dropout_keeps_the_mean_and_rests_in_evaluation(drops, problem_of):
    problem = problem_of("plain")
    network = copy.deepcopy(problem.network)
    hook = build(regularizers, "dropout", {"rate": 0.25, "drops": drops}).bind(network, problem.groups, 1.0)
    hook.attach(network)
    torch.manual_seed(0)
    x = torch.randn(2000, 3, 8, 8)[:, :, :2, :2]
    network.eval()
    plain = network.first(x)
    dropped = network.train().first(x)
    zero = dropped == 0
    assert zero.float().mean().item() == pytest.approx(0.25, abs=0.01)
    torch.testing.assert_close(dropped[~zero], plain[~zero] / 0.75)
    assert (zero.flatten(2).all(2) == zero.flatten(2).any(2)).all().item() == (drops == "channels")
    # Logits stay as they are.
    assert torch.equal(network.out(torch.ones(1, 7)), problem.network.out(torch.ones(1, 7)))
    hook.detach(network)
    assert not network.first._forward_hooks


def test_dropconnect_cuts_weights_and_not_biases(problem_of):
    problem = problem_of("plain")
    network = copy.deepcopy(problem.network)
    hook = build(regularizers, "dropconnect", {"rate": 0.25, "layers": "linear"}).bind(network, problem.groups, 1.0)
    hook.attach(network)
    torch.manual_seed(0)
    network.train()
    weight = network.hidden.weight
    zero = weight == 0
    assert zero.float().mean().item() == pytest.approx(0.25, abs=0.03)
    torch.testing.assert_close(weight[~zero], problem.network.hidden.weight[~zero] / 0.75)
    assert not torch.equal(network.hidden.weight, weight)
    assert torch.equal(network.first.weight, problem.network.first.weight)
    hook.detach(network)
    assert torch.equal(network.hidden.weight, problem.network.hidden.weight)
