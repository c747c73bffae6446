"""Operators that pick positions of a tensor: by a range along an axis, or by index."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from compress.channels.cells import store
from compress.channels.graph import Array, Node, as_array
from compress.channels.labels import as_factors, coverage
from compress.channels.rules import rule
from compress.channels.rules.along_axis import AlongAxis, Segment
from compress.channels.rules.base import NodeEdit, Rule

if TYPE_CHECKING:
    from compress.channels.sweep import Kept
    from compress.channels.trace import Trace


@rule("Slice")
class Slicing(AlongAxis):
    """Picks a range of positions. Several axes at once: at most one of them may hold channels."""

    def segments(self, node: Node, trace: Trace) -> tuple[int, list[list[Segment]]] | None:
        x = node.input(0)
        shape = trace.graph.shapes[x]
        if self._bounds(node, trace) is None:
            return None
        ranges = self._ranges(node, trace)
        held = {axis for factor in trace.labels.of(x) for axis in coverage(factor)}
        value = trace.examples.get(x, trace.values.get(x))
        if value is not None:
            held |= {axis for axis, size in enumerate(value.shape) if size > 1}
        cut = [axis for axis in ranges if axis in held and len(ranges[axis]) != shape[axis]]
        if len(cut) > 1:
            return None
        axis = cut[0] if cut else next(iter(ranges), 0)
        return axis, [[Segment(x, np.asarray(ranges.get(axis, range(shape[axis])), dtype=np.int64))]]

    def exemplary(self, node: Node, trace: Trace) -> bool:
        return any(name in trace.examples for name in node.inputs[1:])

    def label(self, node: Node, trace: Trace) -> None:
        super().label(node, trace)
        x = node.input(0)
        if self.exemplary(node, trace):
            axes = tuple(self._ranges(node, trace))
            trace.labels.pin_axes(x, axes, node, "where it is sliced is not known before it runs")
        for axis, positions in (self._ranges(node, trace) or {}).items():
            whole = len(positions) == trace.graph.shapes[x][axis]
            if positions.step != 1 and len(positions) > 1:
                trace.labels.pin_axes(x, (axis,), node, "it is sliced with a step")
            elif trace.graph.is_dynamic(x, axis) and not whole:
                trace.labels.pin_axes(x, (axis,), node, "it is sliced, and its size is a symbolic one")

    def resize(self, node: Node, trace: Trace, kept: Kept) -> NodeEdit | None:
        x = node.input(0)
        bounds = self._bounds(node, trace)
        if not kept.changed(x) or bounds is None:
            return None
        starts, ends, axes, _ = (bound.copy() for bound in bounds)
        moved = np.zeros(len(starts), dtype=bool)
        for index, positions in enumerate(self._ranges(node, trace).values()):
            mask = kept.mask(x, int(axes[index]))
            # The other axes keep their bounds as they are written: these may hold for any size.
            if mask.all() or len(positions) == len(mask):
                continue
            moved[index] = True
            starts[index] = mask[: positions.start].sum()
            ends[index] = starts[index] + mask[positions.start : positions.stop].sum()
        if trace.graph.opset < 10:
            return NodeEdit(attributes={"starts": starts.tolist(), "ends": ends.tolist()}) if moved.any() else None
        return NodeEdit.joined(kept.override(node, 1, moved, starts), kept.override(node, 2, moved, ends))

    def _bounds(self, node: Node, trace: Trace) -> tuple[Array, Array, Array, Array] | None:
        """Returns starts, ends, axes and steps, as they are written; None if they are not known."""
        if trace.graph.opset < 10:
            starts, ends = as_array(node.attributes["starts"]), as_array(node.attributes["ends"])
            axes, steps = node.attributes.get("axes"), None
        else:
            given = [trace.integers(node.input(index)) for index in (1, 2, 3, 4)]
            if any(value is None and node.input(index) for index, value in enumerate(given, start=1)):
                return None
            starts, ends, axes, steps = as_array(given[0]), as_array(given[1]), given[2], given[3]
        count = len(starts)
        return (
            starts,
            ends,
            as_array(range(count) if axes is None else axes),
            as_array([1] * count if steps is None else steps),
        )

    def _ranges(self, node: Node, trace: Trace) -> dict[int, range]:
        """Returns the positions picked of each axis that is sliced, in the order of `_bounds`."""
        shape = trace.graph.shapes[node.input(0)]
        bounds = self._bounds(node, trace)
        return {
            int(axis) % len(shape): range(*slice(int(start), int(end), int(step)).indices(shape[int(axis)]))
            for start, end, axis, step in (zip(*bounds, strict=True) if bounds is not None else ())
        }


@rule("Gather")
class Gathering(Rule):
    """Picks positions by index along an axis; a scalar index drops the axis."""

    def label(self, node: Node, trace: Trace) -> None:
        labels, x = trace.labels, node.input(0)
        axis = self._axis(node, trace)
        index = self._index(node, trace)
        for factor in labels.of(node.input(1)):
            labels.pin(factor, node, "it is an index")
        rank_index = len(trace.graph.shapes[node.input(1)])
        kept = []
        for factor in labels.of(x):
            if axis not in coverage(factor):
                kept.append(self._moved(factor, axis, rank_index))
                continue
            reason = "positions are picked by index"
            if index is None:
                labels.pin(factor, node, reason)
            else:
                labels.hold(factor, (axis,), node, reason)
                kept.append(factor.take(index, axis=axis))
        labels.factors[node.outputs[0]] = as_factors(*kept)

    def evaluate(self, node: Node, trace: Trace) -> None:
        axis = self._axis(node, trace)
        names = node.inputs[:2]
        value, index = (trace.examples.get(name, trace.values.get(name)) for name in names)
        if value is None or index is None:
            return
        size = trace.graph.shapes[names[0]][axis]
        full = np.broadcast_to(value, tuple(size if a == axis else n for a, n in enumerate(value.shape)))
        positions = np.broadcast_to(index, trace.graph.shapes[names[1]]).astype(np.int64)
        result = full.take(positions, axis=axis, mode="wrap")
        fixed = trace.fixed.get(names[0]) if names[1] not in trace.examples else None
        if fixed is not None:
            fixed = np.broadcast_to(fixed, full.shape).take(positions, axis=axis, mode="wrap")
        store(node.outputs[0], result, trace, example=any(name in trace.examples for name in names), fixed=fixed)

    def need(self, node: Node, trace: Trace) -> None:
        axis = self._axis(node, trace)
        rank_index = len(trace.graph.shapes[node.input(1)])
        cells, index = trace.demand(node.outputs[0]), self._index(node, trace)
        picked = tuple(range(axis, axis + rank_index))
        if index is None:
            cells = np.asarray(cells.any(axis=picked)) if picked else cells
            trace.need(node.input(0), np.expand_dims(cells, axis))
        else:
            beside = cells.shape[:axis], cells.shape[axis + rank_index :]
            cells = np.broadcast_to(cells, (*beside[0], *index.shape, *beside[1]))
            cells = np.moveaxis(cells.reshape((*beside[0], index.size, *beside[1])), axis, 0)
            used = np.zeros((trace.graph.shapes[node.input(0)][axis], *cells.shape[1:]), dtype=bool)
            np.logical_or.at(used, index.reshape(-1), cells)
            trace.need(node.input(0), np.moveaxis(used, 0, axis))
        trace.need(node.input(1), np.ones((1,) * rank_index, dtype=bool))

    def _axis(self, node: Node, trace: Trace) -> int:
        return int(node.attributes.get("axis", 0)) % len(trace.graph.shapes[node.input(0)])

    def _index(self, node: Node, trace: Trace) -> Array | None:
        """Returns the positions that are picked, counted from the start; None if they are not known."""
        index = trace.constant(node.input(1))
        if (
            index is None
            or node.input(1) in trace.examples
            or trace.graph.is_dynamic(node.input(0), self._axis(node, trace))
        ):
            return None
        size = trace.graph.shapes[node.input(0)][self._axis(node, trace)]
        full = np.broadcast_to(index, trace.graph.shapes[node.input(1)]).astype(np.int64)
        return np.asarray(np.where(full < 0, full + size, full))

    def _moved(self, factor: Array, axis: int, rank_index: int) -> Array:
        return factor.reshape(factor.shape[:axis] + (1,) * rank_index + factor.shape[axis + 1 :])
