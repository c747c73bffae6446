"""Nodes in plain terms: a fused operator as the operators that it fuses, a sequence as the tensors that it holds.

The file keeps its nodes. What is found on a plain node is done to the node of the file that it is a part of: operands
that both have stand at the same place, so that a weight, a bias or a size can be replaced there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnx import NodeProto, helper

from compress.channels.graph import Array
from compress.onnx_io.sequences import Sequences
from compress.onnx_io.stand_ins import MALFORMED, attributes_of, stand_ins

_MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Plain:
    """A node in plain terms.

    Attributes:
        node: the node.
        whole: first output of the node of the file that this one is a part of; ``""`` if it is that node itself.
        shaped: nodes of ONNX's own that have outputs of the same shapes.
    """

    node: NodeProto
    whole: str
    shaped: tuple[NodeProto, ...]


def plain_nodes(
    nodes: Sequence[NodeProto], constants: Mapping[str, Array], read_elsewhere: Collection[str], opset: int
) -> Iterator[Plain]:
    """Yields the nodes of a graph in plain terms, in order.

    Args:
        nodes: in topological order.
        constants: initializers and constants by name.
        read_elsewhere: names that are outputs of the graph, or that subgraphs read.
        opset: version of ONNX's own operators.
    """
    sequences = Sequences(nodes, constants, read_elsewhere)
    for node in nodes:
        parts = sequences.parts(node)
        if parts is not None:
            for part, shaped in parts:
                yield Plain(part, node.output[0], tuple(shaped))
            continue
        split = _parts(node)
        if split is None:
            yield Plain(node, "", tuple(stand_ins(node, constants, opset)))
            continue
        whole = next((name for name in node.output if name), "")
        for part in split:
            yield Plain(part, whole, tuple(stand_ins(part, constants, opset)))


def _parts(node: NodeProto) -> list[NodeProto] | None:
    """Returns the operators that a node fuses, or None if it is not known to fuse any."""
    fused = _PARTS.get((node.domain, node.op_type))
    try:
        return fused(node) if fused else None
    except MALFORMED:
        return None


def _fused_convolution(node: NodeProto) -> list[NodeProto] | None:
    """Y = activation(Conv(X, W, B) + Z)."""
    attributes = attributes_of(node)
    activation = _text(attributes.pop("activation", b""))
    values = [float(value) for value in attributes.pop("activation_params", ())]
    names = {"LeakyRelu": ("alpha",), "Clip": ("min", "max"), "HardSigmoid": ("alpha", "beta"), "Elu": ("alpha",)}
    x, weight, bias, added = _inputs(node, 4)
    if not x or not weight:
        return None
    parts = _Chain(node)
    parts.then("Conv", [x, weight, bias], **attributes)
    if added:
        parts.then("Add", [parts.last, added])
    parts.activation(activation, dict(zip(names.get(activation, ()), values, strict=False)))
    return parts.finished()


def _fused_gemm(node: NodeProto) -> list[NodeProto] | None:
    """Y = activation(Gemm(A, B, C))."""
    attributes = attributes_of(node)
    activation = _text(attributes.pop("activation", b""))
    given = {name: attributes.pop(f"activation_{name}", None) for name in ("alpha", "beta", "gamma")}
    if not all(_inputs(node, 2)):
        return None
    parts = _Chain(node)
    parts.then("Gemm", list(node.input), **attributes)
    parts.activation(activation, {name: value for name, value in given.items() if value is not None})
    return parts.finished()


def _skip_normalization(operator: str, shifts: int) -> Callable[[NodeProto], list[NodeProto] | None]:
    """Y = normalize(input + skip + bias); the sum is an output as well."""

    def split(node: NodeProto) -> list[NodeProto] | None:
        x, skip, *parameters, bias = _inputs(node, 4 + shifts)
        outputs = [*node.output, "", "", ""]
        if outputs[1] or outputs[2] or not x or not skip:
            return None
        parts = _Chain(node)
        parts.then("Add", [x, skip])
        if bias:
            parts.then("Add", [parts.last, bias])
        if outputs[3]:
            parts.rename(outputs[3])
        attributes = {name: value for name, value in attributes_of(node).items() if name == "epsilon"}
        parts.then(operator, [parts.last, *(name for name in parameters if name)], axis=-1, **attributes)
        return parts.finished()

    return split


def _simplified_normalization(node: NodeProto) -> list[NodeProto] | None:
    if len(node.output) > 1 and node.output[1]:
        return None
    parts = _Chain(node)
    attributes = {name: value for name, value in attributes_of(node).items() if name in ("epsilon", "axis")}
    parts.then("RMSNormalization", list(node.input), **attributes)
    return parts.finished()


def _channels_last(operator: str, domain: str = "", flag: str = "") -> Callable[[NodeProto], list[NodeProto] | None]:
    """Transposes, computes with channels first, transposes back; images have four axes.

    Args:
        operator: with channels first.
        domain: of that operator.
        flag: attribute that says whether channels come last; without one they always do.
    """

    def split(node: NodeProto) -> list[NodeProto] | None:
        attributes = attributes_of(node)
        last = attributes.pop(flag, 0) if flag else 1
        if not last:
            return None
        parts = _Chain(node)
        parts.then("Transpose", [node.input[0]], perm=[0, 3, 1, 2])
        parts.then(operator, [parts.last, *node.input[1:]], domain=domain, **attributes)
        parts.then("Transpose", [parts.last], perm=[0, 2, 3, 1])
        return parts.finished()

    return split


class _Chain:
    """Nodes under construction, of which each reads the one before."""

    def __init__(self, whole: NodeProto) -> None:
        self.whole = whole
        self.nodes: list[NodeProto] = []
        self.last = ""
        self.complete = True

    def then(self, operator: str, inputs: list[str], domain: str = "", **attributes: Any) -> None:
        self.last = f"{self.whole.output[0]}/{len(self.nodes)}"
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        name = self.whole.name or self.whole.output[0]
        self.nodes.append(
            helper.make_node(operator, inputs, [self.last], name=f"{name}/{operator}", domain=domain, **attributes)
        )

    def rename(self, output: str) -> None:
        self.nodes[-1].output[0] = self.last = output

    def activation(self, operator: str, attributes: Mapping[str, float]) -> None:
        if operator in ("Relu", "Tanh", "Sigmoid", "LeakyRelu", "Clip", "HardSigmoid", "Elu"):
            self.then(operator, [self.last], "", **attributes)
        elif operator:
            self.complete = False

    def finished(self) -> list[NodeProto] | None:
        """Returns the nodes, of which the last writes the whole's first output; None if a part is not known."""
        self.nodes[-1].output[0] = self.whole.output[0]
        return self.nodes if self.complete else None


def _inputs(node: NodeProto, count: int) -> list[str]:
    return [*node.input, *[""] * count][:count]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


_PARTS: dict[tuple[str, str], Callable[[NodeProto], list[NodeProto] | None]] = {
    (_MICROSOFT, "FusedConv"): _fused_convolution,
    (_MICROSOFT, "FusedGemm"): _fused_gemm,
    (_MICROSOFT, "SkipLayerNormalization"): _skip_normalization("LayerNormalization", 1),
    (_MICROSOFT, "SkipSimplifiedLayerNormalization"): _skip_normalization("RMSNormalization", 0),
    ("", "SimplifiedLayerNormalization"): _simplified_normalization,
    (_MICROSOFT, "NhwcMaxPool"): _channels_last("MaxPool"),
    **{
        (_MICROSOFT, name): _channels_last(name, _MICROSOFT, "channels_last")
        for name in ("QLinearConv", "QLinearAveragePool", "QLinearGlobalAveragePool")
    },
}
