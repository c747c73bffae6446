"""Layers rebuilt with half their filters: a filter stands for its opposite too, by the negative of its response.

Where φ_j = −a φ_i, ReLU(φ_j x) = a ReLU(−φ_i x): one filter, both signs of its response before the ReLU, and the
columns of the next layer in another order do what two filters did. Pairs that are only nearly opposite are replaced all
the same; training mends that.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from compress.architectures.crelu import BothPhases
from compress.channels.graph import Array, Graph
from compress.channels.groups import ChannelGroup, Groups
from compress.channels.trace import trace
from compress.errors import NetworkError, suggestion
from compress.prune.phases import pairs
from compress.torch_graph import trace_network

_BN = ("scale", "shift", "mean", "variance")
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class RebuiltLayer:
    """One layer that was rebuilt.

    Attributes:
        layer: path of the convolution or linear layer.
        before: its filters.
        after: half of them, rounded up.
        mean_cosine: between the two filters of a pair, BatchNorm's scale included; −1 if nothing was lost.
    """

    layer: str
    before: int
    after: int
    mean_cosine: float


@dataclass(frozen=True)
class _Site:
    """A layer, the BatchNorm behind it if there is one, and the layers that read its ReLU."""

    layer: str
    norm: str | None
    readers: tuple[str, ...]


def rebuild_as_crelu(
    network: nn.Module, input_shape: tuple[int, ...], layers: Sequence[str] | None = None
) -> tuple[nn.Module, list[RebuiltLayer]]:
    """Returns a copy of a network in which layers before a ReLU compute half their filters and both phases of each.

    Filters are paired with their opposites, the most opposite first; the one of larger norm stays. The layer, or the
    BatchNorm behind it, becomes a `Sequential` of itself and `BothPhases`, so that the network's own ReLU is a CReLU;
    `forward` needs no change.

    Args:
        network: it is not changed.
        input_shape: of one example, without the batch axis.
        layers: paths of the layers; default: all that can be rebuilt.

    Returns:
        The network, in evaluation mode, and what was done, in the order of the layers.

    Raises:
        NetworkError: if a layer cannot be rebuilt, or none can.

    Source: W. Shang, K. Sohn, D. Almeida, H. Lee, "Understanding and Improving Convolutional Neural Networks via
        Concatenated Rectified Linear Units", 2016. There the network is trained as CReLU from the start; starting from
        a trained one is ours.
    """
    traced = trace_network(network, input_shape)
    groups = Groups(trace(traced.graph, fold=False), traced.parameters)
    sites = {site.layer: site for group in groups.groups if (site := _site(network, traced.graph, group)) is not None}
    for name in layers or ():
        if name not in sites:
            raise NetworkError(
                f"layer {name!r} cannot be rebuilt as CReLU",
                allowed="a layer with a ReLU behind it or its BatchNorm, whose channels only other layers read",
                next_step=suggestion(name, sites) if sites else "this network has none",
            )
    chosen = [site for name, site in sites.items() if layers is None or name in layers]
    if not chosen:
        raise NetworkError("no layer of this network can be rebuilt as CReLU", allowed="layers that a ReLU follows")
    rebuilt = copy.deepcopy(network).eval()
    # What it must compute: the same network, each filter that goes being the exact negative of the one that stays.
    model = copy.deepcopy(network).eval()
    done = [_rebuild(rebuilt, model, site) for site in chosen]
    images = torch.randn(4, *input_shape, generator=torch.Generator().manual_seed(0))
    images = images.to(next(network.parameters()).device)
    with torch.no_grad():
        found, expected = rebuilt(images), model(images)
    if not float((found - expected).abs().max()) <= _TOLERANCE * max(1.0, float(expected.abs().max())):
        raise NetworkError(
            "the network rebuilt as CReLU does not compute what its filters' pairs do",
            next_step="name fewer layers",
        )
    return rebuilt, done


def _site(network: nn.Module, graph: Graph, group: ChannelGroup) -> _Site | None:
    """Returns where a group can be rebuilt, or None: one layer, at most one BatchNorm, ReLU, layers that read it."""
    if len(group.producers) != 1:
        return None
    weight = group.producers[0]
    path = weight.parameter.rpartition(".")[0]
    layer = network.get_submodule(path)
    every = np.arange(group.size)
    if not _plain(layer) or weight.unit.tolist() != every.tolist() or weight.axis != 0:
        return None
    norms, readers = set(), []
    for member in group.members:
        owner = member.parameter.rpartition(".")[0]
        if member is weight or (owner == path and member.role == "shift"):
            continue
        each = len(member.unit) // group.size
        if member.role in _BN:
            norms.add(owner)
            continue
        alone = np.array_equal(member.unit, np.repeat(every, each))
        if member.role != "in" or not alone or not _plain(network.get_submodule(owner)):
            return None
        readers.append(owner)
    norm = next(iter(norms), None)
    if len(norms) > 1 or (
        norm is not None and not isinstance(network.get_submodule(norm), nn.modules.batchnorm._BatchNorm)
    ):
        return None
    return _Site(path, norm, tuple(readers)) if _relu_follows(graph, weight.parameter, norm) else None


def _plain(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or (
        isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and module.groups == 1
    )


def _relu_follows(graph: Graph, weight: str, norm: str | None) -> bool:
    """Tells whether all that reads a layer, or the BatchNorm behind it, is a ReLU."""
    transposed = {node.outputs[0] for node in graph.nodes if node.operator == "Transpose" and weight in node.inputs}
    used = [node for node in graph.nodes if weight in node.inputs or transposed & set(node.inputs)]
    used = [node for node in used if node.operator in ("Conv", "Gemm", "MatMul")]
    if len(used) != 1:
        return False
    name = used[0].outputs[0]
    while True:
        following = [node for node in graph.nodes if name in node.inputs]
        own_bias = used[0].operator == "MatMul" and [node.operator for node in following] == ["Add"]
        if own_bias or (norm is not None and [node.operator for node in following] == ["BatchNormalization"]):
            norm = norm if own_bias else None
            name = following[0].outputs[0]
            continue
        return norm is None and bool(following) and all(node.operator == "Relu" for node in following)


def _rebuild(rebuilt: nn.Module, model: nn.Module, site: _Site) -> RebuiltLayer:
    layer = rebuilt.get_submodule(site.layer)
    norm = rebuilt.get_submodule(site.norm) if site.norm is not None else None
    filters = _effective(layer, norm)
    found = pairs(filters)
    stays = torch.tensor([first for first, _ in found])
    partners = torch.tensor([first if second is None else second for first, second in found])
    norms = np.linalg.norm(filters, axis=1)
    ratio = [0.0 if j is None or norms[i] == 0 else float(norms[j] / norms[i]) for i, j in found]
    _mirror(model, site, found, ratio)
    size = len(filters)
    for module in (layer, norm) if norm is not None else (layer,):
        _select(module, stays)
    for reader in dict.fromkeys(site.readers):
        _reorder(rebuilt.get_submodule(reader), size, stays, partners, torch.tensor(ratio))
    last = site.layer if site.norm is None else site.norm
    parent, _, name = last.rpartition(".")
    setattr(rebuilt.get_submodule(parent), name, nn.Sequential(norm or layer, BothPhases()).eval())
    angles = [
        float(filters[i] @ filters[j] / (norms[i] * norms[j])) for i, j in found if j is not None and norms[j] > 0
    ]
    return RebuiltLayer(site.layer, size, len(found), float(np.mean(angles)) if angles else 0.0)


def _effective(layer: nn.Module, norm: nn.Module | None) -> Array:
    """Returns the filters, each scaled as its BatchNorm does, as rows [C, D]."""
    rows: Array = layer.get_parameter("weight").detach().cpu().double().flatten(1).numpy()
    if norm is None:
        return rows
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight.detach().double()
    effective: Array = rows * scale.cpu().numpy()[:, None]
    return effective


def _mirror(model: nn.Module, site: _Site, found: list[tuple[int, int | None]], ratio: list[float]) -> None:
    """Makes each filter that goes −a times the one that stays."""
    layer = model.get_submodule(site.layer)
    norm = model.get_submodule(site.norm) if site.norm is not None else None
    scaled = [norm] if norm is not None else [layer]
    copied = [layer] if norm is not None else []
    with torch.no_grad():
        for (i, j), a in zip(found, ratio, strict=True):
            if j is not None:
                for module in copied:
                    for tensor in module.parameters():
                        tensor[j] = tensor[i]
                for module in scaled:
                    for tensor in module.parameters():
                        tensor[j] = -a * tensor[i]
                    for buffer in module.buffers():
                        if buffer.ndim:
                            buffer[j] = buffer[i]


def _select(module: nn.Module, index: Tensor) -> None:
    for name, parameter in list(module.named_parameters(recurse=False)):
        setattr(module, name, nn.Parameter(parameter.detach()[index].clone(), parameter.requires_grad))
    for name, buffer in list(module.named_buffers(recurse=False)):
        if buffer.ndim:
            setattr(module, name, buffer[index].clone())
    for size in ("out_channels", "out_features", "num_features"):
        if hasattr(module, size):
            setattr(module, size, len(index))


def _reorder(reader: nn.Module, size: int, stays: Tensor, partners: Tensor, ratio: Tensor) -> None:
    """Reads the responses that stay, then their negatives in place of the partners."""
    weight = reader.get_parameter("weight")
    blocks = weight.detach().reshape(weight.shape[0], size, -1, *weight.shape[2:])  # [O, C, positions of a channel, …]
    shape = [1, len(ratio)] + [1] * (blocks.ndim - 2)
    negative = blocks[:, partners] * ratio.to(blocks).reshape(shape)
    new = torch.cat([blocks[:, stays], negative], 1).flatten(1, 2)
    reader.weight = nn.Parameter(new.clone(), weight.requires_grad)
    setattr(reader, "in_features" if isinstance(reader, nn.Linear) else "in_channels", new.shape[1])
