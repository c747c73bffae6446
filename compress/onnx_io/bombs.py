"""Small files that stand for more than any machine holds, found before native code unfolds them.

Shape inference writes out what a Range of constants counts up to, and inlines functions at each of their calls: a few
nested functions that call one another twice make more nodes than there is memory for. Where a model states large sizes,
shape inference is tried in another process first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from compress.errors import ModelFileError
from compress.onnx_io.process import RunError
from compress.onnx_io.runtime import borrowed_runtime
from compress.onnx_io.tensors import Contents, is_external, subgraphs
from compress.onnx_io.weights import SMALL_ELEMENTS, take_apart, values_of

if TYPE_CHECKING:
    import onnx

_RANGE = 1 << 24  # numbers that a Range of constants may make
_SUSPICIOUS = 1 << 24  # sizes above it are rare
_PASSING = ("Cast", "Reshape", "Squeeze", "Unsqueeze")  # what hands on its first input, number by number
_NODES = 1_000_000  # of a graph with its functions written out


def require_bounded(model: onnx.ModelProto, what: str, inside: Contents) -> None:
    """Checks that a model is not made to unfold without end.

    Args:
        model: as parsed; its tensors are sound.
        what: names it in messages.
        inside: what it holds.

    Raises:
        ModelFileError: naming what unfolds.
    """
    stored = list(_constants(inside))
    constants = _scalars(stored)
    for node in inside.nodes:
        if node.op_type != "Range" or not all(name in constants for name in node.input) or len(node.input) != 3:
            continue
        start, limit, step = (constants[name] for name in node.input)
        count = (limit - start) / step if step else np.inf
        if not count <= _RANGE:
            raise ModelFileError(
                f"{what}: Range {node.name or node.output[0]!r} counts too far",
                got=f"{count:.3g} numbers",
                allowed=f"{_RANGE}",
                next_step="do not use this file",
            )
    _require_few_nodes(model, what)
    if _large_sizes(inside, stored):
        _try_shape_inference(model, what)


def _large_sizes(inside: Contents, stored: Iterable[tuple[str, onnx.TensorProto]]) -> bool:
    """Tells whether a model states large integers: attributes, sizes of axes, small constants."""
    sizes, large = [0], set()
    for name, tensor in stored:
        sizes += tensor.dims
        integers = tensor.data_type in (tensor.INT64, tensor.INT32) and math.prod(tensor.dims) <= SMALL_ELEMENTS
        if integers and not is_external(tensor):
            values = values_of(tensor).reshape(-1).tolist()
            if max(map(abs, values), default=0) > _SUSPICIOUS:
                large.add(name)
    for node in inside.nodes:
        for attribute in node.attribute if node.op_type != "Slice" else ():
            sizes.append(attribute.i)
            sizes += attribute.ints
    for graph in inside.graphs:
        for value in (*graph.input, *graph.output, *graph.value_info):
            sizes += [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    return max(map(abs, sizes)) > _SUSPICIOUS or (bool(large) and not large <= _bounds(inside.nodes))


def _bounds(nodes: Sequence[onnx.NodeProto]) -> set[str]:
    """Returns what is read as a bound of slices alone: "up to the end" is a large integer, be it cast or reshaped."""
    passing = [node for node in nodes if node.op_type in _PASSING]
    slices = [node for node in nodes if node.op_type == "Slice"]
    elsewhere = {name for node in nodes if node.op_type not in ("Slice", *_PASSING) for name in node.input}
    elsewhere.update(name for node in slices for name in node.input[:1])
    elsewhere.update(name for node in passing for name in node.input[1:])
    found = elsewhere
    while found:
        found = {name for node in passing if not elsewhere.isdisjoint(node.output) for name in node.input} - elsewhere
        elsewhere |= found
    return {name for node in (*slices, *passing) for name in node.input} - elsewhere


def _try_shape_inference(model: onnx.ModelProto, what: str) -> None:
    """Tries elsewhere what crashes, or writes out lists of any length, on some models with large sizes."""
    skeleton = take_apart(model).skeleton
    try:
        with borrowed_runtime() as runtime:
            runtime.infer(skeleton.SerializeToString())
    except RunError as error:
        # What shape inference merely refuses, it refuses here as well, and is told of by whoever asks for shapes.
        if error.died or "bad_alloc" in str(error) or "out of memory" in str(error):
            raise ModelFileError(
                f"{what}: its shapes cannot be worked out: {error}", next_step="do not use this file"
            ) from error


def _constants(inside: Contents) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Yields what a model stores, by the names under which nodes read it."""
    for graph in inside.graphs:
        yield from ((tensor.name, tensor) for tensor in graph.initializer)
    for node in inside.nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield (node.output[0] if node.op_type == "Constant" and node.output else ""), attribute.t


def _scalars(stored: Iterable[tuple[str, onnx.TensorProto]]) -> dict[str, float]:
    """Returns the single numbers that a model stores."""
    scalars = {name: tensor for name, tensor in stored if list(tensor.dims) in ([], [1]) and not tensor.external_data}
    arrays = {name: values_of(tensor) for name, tensor in scalars.items()}
    return {name: float(array.reshape(-1)[0]) for name, array in arrays.items() if array.dtype.kind in "iuf"}


def _require_few_nodes(model: onnx.ModelProto, what: str) -> None:
    bodies = {(function.domain, function.name): function for function in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Iterable[onnx.NodeProto], callers: tuple[tuple[str, str], ...]) -> int:
        total = 0
        for node in (*nodes, *(inner for graph in subgraphs(nodes) for inner in graph.node)):
            key = (node.domain, node.op_type)
            if key in callers:
                raise ModelFileError(
                    f"{what}: function {node.op_type!r} calls itself", next_step="do not use this file"
                )
            if key in bodies and key not in sizes:
                sizes[key] = size(bodies[key].node, (*callers, key))
            total += sizes.get(key, 1)
        return total

    count = size(model.graph.node, ()) if bodies else 0
    if count > _NODES:
        raise ModelFileError(
            f"{what} has too many nodes once its functions are written out",
            got=f"{count:.3g}",
            allowed=f"{_NODES}",
            next_step="do not use this file",
        )
