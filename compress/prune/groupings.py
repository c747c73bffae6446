"""How weights are seen as groups of kernels, so that a penalty on them is a few lines.

A weight W[O, I, kH, kW] holds O·I kernels. Groupings: `filter`, each kernel is a group; `neuron`, the kernels W[o, :]
into an output channel; `feature`, the kernels W[:, i] out of an input channel; `shape`, the weights W[:, i, x, y];
`stripe`, the weights W[o, :, x, y]; `channel`, the rows of all layers that produce one channel together, where a
residual sum couples them.

Source: K. Mitsuno, "BonsaiNet", 2022, §2.3.1, figure 2.3, and equation (3.1) for `feature`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from compress.channels.groups import ChannelGroup, Groups
from compress.errors import NetworkError
from compress.train.hooks import Hook

Grouping = Literal["filter", "neuron", "feature", "channel"]
Parts = Grouping | Literal["shape", "stripe"]
Function = Callable[[Tensor], Tensor]


class Layer(Protocol):
    """Weights that are grouped together."""

    def sums(self, model: nn.Module, inner: Function) -> Tensor:
        """Returns Σ_k r(W_{g,k}) for each group g of its kernels k.

        Args:
            model: whose weights count.
            inner: r; maps […, weights of a kernel] to […].

        Returns:
            Float32 [group].
        """


@dataclass(frozen=True)
class KernelWeight:
    """A weight that is made of kernels.

    Attributes:
        name: of the parameter.
        groups: of a grouped convolution; an output channel reads only the input channels of its own group.
        transposed: whether input channels come first, as in a transposed convolution.
    """

    name: str
    groups: int
    transposed: bool

    def view(self, model: nn.Module, grouping: Parts) -> Tensor:
        """Returns the weight of `model` as groups of kernels. Shape: [group, kernel, weight of the kernel]."""
        return self.arrange(model.get_parameter(self.name), grouping)

    def arrange(self, weight: Tensor, grouping: Parts) -> Tensor:
        """Returns a tensor of the weight's shape as groups of kernels; see `view`."""
        # [first, second, …] → [g, first/g, second, P]
        kernels: Tensor = weight.reshape(self.groups, weight.shape[0] // self.groups, weight.shape[1], -1)
        if self.transposed:
            kernels = kernels.transpose(1, 2)
        if grouping == "filter":
            return kernels.flatten(0, 2).unsqueeze(1)
        if grouping == "shape":
            return kernels.permute(0, 2, 3, 1).flatten(0, 2).unsqueeze(2)
        if grouping == "stripe":
            return kernels.permute(0, 1, 3, 2).flatten(0, 2).unsqueeze(2)
        if grouping == "feature":
            kernels = kernels.transpose(1, 2)
        return kernels.flatten(0, 1)


@dataclass(frozen=True)
class OneWeight:
    """One weight, grouped by itself."""

    weight: KernelWeight
    grouping: Parts

    def sums(self, model: nn.Module, inner: Function) -> Tensor:
        """See `Layer.sums`."""
        return inner(self.weight.view(model, self.grouping).float()).sum(1)


@dataclass(frozen=True)
class Part:
    """One axis of one parameter, and the group of each of its positions; -1: of none."""

    name: str
    axis: int
    unit: Tensor


@dataclass(frozen=True)
class CoupledChannels:
    """The weights of several layers that belong to the same channels."""

    parts: tuple[Part, ...]
    size: int

    def sums(self, model: nn.Module, inner: Function) -> Tensor:
        """See `Layer.sums`."""
        total: Tensor | None = None
        for part in self.parts:
            weight = model.get_parameter(part.name).float()
            unit = part.unit.to(weight.device)
            rows = weight.movedim(part.axis, 0)
            rows = rows.reshape(rows.shape[0], rows.shape[1] if rows.ndim > 1 else 1, -1)
            mine = unit >= 0
            start = torch.zeros(self.size, device=weight.device) if total is None else total
            total = start.index_add(0, unit[mine], inner(rows[mine]).sum(1))
        assert total is not None
        return total


@dataclass(frozen=True)
class Term:
    """One summand of a penalty: factor(l) · Σ_g outer(Σ_k inner(W_{g,k})), summed over layers l.

    Attributes:
        inner: r; maps […, weights of a kernel] to […].
        outer: maps the sums of the groups to their penalties, elementwise.
        factor: from the layer's number and the number of layers to its factor.
    """

    inner: Function
    outer: Function
    factor: Callable[[int, int], float] = lambda _index, _count: 1.0


@dataclass(frozen=True)
class GroupedPenalty(Hook):
    """λ Σ_l R(W^l).

    Args:
        layers: that it acts on.
        strength: λ.
        terms: R is their sum.
    """

    layers: tuple[Layer, ...]
    strength: float
    terms: tuple[Term, ...]

    def penalty(self, model: nn.Module) -> Tensor:
        """Returns the scalar to add to the loss."""
        values = [
            term.factor(index, len(self.layers)) * term.outer(layer.sums(model, term.inner)).sum()
            for index, layer in enumerate(self.layers)
            for term in self.terms
        ]
        return self.strength * torch.stack(values).sum()


def squares(kernels: Tensor) -> Tensor:
    """Σ w² of each kernel."""
    return kernels.square().sum(-1)


def magnitudes(kernels: Tensor) -> Tensor:
    """Σ |w| of each kernel."""
    return kernels.abs().sum(-1)


def same(sums: Tensor) -> Tensor:
    """Returns the sums as they are."""
    return sums


def root(epsilon: float) -> Function:
    """Returns √(· + ε), whose gradient is bounded at zero."""
    return lambda sums: sums.add(epsilon).sqrt()


def layers_of(network: nn.Module, groups: Groups, grouping: Grouping, *, linear: bool) -> tuple[Layer, ...]:
    """Returns the weights that a penalty with this grouping acts on.

    Args:
        network: that will be trained.
        groups: its channel groups; grouping `channel` takes all weights that produce channels.
        grouping: see the module.
        linear: whether linear layers count as 1×1 convolutions.

    Raises:
        NetworkError: if there is none.
    """
    weights = kernel_weights(network, linear)
    if grouping != "channel":
        return tuple(OneWeight(weight, grouping) for weight in weights)
    names = {weight.name for weight in weights}
    return tuple(coupled for group in groups.groups if (coupled := coupled_channels(group, {"out"}, names)).parts)


def coupled_channels(group: ChannelGroup, roles: set[str], names: set[str]) -> CoupledChannels:
    """Returns the weights of one channel group, in some roles.

    Args:
        group: whose channels.
        roles: `out` for the rows that produce its channels, `in` for the columns that read them.
        names: of the parameters that count.
    """
    parts = [
        Part(member.parameter, member.axis, torch.from_numpy(member.unit.copy()))
        for member in group.members
        if member.role in roles and member.parameter in names
    ]
    return CoupledChannels(tuple(parts), group.size)


def kernel_weights(network: nn.Module, linear: bool) -> tuple[KernelWeight, ...]:
    """Returns the weights of all convolutions, and of linear layers where `linear`; biases have no kernels.

    Raises:
        NetworkError: if there is none.
    """
    found = []
    for path, module in network.named_modules():
        name = f"{path}.weight" if path else "weight"
        if isinstance(module, nn.modules.conv._ConvNd):
            found.append(KernelWeight(name, module.groups, module.transposed))
        elif linear and isinstance(module, nn.Linear):
            found.append(KernelWeight(name, 1, False))
    if not found:
        raise NetworkError(
            "the network has no convolution that this regularizer could act on",
            next_step="choose another regularizer" if linear else "set its option linear = true",
        )
    return tuple(found)
