"""Sparse structure selection: learnt scales of structures, which a proximal gradient drives to exact zeros."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from compress.channels.groups import Groups
from compress.errors import NetworkError
from compress.prune.gates import Gated, attach_gates, channel_gates, detach_gates, ends_of, scaled_rows
from compress.prune.groupings import kernel_weights
from compress.prune.masks import ChannelMask
from compress.prune.regularizers import Regularizer, regularizers
from compress.prune.regularizers.ssl import branches_of
from compress.train.hooks import Hook


class Scales(nn.Module):
    """One factor a structure, 1 to begin with."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(size))

    def forward(self) -> Tensor:
        """Returns the factors, [size]."""
        return self.scale


@dataclass(frozen=True)
class _Structures:
    """What is scaled.

    Attributes:
        gated: the parameters that are scaled.
        size: how many scales.
        units: whether scale u is that of unit u.
        gone: the weights that mean nothing where a scale is zero.
    """

    gated: tuple[Gated, ...]
    size: int
    units: bool = False
    gone: tuple[Gated, ...] = ()


class _SparseStructures(Hook):
    """Attaches the scales, and trains them in the optimizer's place."""

    def __init__(self, groups: Groups, structures: _Structures, strength: float, momentum: float) -> None:
        self._groups, self._structures = groups, structures
        self._strength, self._momentum = strength, momentum
        self._velocity = torch.zeros(structures.size)
        self._gradient: Tensor | None = None
        self._scales: Scales | None = None

    def attach(self, model: nn.Module) -> None:
        self._scales = Scales(self._structures.size)
        attach_gates(model, self._scales, self._structures.gated)

    def detach(self, model: nn.Module) -> None:
        assert self._scales is not None
        detach_gates(model, self._structures.gated)
        alive = self._scales.scale.detach().cpu().numpy() != 0
        if self._structures.units:
            ChannelMask(self._groups, alive).apply(model)
        with torch.no_grad():
            for gone in self._structures.gone:
                rows = torch.from_numpy(np.flatnonzero(~alive[gone.gate]))
                weight = model.get_parameter(gone.parameter)
                weight.index_fill_(gone.axis, rows.to(weight.device), 0)
        self._scales = None

    def after_backward(self, model: nn.Module) -> None:
        assert self._scales is not None
        # Without a gradient the optimizer, its momentum and its weight decay leave the scales alone.
        self._gradient, self._scales.scale.grad = self._scales.scale.grad, None

    def after_step(self, model: nn.Module, learning_rate: float) -> None:
        assert self._scales is not None
        if self._gradient is None:
            return
        scale = self._scales.scale
        velocity = self._velocity.to(scale.device)
        with torch.no_grad():
            moved = scale - learning_rate * self._gradient
            shrunk = nn.functional.softshrink(moved, learning_rate * self._strength)
            velocity = shrunk - scale + self._momentum * velocity
            scale.copy_(shrunk + self._momentum * velocity)
        self._velocity = velocity

    def state_dict(self) -> Mapping[str, Tensor]:
        return {"velocity": self._velocity}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._velocity = state["velocity"].clone()


@regularizers.register("sss")
@dataclass(frozen=True)
class SparseStructureSelection(Regularizer):
    """Scales of channels, of the groups of grouped convolutions, or of residual branches, driven to exact zeros.

    R = Σ |s|, minimised by accelerated proximal gradient: z = s − η ∂L/∂s; v ← S_{ηλ}(z) − s + μ v;
    s ← S_{ηλ}(z) + μ v, with the soft threshold S and the learning rate η. Works without BatchNorm.

    Args:
        scaled: `channels`; `groups` of grouped convolutions; `blocks`, the branches of residual sums.
        momentum: μ.

    Raises:
        NetworkError: if the network has nothing to scale.

    Source: Z. Huang, N. Wang, "Data-Driven Sparse Structure Selection for Deep Neural Networks", 2018, equations (9) to
        (11) in the form of the appendix. There a scale stands behind a layer; here it multiplies the parameters that
        make the layer's output, and is baked into them in the end. A whole group of a convolution leaves the ONNX file,
        by the rewriter; a torch convolution has groups of one size and keeps its zeros.
    """

    scaled: Literal["channels", "groups", "blocks"] = "channels"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9

    def bind(self, network: nn.Module, groups: Groups, strength: float) -> Hook:
        """Returns the scales of the network's structures, and what trains them."""
        if self.scaled == "channels":
            structures = _channels(groups)
        else:
            structures = (_groups if self.scaled == "groups" else _blocks)(network, groups)
        return _SparseStructures(groups, structures, strength, self.momentum)


def _channels(groups: Groups) -> _Structures:
    return _Structures(channel_gates(groups), groups.size, units=True)


def _groups(network: nn.Module, groups: Groups) -> _Structures:
    """Scales what one group of a grouped convolution produces, together."""
    graph = groups.trace.graph
    parameters = {name for name, _ in network.named_parameters()}
    gated: list[Gated] = []
    gone: list[Gated] = []
    count = 0
    for node in graph.nodes:
        number = int(node.attributes.get("group", 1))
        weight = node.input(1)
        if node.operator != "Conv" or number == 1 or weight not in parameters or graph.shapes[weight][1] == 1:
            continue
        of_row = count + np.arange(graph.shapes[weight][0]) // (graph.shapes[weight][0] // number)
        gated += [Gated(name, 0, of_row) for name in scaled_rows(graph, node, parameters)]
        gone.append(Gated(weight, 0, of_row))
        count += number
    if count == 0:
        raise NetworkError("the network has no grouped convolution to scale", next_step="set scaled = 'channels'")
    return _Structures(tuple(gated), count, gone=tuple(gone))


def _blocks(network: nn.Module, groups: Groups) -> _Structures:
    """Scales what each residual branch adds."""
    graph = groups.trace.graph
    parameters = {name for name, _ in network.named_parameters()}
    names = {weight.name for weight in kernel_weights(network, linear=False)}
    gated: list[Gated] = []
    gone: list[Gated] = []
    count = 0
    for operand, branch in branches_of(graph, names):
        rows, axis = ends_of(graph, operand, parameters)
        for index, name in enumerate(rows):
            along = axis if index == 0 else 0
            gated.append(Gated(name, along, np.full(graph.shapes[name][along], count)))
        if rows:
            gone += [Gated(name, 0, np.full(graph.shapes[name][0], count)) for name in branch]
            count += 1
    if count == 0:
        raise NetworkError("the network has no residual branch to scale", next_step="set scaled = 'channels'")
    return _Structures(tuple(gated), count, gone=tuple(gone))
