import copy

import pytest
import torch
from torch import nn

from compress.channels.plan import Plan
from compress.compact import apply_plan, plan_of_zeros
from compress.errors import ModelFileError, NetworkError
from compress.torch_graph import trace_network


class Named(nn.Module):
    """A module under the name ``m``."""

    def __init__(self, module):
        super().__init__()
        self.m = module

    def forward(self, x):
        return self.m(x)


KEEP = (0, 2)


@pytest.mark.parametrize(
    ("module", "keep", "attributes", "example"),
    [
        (nn.Conv2d(3, 4, 1), {"weight": {0: KEEP, 1: KEEP}, "bias": {0: KEEP}},
         {"in_channels": 2, "out_channels": 2, "groups": 1}, (1, 2, 4, 4)),
        (nn.Conv2d(4, 8, 1, groups=2, bias=False), {"weight": {0: (0, 1, 4, 5), 1: (1,)}},
         {"in_channels": 2, "out_channels": 4, "groups": 2}, (1, 2, 4, 4)),
        (nn.Conv2d(3, 3, 3, groups=3), {"weight": {0: KEEP}, "bias": {0: KEEP}},
         {"in_channels": 2, "out_channels": 2, "groups": 2}, (1, 2, 4, 4)),
        (nn.Conv2d(3, 6, 3, groups=3), {"weight": {0: (0, 1, 4, 5)}, "bias": {0: (0, 1, 4, 5)}},
         {"in_channels": 2, "out_channels": 4, "groups": 2}, (1, 2, 4, 4)),
        (nn.ConvTranspose2d(3, 4, 2), {"weight": {0: KEEP, 1: KEEP}, "bias": {0: KEEP}},
         {"in_channels": 2, "out_channels": 2, "groups": 1}, (1, 2, 4, 4)),
        (nn.ConvTranspose2d(3, 3, 2, groups=3), {"weight": {0: KEEP}, "bias": {0: KEEP}},
         {"in_channels": 2, "out_channels": 2, "groups": 2}, (1, 2, 4, 4)),
        (nn.Linear(3, 4), {"weight": {0: KEEP, 1: KEEP}, "bias": {0: KEEP}},
         {"in_features": 2, "out_features": 2}, (1, 2)),
        (nn.BatchNorm2d(3), {n: {0: KEEP} for n in ("weight", "bias", "running_mean", "running_var")},
         {"num_features": 2}, (1, 2, 4, 4)),
        (nn.BatchNorm2d(3, affine=False), {n: {0: KEEP} for n in ("running_mean", "running_var")},
         {"num_features": 2}, (1, 2, 4, 4)),
        (nn.PReLU(3), {"weight": {0: KEEP}}, {"num_parameters": 2}, (1, 2, 4, 4)),
        (nn.Embedding(5, 3), {"weight": {1: KEEP}}, {"num_embeddings": 5, "embedding_dim": 2}, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)  # fmt: skip
def test_modules_know_their_new_sizes_and_run(module, keep, attributes, example):
    network = Named(copy.deepcopy(module)).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    apply_plan(network, Plan({f"m.{name}": axes for name, axes in keep.items()}))
    assert {name: getattr(network.m, name) for name in attributes} == attributes
    for name, axes in keep.items():
        expected = before[f"m.{name}"]
        for axis, index in axes.items():
            expected = expected.index_select(axis, torch.tensor(index))
        assert torch.equal(network.state_dict()[f"m.{name}"], expected)
    x = torch.tensor([[1, 4]]) if example is None else torch.randn(example)
    network(x)
    repr(network)


def test_parameters_stay_parameters_and_frozen_ones_frozen():
    network = Named(nn.Linear(3, 4))
    network.m.bias.requires_grad_(False)
    apply_plan(network, Plan({"m.weight": {0: KEEP}, "m.bias": {0: KEEP}}))
    assert isinstance(network.m.weight, nn.Parameter)
    assert (network.m.weight.requires_grad, network.m.bias.requires_grad) == (True, False)


def test_tied_weights_stay_tied():
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    network[1].weight = network[0].weight
    apply_plan(network, Plan({"0.weight": {0: KEEP, 1: KEEP}}))
    assert network[0].weight is network[1].weight
    assert [(layer.in_features, layer.out_features) for layer in network] == [(2, 2), (2, 2)]


@pytest.mark.parametrize(
    ("keep", "kind", "message"),
    [
        ({"m.weight": {0: (0,)}, "n.weight": {0: (0,)}}, NetworkError, "names parameter 'n.weight'"),
        ({"m.weight": {0: (7,)}}, ModelFileError, "does not fit parameter 'm.weight'"),
    ],
)
def test_a_plan_that_does_not_fit_changes_nothing(keep, kind, message):
    network = Named(nn.Linear(3, 4))
    with pytest.raises(kind, match=message) as caught:
        apply_plan(network, Plan(keep))
    assert "\n" not in str(caught.value)
    assert network.m.weight.shape == (4, 3)


def test_plan_of_zeros_folds_nothing_and_takes_no_small_weights():
    network = nn.Sequential(nn.Conv2d(2, 4, 1), nn.Conv2d(4, 2, 1))
    with torch.no_grad():
        network[0].weight[1:] = 0
        network[0].bias[:] = torch.tensor([0.0, 0.0, 1.0, 1e-20])
    assert plan_of_zeros(network, (2, 4, 4)).keep == {
        "0.weight": {0: (0, 2, 3)}, "0.bias": {0: (0, 2, 3)}, "1.weight": {1: (0, 2, 3)}
    }  # fmt: skip


def test_buffers_that_carry_channels_are_cut_too():
    network = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1)).eval()
    with torch.no_grad():
        network[2].weight[:, 1] = 0
    plan = plan_of_zeros(network, (2, 4, 4))
    x = torch.randn(2, 2, 4, 4)
    expected = network(x)
    apply_plan(network, plan)
    assert network[1].running_mean.shape == (2,)
    assert torch.allclose(network(x), expected, atol=1e-6)


def test_an_unused_parameter_is_named():
    network = Named(nn.Conv2d(2, 3, 1))
    network.spare = nn.Parameter(torch.zeros(3))
    with pytest.raises(NetworkError, match="parameter 'spare' has no counterpart"):
        trace_network(network, (2, 4, 4))
