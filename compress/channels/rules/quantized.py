"""Numbers to integers and back: elementwise, with a scale and a zero point for the tensor or for each channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from compress.channels.cells import only_axis, project, store
from compress.channels.factors import Factors, as_factors, on_axis
from compress.channels.graph import Array, Node
from compress.channels.operands import unify_operands
from compress.channels.rules import rule
from compress.channels.rules.base import Rule, output_shape

if TYPE_CHECKING:
    from compress.channels.trace import Trace

# ONNX's numbers of the element types that are spoken for; narrower integers and 8-bit floats are not.
_INTEGERS = {2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32}


class Quantized(Rule):
    """X, scale, zero point → Y. The scale is one number, or one for each position of the attribute ``axis``.

    One scale for each block of positions is not spoken for: all it touches stays.
    """

    def label(self, node: Node, trace: Trace) -> None:
        labels, shapes, x = trace.labels, trace.graph.shapes, node.input(0)
        rank = len(shapes[x])
        if _obstacle(node, trace):
            for name in filter(None, node.inputs):
                for factor in labels.of(name):
                    labels.pin(factor, node, _obstacle(node, trace))
            return
        operands: list[tuple[Factors, tuple[int, ...]]] = [(labels.of(x), shapes[x])]
        for name in filter(None, node.inputs[1:3]):
            size = int(np.prod(shapes[name]))
            if size == 1:
                labels.of(name)
                continue
            channels = on_axis(labels.axis(name, 0, node, role="other"), _axis(node, rank), rank)
            operands.append((as_factors(channels), channels.shape))
        labels.factors[node.outputs[0]] = unify_operands(labels, operands, rank, node)

    def need(self, node: Node, trace: Trace) -> None:
        x, y, shapes = node.input(0), node.outputs[0], trace.graph.shapes
        if _obstacle(node, trace):
            for name in filter(None, node.inputs):
                trace.keep(name, trace.all_of(name))
            return
        cells = trace.demand(y)
        trace.need(x, project(cells, shapes[x]))
        for name in filter(None, node.inputs[1:3]):
            size = int(np.prod(shapes[name]))
            found = only_axis(cells, _axis(node, len(shapes[x])), size) if size > 1 else np.asarray(cells.any())
            trace.need(name, found.reshape(shapes[name]))


@rule("QuantizeLinear")
class QuantizeLinear(Quantized):
    """Y = saturate(round(X / scale) + zero point), halves to the even neighbour."""

    def evaluate(self, node: Node, trace: Trace) -> None:
        x, kind = trace.values.get(node.input(0)), _integers(node, trace)
        if x is not None and kind is not None and not _obstacle(node, trace):
            levels = _levels(x, node, trace)
            if levels is not None:
                # Integers have no NaN: where only some are known, they are held as numbers.
                store(node.outputs[0], levels if np.isnan(levels).any() else levels.astype(kind), trace)


@rule("DequantizeLinear")
class DequantizeLinear(Quantized):
    """Y = (X − zero point) · scale.

    Of integers that are known in part only zeros are claimed: a bias in integers cannot take another constant, and a
    float addition would take the layer out of integer arithmetic.
    """

    def evaluate(self, node: Node, trace: Trace) -> None:
        if _obstacle(node, trace) or not trace.graph.constants.keys() <= trace.values.keys():
            # Where constants are left out, what follows from integers is to be stored; weights stay integers.
            return
        levels = trace.values.get(node.input(0))
        value = None if levels is None else self._value(levels.astype(np.float64), node, trace)
        if levels is None or value is None:
            return
        partly = levels.dtype.kind == "f" and np.isnan(levels).any()
        store(node.outputs[0], np.where(partly & (value != 0), np.asarray(np.nan, value.dtype), value), trace)

    def _value(self, levels: Array, node: Node, trace: Trace) -> Array | None:
        """Returns the numbers that integers (as float64, NaN: unknown) stand for; None if the scale is not known."""
        scale, zero = _parameter(node, 1, trace), _parameter(node, 2, trace)
        if scale is None or zero is None or node.attributes.get("output_dtype", 0):
            return None
        return np.asarray(((levels - zero).astype(np.float32) * scale.astype(np.float32)).astype(scale.dtype))


def _levels(x: Array, node: Node, trace: Trace) -> Array | None:
    """Returns the integers that stand for `x` (NaN: unknown), as float64; None if the parameters are not known."""
    scale, zero, kind = _parameter(node, 1, trace), _parameter(node, 2, trace), _integers(node, trace)
    if scale is None or zero is None or kind is None or x.dtype.kind != "f":
        return None
    with np.errstate(all="ignore"):
        rounded = np.rint(x.astype(np.float32) / scale.astype(np.float32)).astype(np.float64)
    limits = np.iinfo(kind)
    return np.asarray(np.clip(rounded + zero, limits.min, limits.max))


def _parameter(node: Node, index: int, trace: Trace) -> Array | None:
    """Returns the scale (input 1) or the zero point (input 2), broadcastable to X; None if it is not known."""
    if not node.input(index):
        return np.zeros(())
    value = trace.full(node.input(index))
    if value is None or value.size == 1:
        return None if value is None else value.reshape(())
    rank = len(output_shape(node, trace))
    return on_axis(value, _axis(node, rank), rank)


def _integers(node: Node, trace: Trace) -> type | None:
    """Returns the element type that a QuantizeLinear writes; None if it is not known or has no rule."""
    zero = trace.full(node.input(2)) if node.input(2) else None
    if zero is not None:
        return next((kind for kind in _INTEGERS.values() if zero.dtype == kind), None)
    chosen = int(node.attributes.get("output_dtype", 0)) or 2
    return None if node.input(2) else _INTEGERS.get(chosen)


def _axis(node: Node, rank: int) -> int:
    return int(node.attributes.get("axis", 1)) % rank


def _obstacle(node: Node, trace: Trace) -> str:
    """Returns why the rule does not speak for a node, ``""`` if it does."""
    shapes = trace.graph.shapes
    rank, parameters = len(shapes[node.input(0)]), [name for name in node.inputs[1:3] if name]
    wide = [name for name in parameters if int(np.prod(shapes[name])) > 1]
    if node.attributes.get("block_size", 0) or any(len(shapes[name]) > 1 for name in wide):
        return "it has a scale for each block of positions"
    if wide and not -rank <= int(node.attributes.get("axis", 1)) < rank:
        return "its axis is not one of the tensor's"
    known = [trace.graph.constants[name] for name in (node.input(0), node.input(2)) if name in trace.graph.constants]
    if any(value.dtype.kind not in "iuf" for value in known):
        return "its numbers are not integers of whole bytes"
    return ""
