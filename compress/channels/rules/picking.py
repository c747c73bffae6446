"""Operators that pick positions of a tensor: by a range along an axis, or by index."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from compress.channels.alike_cells import Cells
from compress.channels.cells import store
from compress.channels.factors import as_factors, coverage
from compress.channels.graph import Array, Node, as_array
from compress.channels.rules import rule
from compress.channels.rules.along_axis import AlongAxis, Segment, scatter, take
from compress.channels.rules.base import NodeEdit, Rule, once_a_node

if TYPE_CHECKING:
    from compress.channels.alike import Likeness
    from compress.channels.kept import Kept
    from compress.channels.trace import Trace

_FAR = 2**31


@rule("Slice")
class Slicing(AlongAxis):
    """Picks a range of positions. Several axes at once: at most one of them may hold channels."""

    prompted = True

    def segments(self, node: Node, trace: Trace) -> tuple[int, list[list[Segment]]] | None:
        x = node.input(0)
        shape = trace.graph.shapes[x]
        if self._bounds(node, trace) is None:
            return None
        ranges = self._ranges(node, trace)
        held = {axis for factor in trace.labels.of(x) for axis in coverage(factor)}
        cut = [axis for axis in ranges if axis in held and len(ranges[axis]) != shape[axis]]
        if len(cut) > 1:
            return None
        axis = cut[0] if cut else next(iter(ranges), 0)
        return axis, [[Segment(x, np.asarray(ranges.get(axis, range(shape[axis])), dtype=np.int64))]]

    def exemplary(self, node: Node, trace: Trace) -> bool:
        return any(name in trace.examples for name in node.inputs[1:])

    def evaluate(self, node: Node, trace: Trace) -> None:
        x, y, exemplary = node.input(0), node.outputs[0], self.exemplary(node, trace)
        value, fixed = trace.examples.get(x, trace.values.get(x)), trace.fixed.get(x)
        if value is None or self._bounds(node, trace) is None:
            return
        for axis, positions in self._ranges(node, trace).items():
            value = take(value, np.asarray(positions, np.int64), axis)
            fixed = None if fixed is None else take(fixed, np.asarray(positions, np.int64), axis)
        store(y, value, trace, example=exemplary or x in trace.examples, fixed=None if exemplary else fixed)

    def label(self, node: Node, trace: Trace) -> None:
        super().label(node, trace)
        x = node.input(0)
        if self.exemplary(node, trace):
            axes = tuple(self._ranges(node, trace))
            trace.labels.pin_axes(x, axes, node, "where it is sliced is not known before it runs")
        for axis, positions in (self._ranges(node, trace) or {}).items():
            whole = len(positions) == trace.graph.shapes[x][axis]
            if positions.step not in (1, -1) and len(positions) > 1:
                self._tie_periods(positions, axis, node, trace)
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
            if mask.all() or positions == range(len(mask)):
                continue
            moved[index] = True
            picked = (np.cumsum(mask) - 1)[[position for position in positions if mask[position]]]
            starts[index] = picked[0]
            # Before the first position stands nothing that could be written as an end, but any far negative number can.
            ends[index] = picked[-1] + positions.step if picked[-1] + positions.step >= 0 else -_FAR
        if trace.graph.opset < 10:
            return NodeEdit(attributes={"starts": starts.tolist(), "ends": ends.tolist()}) if moved.any() else None
        return NodeEdit.joined(kept.override(node, 1, moved, starts), kept.override(node, 2, moved, ends))

    def _tie_periods(self, positions: range, axis: int, node: Node, trace: Trace) -> None:
        """Lets only whole periods go, so that the same step picks the same of what remains."""
        x, size, step = node.input(0), trace.graph.shapes[node.input(0)][axis], positions.step
        if step < 0 or size % step or positions.start >= step or len(positions) != size // step:
            trace.labels.pin_axes(x, (axis,), node, "it is sliced with a step that does not go through all of it")
        elif trace.labels.of(x):
            periods = trace.labels.axis(x, axis, node).reshape(-1, step)
            trace.labels.unify(periods, periods[:, :1], node)

    @once_a_node
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

    @once_a_node
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
    """Picks positions by index along an axis; a scalar index drops the axis.

    Channels can be picked by a list of indices, or by one, if these are known: in any order, some of them repeatedly.
    """

    prompted = True

    def label(self, node: Node, trace: Trace) -> None:
        labels, x = trace.labels, node.input(0)
        axis = self._axis(node, trace)
        index_rank = len(trace.graph.shapes[node.input(1)])
        for factor in labels.of(node.input(1)):
            labels.pin(factor, node, "it is an index")
        index, positions = self._index(node, trace), self._positions(node, trace)
        reason = "positions are picked by index"
        factors = []
        for factor in labels.of(x):
            if axis not in coverage(factor):
                factors.append(self._moved(factor, axis, index_rank))
                continue
            if index is None:
                labels.pin(factor, node, reason)
                continue
            picked = factor.take(index, axis=axis)
            if positions is None or (positions.size == 1 and coverage(picked) and labels.spread):
                labels.hold(factor, (axis,), node, reason)
            elif positions.size == 1:
                # An axis of size 1 carries no label, so nothing else would keep its one position.
                labels.pin(picked, node, "it is the only one that the operator picks")
            factors.append(picked)
        labels.factors[node.outputs[0]] = as_factors(*factors)

    def evaluate(self, node: Node, trace: Trace) -> None:
        axis = self._axis(node, trace)
        names = node.inputs[:2]
        value, index = (trace.examples.get(name, trace.values.get(name)) for name in names)
        if value is None or index is None or index.dtype.kind == "f":
            return
        size = trace.graph.shapes[names[0]][axis]
        full = np.broadcast_to(value, tuple(size if a == axis else n for a, n in enumerate(value.shape)))
        # NumPy's own wrapping takes as many steps as an index is out of bounds by.
        positions = np.broadcast_to(index, trace.graph.shapes[names[1]]).astype(np.int64) % max(size, 1)
        result = full.take(positions, axis=axis)
        fixed = trace.fixed.get(names[0]) if names[1] not in trace.examples else None
        if fixed is not None:
            fixed = np.broadcast_to(fixed, full.shape).take(positions, axis=axis)
        store(node.outputs[0], result, trace, example=any(name in trace.examples for name in names), fixed=fixed)

    def need(self, node: Node, trace: Trace) -> None:
        axis, index = self._axis(node, trace), self._index(node, trace)
        index_rank = len(trace.graph.shapes[node.input(1)])
        cells = trace.demand(node.outputs[0])
        picked = tuple(range(axis, axis + index_rank))
        if index is None:
            cells = np.expand_dims(np.asarray(cells.any(axis=picked)) if picked else cells, axis)
        else:
            before, after = cells.shape[:axis], cells.shape[axis + index_rank :]
            cells = np.broadcast_to(cells, (*before, *index.shape, *after)).reshape((*before, index.size, *after))
            cells = scatter(cells, index.reshape(-1), axis, trace.graph.shapes[node.input(0)][axis])
        trace.need(node.input(0), cells)
        trace.need(node.input(1), trace.all_of(node.input(1)))

    def resize(self, node: Node, trace: Trace, kept: Kept) -> NodeEdit | None:
        axis, positions = self._axis(node, trace), self._positions(node, trace)
        mask = kept.mask(node.input(0), axis)
        if positions is None or mask.all():
            return None
        index = (np.cumsum(mask) - 1)[positions[mask[positions]]]
        scalar = not trace.graph.shapes[node.input(1)]
        return NodeEdit(inputs={1: index.reshape(() if scalar else -1).astype(np.int64)})

    def alike(self, node: Node, trace: Trace, likeness: Likeness) -> None:
        axis, rank_index = self._axis(node, trace), len(trace.graph.shapes[node.input(1)])
        x = likeness.opened(likeness.of(node.input(0)), (axis,))
        found = likeness.applied(likeness.signature(node, x, node.inputs[1:2]), x, linear=True)
        parts = (self._moved(part, axis, rank_index) for part in (found.ids, found.scales))
        likeness.set(node.outputs[0], Cells(*parts))

    def _axis(self, node: Node, trace: Trace) -> int:
        return int(node.attributes.get("axis", 0)) % len(trace.graph.shapes[node.input(0)])

    @once_a_node
    def _index(self, node: Node, trace: Trace) -> Array | None:
        """Returns the positions that are picked, counted from the start; None if they are not known."""
        index = trace.integers(node.input(1))
        if (
            index is None
            or node.input(1) in trace.examples
            or trace.graph.is_dynamic(node.input(0), self._axis(node, trace))
        ):
            return None
        size = trace.graph.shapes[node.input(0)][self._axis(node, trace)]
        full = np.broadcast_to(index, trace.graph.shapes[node.input(1)]).astype(np.int64)
        return np.asarray(np.where(full < 0, full + size, full))

    def _positions(self, node: Node, trace: Trace) -> Array | None:
        """Returns the positions that are picked, if they are a list that can follow what remains; else None."""
        index = self._index(node, trace)
        return None if index is None or index.ndim > 1 else index.reshape(-1)

    def _moved(self, factor: Array, axis: int, rank_index: int) -> Array:
        return factor.reshape(factor.shape[:axis] + (1,) * rank_index + factor.shape[axis + 1 :])
