"""Opposite phases: the criterion, the report, and layers rebuilt with half the filters."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from compress.architectures.crelu import BothPhases, CReLU
from compress.channels.groups import Groups
from compress.channels.plan import Plan
from compress.channels.trace import trace
from compress.compact import apply_plan
from compress.errors import NetworkError
from compress.onnx_io.cost import onnx_cost
from compress.onnx_io.session import session
from compress.prune import prune
from compress.prune.crelu import rebuild_as_crelu
from compress.prune.criteria.crelu_redundancy import redundancy
from compress.prune.masks import ChannelMask
from compress.prune.phases import nearest_phase, pairs, phase_report
from compress.recipe import PruneSettings
from compress.rewrite import rewrite
from compress.torch_graph import to_onnx, trace_network

HAND = np.array([[1.0, 0], [-2, 0], [0, 1], [0.6, -0.8], [0, 0]])


def test_crelu_is_both_phases():
    x = torch.tensor([[1.0, -2.0]])
    assert CReLU()(x).tolist() == [[1, 0, 0, 2]]
    assert BothPhases()(x).relu().tolist() == [[1, 0, 0, 2]]


def test_phases_by_hand():
    assert nearest_phase(HAND[:4]) == pytest.approx([-1, -1, -0.8, -0.8])
    assert pairs(HAND[:4]) == [(1, 0), (2, 3)]
    assert pairs(HAND[:3]) == [(1, 0), (2, None)]
    # The zero filter first; of 0 and 1 the smaller, then 2 or 3, of one norm, with −0.8; then 3 and 1: −0.6.
    assert redundancy(HAND) == pytest.approx([0, 2, 0.2, 0.4, 0])


def signed_pairs(seed=0, noise=0.0, norm=False):
    """A network whose every other filter is −a times the one before it; its second layer reads them alike."""
    torch.manual_seed(seed)
    first, second = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1)
    layers = [first, nn.BatchNorm2d(8)] if norm else [first]
    network = nn.Sequential(
        *layers, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 5)
    ).eval()
    with torch.no_grad():
        if norm:
            nn.init.uniform_(network[1].weight, 0.5, 1.5)
            nn.init.uniform_(network[1].running_var, 0.5, 2)
            network[1].bias.normal_(std=0.2)
            network[1].running_mean.normal_(std=0.2)
        for layer in (first, second):
            for tensor in (layer.weight, layer.bias):
                even = tensor[::2]
                tensor[1::2] = -0.5 * even + noise * torch.randn_like(even)
        if norm:
            for tensor in (network[1].weight, network[1].running_var):
                tensor[1::2] = tensor[::2]
            network[1].running_mean[1::2] = -0.5 * network[1].running_mean[::2]
            network[1].bias[1::2] = -0.5 * network[1].bias[::2]
    return network


SHAPE = (2, 8, 8)


@pytest.mark.parametrize("norm", [False, True])
def test_exact_pairs_are_rebuilt_without_loss(norm):
    network = signed_pairs(norm=norm)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    rebuilt, done = rebuild_as_crelu(network, SHAPE)
    assert [(layer.before, layer.after) for layer in done] == [(8, 4), (6, 3)]
    assert all(layer.mean_cosine == pytest.approx(-1) for layer in done)
    images = torch.randn(16, *SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(rebuilt(images), network(images), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    first = next(module for module in rebuilt.modules() if isinstance(module, nn.Conv2d))
    assert (first.weight.shape[0], first.out_channels) == (4, 4)


def test_a_rebuilt_network_is_cut_exported_and_rewritten_like_any_other():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(2, 7, 3), nn.BatchNorm2d(7), nn.ReLU(), nn.Conv2d(7, 8, 3), nn.ReLU())
    network = nn.Sequential(*plain, nn.Flatten(), nn.Linear(8 * 16, 5)).eval()
    rebuilt, done = rebuild_as_crelu(network, SHAPE)
    assert [layer.after for layer in done] == [4, 4]
    traced = trace_network(rebuilt, SHAPE)
    groups = Groups(trace(traced.graph, fold=False), traced.parameters)
    # A filter that goes takes both of its phases along.
    assert [group.size for group in groups.groups] == [4, 4]
    keep = np.array([True, False, True, True, False, True, True, False])
    ChannelMask(groups, keep).apply(rebuilt)
    cut = copy.deepcopy(rebuilt)
    apply_plan(cut, Plan.from_kept(groups.kept(keep), traced.parameters))
    assert tuple(cut[3][0].weight.shape if isinstance(cut[3], nn.Sequential) else cut[3].weight.shape) == (2, 6, 3, 3)
    images = torch.randn(3, *SHAPE)
    with torch.no_grad():
        expected = rebuilt(images)
        torch.testing.assert_close(cut(images), expected, rtol=1e-5, atol=1e-5)
    masked, small = to_onnx(rebuilt, SHAPE), to_onnx(cut, SHAPE)
    result = rewrite(masked)
    for model in (masked, small, result.model):
        (found,) = session(model.SerializeToString()).run(None, {"input": images.numpy()})
        assert found == pytest.approx(expected.numpy(), rel=1e-4, abs=1e-5)
    assert onnx_cost(result.model).parameters <= onnx_cost(small).parameters


def test_only_layers_that_a_relu_follows_are_rebuilt():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.a, self.b = nn.Conv2d(2, 4, 1), nn.Conv2d(4, 6, 1), nn.Conv2d(6, 4, 1)
            self.tanh, self.out = nn.Conv2d(4, 4, 1), nn.Linear(4, 2)

        def forward(self, x):
            x = torch.relu(self.stem(x))
            x = x + self.b(torch.relu(self.a(x)))
            return self.out(torch.tanh(self.tanh(x)).mean((2, 3)))

    rebuilt, done = rebuild_as_crelu(Residual(), SHAPE)
    assert [layer.layer for layer in done] == ["a"]
    assert rebuilt(torch.zeros(2, *SHAPE)).shape == (2, 2)
    for name in ("stem", "tanh", "b"):
        with pytest.raises(NetworkError, match=f"layer '{name}' cannot be rebuilt"):
            rebuild_as_crelu(Residual(), SHAPE, [name])


def test_nearly_opposite_filters_lose_little():
    network = signed_pairs(noise=0.005)
    rebuilt, done = rebuild_as_crelu(network, SHAPE)
    assert all(-1 < layer.mean_cosine < -0.9 for layer in done)
    images = torch.randn(64, *SHAPE)
    with torch.no_grad():
        outputs = network(images)
        assert (rebuilt(images) - outputs).square().mean() < 0.05 * outputs.var(0).mean()


def test_report_stands_beside_random_filters():
    first, second = phase_report(signed_pairs(noise=0.005), seed=1)
    assert (first.layer, first.filters, second.filters) == ("0", 8, 6)
    assert first.mean < -0.9 < first.random < 0
    assert sum(first.counts) == 8
    assert sum(first.random_counts) == pytest.approx(8)
    assert first.counts[0] >= 6
    random = nn.Sequential(nn.Conv2d(2, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3))
    assert all(layer.mean == pytest.approx(layer.random, abs=0.1) for layer in phase_report(random))
    assert phase_report(nn.Linear(2, 2)) == []


def test_keeping_one_of_each_pair_beats_chance():
    # Inputs whose sign says nothing: filters of a pair respond alike on the mean over positions, so that one of each
    # pair tells all that both do. What is left is fitted anew, for half of the sum is missing.
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3, bias=False), nn.ReLU(), nn.AvgPool2d(78), nn.Flatten(), nn.Linear(16, 4)
    )
    with torch.no_grad():
        network[0].weight[8:] = -network[0].weight[:8] * (0.9 + 0.2 * torch.rand(8, 1, 1, 1))
        # Noise, each image coloured by a kernel of its own.
        noise, kernels = torch.randn(1, 256, 82, 82), torch.randn(256, 1, 3, 3)
        images = nn.functional.conv2d(noise, kernels, groups=256).transpose(0, 1)
        features = network[:4](images)
        target = features[:, :8] + features[:, 8:]
    errors = {}
    for method in ("crelu-redundancy", "random"):
        losses = []
        settings = PruneSettings(method=method, ratio=0.5, of="channels")
        for seed in range(3 if method == "random" else 1):
            result = prune(network, (1, 80, 80), settings, None, seed=seed)
            assert (method == "random") or [layer["layer"] for layer in result.details["phases"]] == ["0"]
            kept = features[:, torch.from_numpy(result.keep)].double()
            kept = torch.cat([kept, torch.ones(len(kept), 1).double()], 1)
            fitted = torch.linalg.lstsq(kept[:128], target[:128].double()).solution
            losses.append((kept[128:] @ fitted - target[128:]).square().mean().item())
        errors[method] = losses
    assert max(errors["crelu-redundancy"]) < 0.7 * min(errors["random"])
