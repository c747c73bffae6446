"""Operators that add positions to a tensor: padding, and repetition."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from compress.channels.alike_cells import Cells
from compress.channels.cells import combine, project, store
from compress.channels.factors import coverage
from compress.channels.graph import Array, Node, as_array
from compress.channels.operands import unify_elementwise
from compress.channels.rules import rule
from compress.channels.rules.along_axis import AlongAxis, Segment
from compress.channels.rules.base import NodeEdit, Rule, output_shape
from compress.channels.windows import LARGEST_MAP

if TYPE_CHECKING:
    from compress.channels.alike import Likeness
    from compress.channels.kept import Kept
    from compress.channels.trace import Trace


# NumPy's names of ONNX's modes.
_MODES: dict[str, Literal["reflect", "edge", "wrap"]] = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}


@rule("Pad")
class Padding(AlongAxis):
    """Adds positions at both ends of axes; along an axis of channels these are channels of a known value."""

    def segments(self, node: Node, trace: Trace) -> tuple[int, list[list[Segment]]] | None:
        x = node.input(0)
        rank = len(trace.graph.shapes[x])
        pads, fill = self._pads(node, trace), self._fill(node, trace)
        if pads is None or (pads < 0).any():
            return None
        held = {axis for factor in trace.labels.of(x) for axis in coverage(factor)}
        grown = [axis for axis in range(rank) if pads[axis] or pads[axis + rank]]
        inside = [axis for axis in grown if axis in held]
        if len(inside) > 1 or (inside and (self._mode(node) != "constant" or fill is None)):
            return None
        if not inside:
            still = next((axis for axis in range(rank) if axis not in grown), None)
            return None if still is None else (still, [[Segment(x, np.arange(trace.graph.shapes[x][still]))]])
        axis = inside[0]
        ends = [Segment(None, np.arange(pads[axis + side]), fill or 0.0) for side in (0, rank)]
        middle = Segment(x, np.arange(trace.graph.shapes[x][axis]))
        return axis, [[s for s in (ends[0], middle, ends[1]) if s.positions.size]]

    def evaluate(self, node: Node, trace: Trace) -> None:
        x, y, pads = node.input(0), node.outputs[0], self._pads(node, trace)
        if pads is None or (pads < 0).any():
            return
        for known, example in ((trace.values, False), (trace.examples, True)):
            found = self._padded(known[x], pads, node, trace) if x in known else None
            if found is not None:
                store(y, found, trace, example=example)

    def _padded(self, value: Array, pads: Array, node: Node, trace: Trace) -> Array | None:
        """Returns the values of the result; None if they are not known."""
        x, rank, mode, fill = node.input(0), value.ndim, self._mode(node), self._fill(node, trace)
        shape, number = trace.graph.shapes[x], value.dtype.kind == "f"
        if mode == "constant" and fill is None and not number:
            return None
        fill = np.nan if fill is None else fill
        grown = [axis for axis in range(rank) if pads[axis] or pads[axis + rank]]
        padded = {axis for axis in grown if value.shape[axis] > 1}
        if mode == "constant" and not (np.isnan(value) | (value == fill)).all():
            # What is the same all along an axis is not once something else comes beside it.
            target = tuple(shape[axis] if axis in grown else size for axis, size in enumerate(value.shape))
            apart = [axis for axis in grown if axis not in padded]
            if math.prod(target) <= LARGEST_MAP and not any(trace.graph.is_dynamic(x, axis) for axis in apart):
                value, padded = np.broadcast_to(value, target), set(grown)
            elif number:
                value = np.where(value == fill, value, np.asarray(np.nan, value.dtype))
            else:
                return None
        widths = [(int(pads[a]), int(pads[a + rank])) if a in padded else (0, 0) for a in range(rank)]
        if mode == "constant":
            return np.pad(value, widths, constant_values=fill)
        return np.pad(value, widths, mode=_MODES[mode]) if mode in _MODES else None

    def homogeneous(self, node: Node, trace: Trace) -> bool:
        return self._mode(node) != "constant" or self._fill(node, trace) == 0

    def resize(self, node: Node, trace: Trace, kept: Kept) -> NodeEdit | None:
        pads, found = self._pads(node, trace), self.segments(node, trace)
        y = node.outputs[0]
        if pads is None or found is None or not kept.changed(y):
            return None
        axis, rank = found[0], len(trace.graph.shapes[y])
        mask, low = kept.mask(y, axis), int(pads[axis])
        pads = pads.copy()
        pads[axis] = mask[:low].sum()
        pads[axis + rank] = mask[len(mask) - int(pads[axis + rank]) :].sum()
        if trace.graph.opset < 11:
            return NodeEdit(attributes={"pads": [int(pad) for pad in pads]})
        return NodeEdit(inputs={1: pads, **({3: None} if node.input(3) else {})})

    def _pads(self, node: Node, trace: Trace) -> Array | None:
        rank = len(trace.graph.shapes[node.input(0)])
        if trace.graph.opset < 11:
            return as_array(node.attributes["pads"])
        given = trace.integers(node.input(1))
        if given is None or node.input(1) in trace.examples:
            return None
        if not node.input(3):
            return as_array(given)
        axes = trace.integers(node.input(3))
        if axes is None:
            return None
        pads = np.zeros(2 * rank, dtype=np.int64)
        for index, axis in enumerate(as_array(axes)):
            pads[axis % rank] = as_array(given)[index]
            pads[axis % rank + rank] = as_array(given)[index + len(axes)]
        return pads

    def _fill(self, node: Node, trace: Trace) -> float | None:
        if trace.graph.opset < 11:
            return float(node.attributes.get("value", 0.0))
        if not node.input(2):
            return 0.0
        value = trace.constant(node.input(2))
        return None if value is None else float(value.reshape(-1)[0])

    def _mode(self, node: Node) -> str:
        mode = node.attributes.get("mode", "constant")
        return mode.decode() if isinstance(mode, bytes) else str(mode)


@rule("Expand")
class Expansion(Rule):
    """Repeats along axes of size 1; the others pass."""

    def label(self, node: Node, trace: Trace) -> None:
        rank = len(output_shape(node, trace))
        trace.labels.factors[node.outputs[0]] = unify_elementwise(trace.labels, [node.input(0)], rank, node)

    def evaluate(self, node: Node, trace: Trace) -> None:
        data = Node(node.operator, node.name, node.inputs[:1], node.outputs)
        combine(data, trace, lambda values: values[0])

    def need(self, node: Node, trace: Trace) -> None:
        cells = trace.demand(node.outputs[0])
        trace.need(node.input(0), project(cells, trace.graph.shapes[node.input(0)]))

    def alike(self, node: Node, trace: Trace, likeness: Likeness) -> None:
        cells, shapes, y = likeness.of(node.input(0)), trace.graph.shapes, node.outputs[0]
        missing = len(shapes[y]) - len(shapes[node.input(0)])
        wide = Cells(*(part.reshape((1,) * missing + part.shape) for part in (cells.ids, cells.scales)))
        signature = (likeness.signature(node, wide, node.inputs[1:]), shapes[y])
        likeness.set(y, likeness.applied(signature, wide, linear=True))

    def resize(self, node: Node, trace: Trace, kept: Kept) -> NodeEdit | None:
        y = node.outputs[0]
        if not kept.changed(y):
            return None
        # Size 1 leaves the axis as the input has it.
        sizes = as_array(output_shape(node, trace))
        fixed = sizes != as_array(kept.shape(y))
        return kept.override(node, 1, fixed, np.ones_like(sizes))


@rule("Tile")
class Repetition(AlongAxis):
    """Repeats a tensor along axes; at most one of those may hold channels, which then repeat as well."""

    def exemplary(self, node: Node, trace: Trace) -> bool:
        return node.input(1) in trace.examples

    def segments(self, node: Node, trace: Trace) -> tuple[int, list[list[Segment]]] | None:
        x = node.input(0)
        shape, repeats = trace.graph.shapes[x], trace.integers(node.input(1))
        if repeats is None:
            return None
        held = {axis for factor in trace.labels.of(x) for axis in coverage(factor)}
        repeated = [axis for axis in sorted(held) if repeats[axis] != 1]
        if len(repeated) > 1:
            return None
        axis = repeated[0] if repeated else next((a for a, count in enumerate(repeats) if count == 1), None)
        if axis is None:
            return None
        return axis, [[Segment(x, np.tile(np.arange(shape[axis]), int(repeats[axis])))]]

    def evaluate(self, node: Node, trace: Trace) -> None:
        x, repeats = node.input(0), trace.integers(node.input(1))
        for known, example in ((trace.values, self.exemplary(node, trace)), (trace.examples, True)):
            if x in known and repeats is not None:
                value = known[x]
                times = [int(n) if size > 1 else 1 for n, size in zip(repeats, value.shape, strict=True)]
                store(node.outputs[0], np.tile(value, times), trace, example=example)
