"""The product's central claim: masked torch = compacted torch = exported ONNX = rewritten ONNX."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from compress.architectures import NetworkSpec, build_network, networks
from compress.channels.groups import Groups
from compress.channels.plan import Plan
from compress.channels.trace import trace
from compress.compact import apply_plan, plan_of_zeros
from compress.onnx_io.cost import onnx_cost
from compress.onnx_io.metadata import strip_metadata
from compress.onnx_io.session import session
from compress.prune import ChannelMask
from compress.rewrite import rewrite
from compress.torch_graph import to_onnx, trace_network

TOLERANCE = 1e-5

# The smallest size at which each network still has all of its structure.
SETTINGS = {
    "lenet-300-100": ({}, (1, 12, 12)),
    "lenet-5-caffe": ({}, (1, 28, 28)),
    "planting-cnn": ({"channels": [6, 5, 4, 7, 8, 6]}, (3, 32, 32)),
    "vgg14-bn": ({"width": 8}, (3, 32, 32)),
    "vgg16-bn": ({"width": 8}, (3, 32, 32)),
    "alexnet": ({"width": 8}, (3, 64, 64)),
    "densenet40": ({"growth": 4, "stem": 8}, (3, 8, 8)),
    "mobilenetv2": ({"multiplier": 0.25}, (3, 16, 16)),
    "resnet18": ({"width": 8}, (3, 16, 16)),
    "resnet34": ({"width": 4}, (3, 8, 8)),
    "resnet50": ({"width": 4}, (3, 8, 8)),
    "resnet101": ({"width": 4}, (3, 8, 8)),
    "shufflenetv2": ({"widths": [8, 16, 24, 32, 40]}, (3, 16, 16)),
    "squeezenet1.1": ({"width": 16}, (3, 32, 32)),
    "vit-tiny": ({"width": 24, "depth": 2}, (3, 16, 16)),
    "resnet8": ({"width": 8}, (3, 16, 16)),
    "resnet20": ({"width": 8, "shortcut": "A"}, (3, 16, 16)),
    "resnet32": ({"width": 8, "shortcut": "B"}, (3, 8, 8)),
    "resnet44": ({"width": 4}, (3, 8, 8)),
    "resnet56": ({"width": 4}, (3, 8, 8)),
    "resnet110": ({"width": 4}, (3, 8, 8)),
}


def network_of(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    arguments, shape = SETTINGS[name]
    torch.manual_seed(0)
    network = build_network(NetworkSpec(name, {"classes": 10, "in_channels": shape[0], **arguments}, shape))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            # As after a training: no channel is its own mean, none has unit variance.
            nn.init.normal_(module.bias, std=0.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2.0)
    return network.eval(), shape


def mask_aligned(network: nn.Module, shape: tuple[int, ...]) -> None:
    traced = trace_network(network, shape)
    groups = Groups(trace(traced.graph, fold=False), traced.parameters)
    keep = np.random.default_rng(1).random(groups.size) < 0.6
    for part in groups.split(keep):
        part[0] = True
    ChannelMask(groups, keep).apply(network)


def mask_unaligned(network: nn.Module, _: tuple[int, ...]) -> None:
    """Zeroes rows of each layer by itself: what a sum couples is dead only where all of its inputs are."""
    generator = np.random.default_rng(2)
    modules = list(network.modules())
    with torch.no_grad():
        for index, module in enumerate(modules):
            if not isinstance(module, nn.Conv2d | nn.Linear) or module is modules[-1]:
                continue
            rows = 2 + torch.from_numpy(np.flatnonzero(generator.random(module.weight.shape[0] - 2) < 0.7))
            following = modules[index + 1] if index + 1 < len(modules) else None
            for owner in (module, following if isinstance(following, nn.BatchNorm2d) else None):
                for tensor in (owner.weight, owner.bias) if owner is not None else ():
                    if tensor is not None:
                        tensor.index_fill_(0, rows[rows < tensor.shape[0]], 0.0)


def difference(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first - second).max()) / max(1.0, float(np.abs(first).max()))


@pytest.mark.parametrize("mask", [mask_aligned, mask_unaligned], ids=["aligned", "unaligned"])
@pytest.mark.parametrize("name", sorted(networks))
def test_masked_equals_compacted_equals_exported_equals_rewritten(name, mask):
    network, shape = network_of(name)
    mask(network, shape)
    images = torch.randn(3, *shape, generator=torch.Generator().manual_seed(3))
    compacted = copy.deepcopy(network)
    plan = plan_of_zeros(network, shape)
    apply_plan(compacted, plan)
    with torch.inference_mode():
        expected = network(images).numpy()
        from_compacted = compacted(images).numpy()
    assert np.abs(expected).max() > 1e-3, "an output of nothing would prove nothing"
    assert difference(expected, from_compacted) <= TOLERANCE
    before, after = (sum(p.numel() for p in n.parameters()) for n in (network, compacted))
    assert after < before

    exported = to_onnx(network, shape)
    from_exported = session(exported.SerializeToString()).run(None, {"input": images.numpy()})[0]
    assert difference(expected, from_exported) <= TOLERANCE

    result = rewrite(exported)
    from_rewritten = session(result.model.SerializeToString()).run(None, {"input": images.numpy()})[0]
    assert result.proven
    assert difference(expected, from_rewritten) <= TOLERANCE

    # The rewriter, which sees zeros alone, reaches the size of the network that torch had cut.
    reference = rewrite(strip_metadata(to_onnx(compacted, shape)))
    assert result.params_after <= onnx_cost(reference.model).parameters
    assert result.macs_after <= onnx_cost(reference.model).macs


def test_every_registered_network_has_a_setting():
    assert set(networks) == set(SETTINGS)


def test_plan_survives_json():
    network, shape = network_of("resnet8")
    mask_aligned(network, shape)
    plan = plan_of_zeros(network, shape)
    assert Plan.from_dict(plan.to_dict()).keep == plan.keep
    assert plan.keep
