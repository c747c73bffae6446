"""Sizes of inputs that a model leaves open although its weights do not: the channels of a first layer, say."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compress.channels.graph import Shape
from compress.channels.rules import rules
from compress.channels.rules.elementwise import Elementwise
from compress.onnx_io.tensors import is_free

if TYPE_CHECKING:
    import onnx

# By operator: where the weight stands, and what (its shape, attributes) tell of the first input: an axis, its size. No
# size is told where the weight has no such axis.
_Told = Callable[[Shape, Mapping[str, int]], tuple[int, Shape]]


def _channels(shape: Shape, given: Mapping[str, int]) -> tuple[int, Shape]:
    return 1, tuple(size * given.get("group", 1) for size in shape[1:2])


def _row(shape: Shape, given: Mapping[str, int]) -> tuple[int, Shape]:
    return -1, shape[-2:][:1]


def _product(shape: Shape, given: Mapping[str, int]) -> tuple[int, Shape]:
    return 0 if given.get("transA") else 1, shape[1:2] if given.get("transB") else shape[:1]


def _each(shape: Shape, given: Mapping[str, int]) -> tuple[int, Shape]:
    return 1, shape[:1]


_TOLD: dict[str, tuple[int, _Told]] = {
    **dict.fromkeys(("Conv", "ConvInteger", "com.microsoft::FusedConv"), (1, _channels)),
    "QLinearConv": (3, _channels),
    "ConvTranspose": (1, _each),
    **dict.fromkeys(("MatMul", "MatMulInteger"), (1, _row)),
    "QLinearMatMul": (3, _row),
    "Gemm": (1, _product),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), (1, _each)),
    # A scale of one number suits every size.
    "LayerNormalization": (1, lambda shape, _: (-1, tuple(size for size in shape[-1:] if size > 1))),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (1, lambda shape, _: (2, shape[2:3]))),
}
_SCALED = ("QuantizeLinear", "DequantizeLinear")


def settle_sizes(model: onnx.ModelProto) -> None:
    """Writes down the size of each input axis that is left open, the first apart, and that only one size fits.

    No runtime takes another size there, and whoever draws inputs for a model has to know it. Where weights contradict
    each other the axis stays open: the runtime tells what is wrong.

    Args:
        model: checked; changed. Its tensors need not hold their data.
    """
    graph = model.graph
    told: dict[str, set[int]] = {}
    for symbol, size in _told(graph, _symbols(graph)):
        told.setdefault(symbol, set()).add(size)
    for value in (*graph.input, *graph.output):
        for axis, dim in enumerate(_dims(value)):
            sizes = told.get(dim.dim_param or _unnamed(value, axis), ()) if is_free(dim) else ()
            if len(sizes) == 1:
                (dim.dim_value,) = sizes


def _symbols(graph: onnx.GraphProto) -> dict[str, tuple[str, ...]]:
    """Returns for each axis of inputs what names its size, ``""`` where it has one or is the first; by input."""
    stored = {tensor.name for tensor in graph.initializer}
    found = {
        value.name: tuple(
            (dim.dim_param or _unnamed(value, axis)) if axis and is_free(dim) else ""
            for axis, dim in enumerate(_dims(value))
        )
        for value in graph.input
        if value.name not in stored
    }
    return {name: symbols for name, symbols in found.items() if any(symbols)}


def _told(graph: onnx.GraphProto, symbols: dict[str, tuple[str, ...]]) -> Iterator[tuple[str, int]]:
    """Yields (what names an axis, its size), followed from inputs and weights through what keeps their shapes.

    Args:
        graph: nodes stand in topological order.
        symbols: of the inputs; gains those of what follows.
    """
    if not symbols:
        return
    shapes: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        for held in node.attribute if node.op_type == "Constant" else ():
            shapes[node.output[0]] = tuple(held.t.dims)
        first, key = node.input[0] if node.input else "", _key(node)
        if first in symbols and key in _TOLD:
            index, tell = _TOLD[key]
            weight = shapes.get(node.input[index], ()) if index < len(node.input) else ()
            axis, sizes = tell(weight, {given.name: given.i for given in node.attribute})
            if sizes and -len(symbols[first]) <= axis < len(symbols[first]) and symbols[first][axis]:
                yield symbols[first][axis], sizes[0]
        elif first in symbols or first in shapes:
            known: Any = symbols if first in symbols else shapes
            order = _order(node, len(known[first]), shapes)
            if order is not None:
                known[node.output[0]] = tuple(known[first][axis] for axis in order)


def _order(node: onnx.NodeProto, rank: int, shapes: Mapping[str, Shape]) -> Sequence[int] | None:
    """Returns for each axis of the first output that of the first input which it surely is; None if that is not clear.

    Args:
        node: the node.
        rank: of its first input.
        shapes: of constants.
    """
    key = _key(node)
    if key == "Transpose":
        given = [list(attribute.ints) for attribute in node.attribute if attribute.name == "perm"]
        order = given[0] if given else [*range(rank)][::-1]
        return order if sorted(order) == [*range(rank)] else None
    beside = [shapes.get(name) for name in node.input[1:] if name]
    single = all(shape is not None and len(shape) <= 1 and math.prod(shape) == 1 for shape in beside)
    same = key in _SCALED or (single and isinstance(rules.find(key), Elementwise))
    return range(rank) if same else None


def _key(node: onnx.NodeProto) -> str:
    """Returns the operator, with its domain unless that is ONNX's own."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"


def _dims(value: onnx.ValueInfoProto) -> Sequence[onnx.TensorShapeProto.Dimension]:
    found: Sequence[onnx.TensorShapeProto.Dimension] = value.type.tensor_type.shape.dim
    return found


def _unnamed(value: onnx.ValueInfoProto, axis: int) -> str:
    """Names the size of an axis that has no name."""
    return f"{value.name}:{axis}"
