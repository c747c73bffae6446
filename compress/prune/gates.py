"""Gates: factors of whole channels that are learnt beside the weights, and baked into them in the end.

A gate multiplies a channel once, wherever it is made: the rows and biases of the layers that produce it, or, where a
BatchNorm follows at once and would undo that, the BatchNorm's scale and shift. A depthwise weight only passes on what
is gated before it. So a gate of zero is a channel that is exactly zero, through residual sums too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from compress.channels.graph import Array, Graph, Node
from compress.channels.groups import Groups
from compress.errors import NetworkError
from compress.prune.parametrized import compute, keep_computed
from compress.prune.problem import places

_PRODUCERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Gated:
    """One axis of one parameter, and which gate multiplies each of its positions.

    Attributes:
        parameter: its name.
        axis: the axis.
        gate: for each position the number of its gate; -1: of none.
    """

    parameter: str
    axis: int
    gate: Array


class _Times(nn.Module):
    """A parameter times its gates."""

    position: Tensor

    def __init__(self, gates: nn.Module, gated: Gated, rank: int) -> None:
        super().__init__()
        self.gates = gates
        self._shape = [-1 if axis == gated.axis else 1 for axis in range(rank)]
        # Position -1 finds the factor 1 at the end.
        self.register_buffer("position", torch.from_numpy(gated.gate.astype(np.int64)), persistent=False)

    def forward(self, original: Tensor) -> Tensor:
        values = self.gates()
        factors = torch.cat([values, values.new_ones(1)])[self.position]
        return original * factors.to(original.dtype).reshape(self._shape)


def attach_gates(model: nn.Module, gates: nn.Module, gated: Sequence[Gated]) -> None:
    """Multiplies parameters by gates from now on.

    Args:
        model: changed in place.
        gates: returns one factor for each gate, [gates]; it becomes a part of the model.
        gated: what they multiply.

    Raises:
        NetworkError: if one of the parameters is tied to another, which would be gated with it.
    """
    shared = _tied(model)
    for target in gated:
        if target.parameter in shared:
            raise NetworkError(
                f"parameter {target.parameter!r} is shared by several layers and cannot be gated",
                next_step="choose regularizer 'group-lasso'",
            )
        compute(model, target.parameter, _Times(gates, target, model.get_parameter(target.parameter).ndim))


def detach_gates(model: nn.Module, gated: Sequence[Gated]) -> None:
    """Bakes the gates, as they are in evaluation mode, into the parameters."""
    keep_computed(model, [target.parameter for target in gated])


def channel_gates(groups: Groups) -> tuple[Gated, ...]:
    """Returns what has to be multiplied so that gate number u scales unit u, of all groups in turn.

    Raises:
        NetworkError: if the network has no channels that could go.
    """
    found = [Gated(place.parameter, place.axis, place.unit) for place in places(groups) if _makes(place.role)]
    if not found:
        raise NetworkError("the network has no channels that could go", next_step="choose regularizer 'group-lasso'")
    idle = _idle(groups.trace.graph, {gated.parameter for gated in found})
    return tuple(gated for gated in found if gated.parameter not in idle)


def ends_of(graph: Graph, tensor: str, parameters: set[str]) -> tuple[tuple[str, ...], int]:
    """Finds the layer whose output `tensor` is, up to activations and shapes.

    Returns:
        its parameters whose rows make the tensor (scale and shift of a BatchNorm, weight and bias of a convolution),
        and the axis of the rows of the first; nothing if there is no such layer.
    """
    producer = {name: node for node in graph.nodes for name in node.outputs if name}
    while (node := producer.get(tensor)) is not None:
        if node.operator == "BatchNormalization" or node.operator in _PRODUCERS:
            rows = tuple(name for name in node.inputs[1:3] if name in parameters)
            return rows, 1 if node.operator == "ConvTranspose" else 0
        if len(node.inputs) != 1:
            break
        tensor = node.inputs[0]
    return (), 0


def scaled_rows(graph: Graph, node: Node, parameters: set[str]) -> tuple[str, ...]:
    """Returns whose rows scale what a convolution hands on: its own, or those of the BatchNorm that follows at once."""
    after = [reader for reader in graph.nodes if node.outputs[0] in reader.inputs]
    normalised = len(after) == 1 and after[0].operator == "BatchNormalization"
    rows = after[0].inputs[1:3] if normalised else node.inputs[1:3]
    return tuple(name for name in rows if name in parameters)


def _makes(role: str) -> bool:
    return role in ("out", "scale", "shift")


def _idle(graph: Graph, gated: set[str]) -> set[str]:
    """Returns the parameters whose gate another one makes needless."""
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    idle: set[str] = set()
    needed: set[str] = set()
    for node in graph.nodes:
        if node.operator in _PRODUCERS and len(node.inputs) > 1:
            after = readers.get(node.outputs[0], [])
            normalised = bool(after) and all(
                reader.operator == "BatchNormalization" and {*reader.inputs[1:3]} <= gated for reader in after
            )
            for name in node.inputs[1:]:
                (idle if normalised or (name == node.inputs[1] and _depthwise(graph, node)) else needed).add(name)
    return idle - needed


def _depthwise(graph: Graph, node: Node) -> bool:
    shape = graph.shapes[node.inputs[1]]
    return node.operator == "Conv" and shape[1] == 1 and shape[0] == int(node.attributes.get("group", 1)) > 1


def _tied(model: nn.Module) -> set[str]:
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {name for several in names.values() if len(several) > 1 for name in several}
