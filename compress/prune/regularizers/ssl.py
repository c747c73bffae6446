"""Structured sparsity learning: the group lasso over filters, channels, filter shapes, and whole residual branches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from compress.channels.graph import Graph, Node
from compress.channels.groups import Groups
from compress.errors import NetworkError
from compress.prune.groupings import (
    Function,
    GroupedPenalty,
    OneWeight,
    Term,
    kernel_weights,
    root,
    squares,
)
from compress.prune.regularizers import Regularizer, regularizers


@dataclass(frozen=True)
class StructuredSparsity(Regularizer):
    """What the four penalties share.

    Args:
        epsilon: added below the square root, whose gradient has no bound at zero.

    Source: W. Wen, C. Wu, Y. Wang, Y. Chen, H. Li, "Learning Structured Sparsity in Deep Neural Networks", 2016, §3.1
        and §3.2. Over convolutions, as there.
    """

    epsilon: Annotated[float, Field(gt=0, le=1)] = 1e-8

    def _penalty(self, network: nn.Module, grouping: str, strength: float) -> GroupedPenalty:
        layers = tuple(OneWeight(weight, grouping) for weight in kernel_weights(network, linear=False))  # type: ignore[arg-type]
        return GroupedPenalty(layers, strength, (Term(squares, root(self.epsilon)),))


@regularizers.register("ssl-filter")
@dataclass(frozen=True)
class FilterSparsity(StructuredSparsity):
    """The group lasso over filters: Σ_o ‖W[o, :, :, :]‖₂, equation (2)."""

    def bind(self, network: nn.Module, groups: Groups, strength: float) -> GroupedPenalty:
        """Returns λ R over the network's convolutions."""
        return self._penalty(network, "neuron", strength)


@regularizers.register("ssl-channel")
@dataclass(frozen=True)
class ChannelSparsity(StructuredSparsity):
    """The group lasso over input channels: Σ_i ‖W[:, i, :, :]‖₂, equation (2)."""

    def bind(self, network: nn.Module, groups: Groups, strength: float) -> GroupedPenalty:
        """Returns λ R over the network's convolutions."""
        return self._penalty(network, "feature", strength)


@regularizers.register("ssl-shape")
@dataclass(frozen=True)
class ShapeSparsity(StructuredSparsity):
    """The group lasso over filter shapes: Σ_{i,x,y} ‖W[:, i, x, y]‖₂, equation (3)."""

    def bind(self, network: nn.Module, groups: Groups, strength: float) -> GroupedPenalty:
        """Returns λ R over the network's convolutions."""
        return self._penalty(network, "shape", strength)


@dataclass(frozen=True)
class Branch:
    """The convolutions of one residual branch: one group."""

    weights: tuple[str, ...]

    def sums(self, model: nn.Module, inner: Function) -> Tensor:
        """See `groupings.Layer.sums`."""
        parts = [inner(model.get_parameter(name).float().reshape(1, -1)) for name in self.weights]
        return torch.cat(parts).sum(0, keepdim=True)


@regularizers.register("ssl-depth")
@dataclass(frozen=True)
class DepthSparsity(StructuredSparsity):
    """The group lasso over whole residual branches: Σ_b ‖W^b‖₂, equation (4); a branch that becomes zero goes.

    A branch is what leads to one operand of a sum alone, and has more convolutions than what leads to the other.

    Raises:
        NetworkError: if the network has no residual branch.
    """

    def bind(self, network: nn.Module, groups: Groups, strength: float) -> GroupedPenalty:
        """Returns λ R over the network's residual branches."""
        names = {weight.name for weight in kernel_weights(network, linear=False)}
        branches = residual_branches(groups.trace.graph, names)
        if not branches:
            raise NetworkError("the network has no residual branch", next_step="choose regularizer 'ssl-filter'")
        layers = tuple(Branch(weights) for weights in branches)
        return GroupedPenalty(layers, strength, (Term(squares, root(self.epsilon)),))


def residual_branches(graph: Graph, weights: set[str]) -> list[tuple[str, ...]]:
    """Returns the weights of each residual branch of a graph, in the order of its sums."""
    return [branch for _, branch in branches_of(graph, weights)]


def branches_of(graph: Graph, weights: set[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Returns for each residual branch the operand that it adds and its weights, in the order of the sums."""
    producer = {name: node for node in graph.nodes for name in node.outputs if name}
    ancestors: dict[str, frozenset[int]] = {}

    def before(name: str) -> frozenset[int]:
        return ancestors.get(name, frozenset())

    position = {id(node): index for index, node in enumerate(graph.nodes)}
    found = []
    for node in graph.nodes:
        own = frozenset({position[id(node)]}).union(*(before(name) for name in node.inputs))
        ancestors |= dict.fromkeys(node.outputs, own)
        operands = [name for name in node.inputs if name in producer or name in graph.inputs]
        if node.operator != "Add" or len(operands) != 2:
            continue
        first, second = (before(name) for name in operands)
        sides = [_weights(graph.nodes, first - second, weights), _weights(graph.nodes, second - first, weights)]
        (_, shorter), longer = sorted(zip(operands, sides, strict=True), key=lambda side: len(side[1]))
        if len(longer[1]) > len(shorter):
            found.append(longer)
    return found


def _weights(nodes: tuple[Node, ...], members: frozenset[int], weights: set[str]) -> tuple[str, ...]:
    return tuple(name for index in sorted(members) for name in nodes[index].inputs if name in weights)
