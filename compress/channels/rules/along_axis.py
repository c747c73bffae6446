"""Operators that pick, join or repeat positions along one axis: Concat, Split, Slice, Gather, Pad, Expand."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from compress.channels.cells import combine, project, store
from compress.channels.graph import Array, Node, as_array
from compress.channels.labels import Factors, as_factors, coverage, on_axis
from compress.channels.rules import rule
from compress.channels.rules.base import NodeEdit, Rule, output_shape

if TYPE_CHECKING:
    from compress.channels.sweep import Kept
    from compress.channels.trace import Trace


@dataclass(frozen=True)
class Segment:
    """A run of positions of an output: where each comes from.

    Attributes:
        source: the tensor, or None for new positions that all hold `fill`.
        positions: of the source, along the axis.
        fill: the value of new positions.
    """

    source: str | None
    positions: Array
    fill: float = 0.0


class AlongAxis(Rule):
    """An operator each of whose outputs is a row of segments along one axis; the other axes pass."""

    several_outputs = True

    @abstractmethod
    def segments(self, node: Node, trace: Trace) -> tuple[int, list[list[Segment]]] | None:
        """Returns the axis and the segments of each output; None if they are not known."""

    def label(self, node: Node, trace: Trace) -> None:
        found = self.segments(node, trace)
        if found is None:
            for name in node.inputs:
                for factor in trace.labels.of(name) if name else ():
                    trace.labels.pin(factor, node, "which positions it picks is not known before it runs")
            return
        axis, outputs = found
        for name, segments in zip(node.outputs, outputs, strict=True):
            if name:
                trace.labels.factors[name] = self._join(segments, axis, node, trace)

    def evaluate(self, node: Node, trace: Trace) -> None:
        found = self.segments(node, trace)
        if found is None:
            return
        axis, outputs = found
        for name, segments in zip(node.outputs, outputs, strict=True):
            example = any(s.source in trace.examples for s in segments)
            parts = [self._values(segment, axis, name, trace) for segment in segments]
            known = [part for part in parts if part is not None]
            if not name or not known or (len(known) < len(parts) and known[0].dtype.kind != "f"):
                continue
            sourced = [p for p, s in zip(parts, segments, strict=True) if p is not None and s.source is not None]
            sizes = [segment.positions.size for segment in segments]
            if len(parts) == 1 and known[0].shape[axis] == 1:
                store(name, known[0], trace, example=example)
                continue
            dtype = (sourced or known)[0].dtype
            store(name, _concatenate(parts, sizes, axis, dtype), trace, example=example)

    def need(self, node: Node, trace: Trace) -> None:
        found = self.segments(node, trace)
        if found is None:
            for name in node.inputs:
                if name:
                    trace.need(name, np.ones((1,) * len(trace.graph.shapes[name]), dtype=bool))
            return
        axis, outputs = found
        for name, segments in zip(node.outputs, outputs, strict=True):
            demand, start = trace.demand(name), 0
            for segment in segments:
                stop = start + segment.positions.size
                if segment.source is not None and demand.any():
                    # Where another axis is cut or grown as well, which of its cells are needed is not told apart.
                    before, after = trace.graph.shapes[segment.source], trace.graph.shapes[name]
                    cut = tuple(a for a in range(len(after)) if a != axis and before[a] != after[a])
                    part = np.asarray(demand.any(axis=cut, keepdims=True)) if cut else demand
                    part = part if part.shape[axis] == 1 else part.take(range(start, stop), axis)
                    trace.need(segment.source, _scatter(part, segment, axis, trace))
                start = stop

    def _join(self, segments: list[Segment], axis: int, node: Node, trace: Trace) -> Factors:
        labels, shapes = trace.labels, trace.graph.shapes
        sources = [segment.source for segment in segments if segment.source is not None]
        rank = len(shapes[sources[0]])
        if len(segments) == 1:
            picked = [_take(factor, segments[0].positions, axis) for factor in labels.of(sources[0])]
            for before, after in zip(labels.of(sources[0]), picked, strict=True):
                if before.shape[axis] > after.shape[axis] == 1:
                    # An axis of size 1 carries no label, so nothing else would keep its one position.
                    labels.pin(after, node, "it is the only one that the operator picks")
            return as_factors(*picked)
        parts = [
            labels.fresh(segment.positions.size)
            if segment.source is None
            else labels.axis(segment.source, axis, node)[segment.positions]
            for segment in segments
        ]
        beside = []
        for name in dict.fromkeys(sources):
            factors = tuple(f for f in labels.of(name) if axis not in coverage(f))
            beside.append((factors, tuple(1 if a == axis else size for a, size in enumerate(shapes[name]))))
        others = labels.unify_operands(beside, rank, node)
        return as_factors(on_axis(np.concatenate(parts), axis, rank), *others)

    def _values(self, segment: Segment, axis: int, name: str, trace: Trace) -> Array | None:
        rank = len(trace.graph.shapes[name])
        if segment.source is None:
            return np.full((1,) * rank, segment.fill, np.float32)
        value = trace.examples.get(segment.source, trace.values.get(segment.source))
        return None if value is None else _take(value, segment.positions, axis)


def _take(cells: Array, positions: Array, axis: int) -> Array:
    return cells if cells.shape[axis] == 1 else cells.take(positions, axis=axis)


def _concatenate(parts: list[Array | None], sizes: list[int], axis: int, dtype: np.dtype[np.generic]) -> Array:
    rank = next(part.ndim for part in parts if part is not None)
    filled = [np.full((1,) * rank, np.nan, dtype) if part is None else part for part in parts]
    common = [max(part.shape[a] for part in filled) for a in range(rank)]
    shaped = []
    for part, size in zip(filled, sizes, strict=True):
        target = [size if a == axis else common[a] for a in range(rank)]
        shaped.append(np.broadcast_to(part, target))
    return np.concatenate(shaped, axis=axis).astype(dtype)


def _scatter(part: Array, segment: Segment, axis: int, trace: Trace) -> Array:
    """Returns the needed cells of a segment's source, given those of the segment."""
    size = trace.graph.shapes[segment.source or ""][axis]
    target = [size if a == axis else n for a, n in enumerate(part.shape)]
    cells = np.zeros(target, dtype=bool)
    picked = [segment.positions.size if a == axis else n for a, n in enumerate(target)]
    # A view with the axis in front: positions may repeat, so they are added one by one.
    np.logical_or.at(
        np.moveaxis(cells, axis, 0), segment.positions, np.moveaxis(np.broadcast_to(part, picked), axis, 0)
    )
    return cells


@rule("Concat")
class Concatenation(AlongAxis):
    """Joins tensors along an axis."""

    def segments(self, node: Node, trace: Trace) -> tuple[int, list[list[Segment]]] | None:
        shapes = trace.graph.shapes
        axis = int(node.attributes["axis"]) % len(shapes[node.input(0)])
        return axis, [[Segment(name, np.arange(shapes[name][axis])) for name in node.inputs]]


@rule("Split")
class Splitting(AlongAxis):
    """Cuts a tensor into parts along an axis."""

    def segments(self, node: Node, trace: Trace) -> tuple[int, list[list[Segment]]] | None:
        shapes, x = trace.graph.shapes, node.input(0)
        axis = int(node.attributes.get("axis", 0)) % len(shapes[x])
        bounds = np.cumsum([0] + [shapes[name][axis] for name in node.outputs])
        return axis, [[Segment(x, np.arange(a, b))] for a, b in pairwise(bounds)]

    def resize(self, node: Node, trace: Trace, kept: Kept) -> NodeEdit | None:
        axis = int(node.attributes.get("axis", 0)) % len(trace.graph.shapes[node.input(0)])
        sizes = as_array([kept.count(name, axis) for name in node.outputs])
        if all(size == trace.graph.shapes[name][axis] for name, size in zip(node.outputs, sizes, strict=True)):
            return None
        if trace.graph.opset < 13:
            return NodeEdit(attributes={"split": [int(size) for size in sizes]})
        return NodeEdit(attributes={"num_outputs": None}, inputs={1: sizes})


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

    def label(self, node: Node, trace: Trace) -> None:
        super().label(node, trace)
        x = node.input(0)
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
        labels.pin_axes(x, (axis,), node, "positions are picked by index")
        for factor in labels.of(node.input(1)):
            labels.pin(factor, node, "it is an index")
        rank_index = len(trace.graph.shapes[node.input(1)])
        kept = [f for f in labels.of(x) if axis not in coverage(f)]
        labels.factors[node.outputs[0]] = tuple(self._moved(f, axis, rank_index) for f in kept)

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
        store(node.outputs[0], result, trace, example=any(name in trace.examples for name in names))

    def need(self, node: Node, trace: Trace) -> None:
        axis = self._axis(node, trace)
        rank_index = len(trace.graph.shapes[node.input(1)])
        cells = trace.demand(node.outputs[0])
        picked = tuple(range(axis, axis + rank_index))
        cells = np.asarray(cells.any(axis=picked)) if picked else cells
        trace.need(node.input(0), np.expand_dims(cells, axis))
        trace.need(node.input(1), np.ones((1,) * rank_index, dtype=bool))

    def _axis(self, node: Node, trace: Trace) -> int:
        return int(node.attributes.get("axis", 0)) % len(trace.graph.shapes[node.input(0)])

    def _moved(self, factor: Array, axis: int, rank_index: int) -> Array:
        return factor.reshape(factor.shape[:axis] + (1,) * rank_index + factor.shape[axis + 1 :])


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
        value = trace.values.get(x)
        if value is not None:
            held |= {axis for axis, size in enumerate(value.shape) if size > 1}
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
        super().evaluate(node, trace)
        y, pads, fill = node.outputs[0], self._pads(node, trace), self._fill(node, trace)
        value = trace.values.get(y)
        if value is None or pads is None or value.dtype.kind != "f":
            return
        rank = value.ndim
        if any(value.shape[a] == 1 and (pads[a] or pads[a + rank]) for a in range(rank)):
            # Along the other axes a constant stays one only if the padding has its value.
            del trace.values[y]
            padding = np.asarray(np.nan if fill is None or self._mode(node) != "constant" else fill, value.dtype)
            store(y, np.where(value == padding, value, np.asarray(np.nan, value.dtype)), trace)

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
        trace.labels.factors[node.outputs[0]] = trace.labels.unify_elementwise([node.input(0)], rank, node)

    def evaluate(self, node: Node, trace: Trace) -> None:
        data = Node(node.operator, node.name, node.inputs[:1], node.outputs)
        combine(data, trace, lambda values: values[0])

    def need(self, node: Node, trace: Trace) -> None:
        cells = trace.demand(node.outputs[0])
        trace.need(node.input(0), project(cells, trace.graph.shapes[node.input(0)]))

    def resize(self, node: Node, trace: Trace, kept: Kept) -> NodeEdit | None:
        y = node.outputs[0]
        if not kept.changed(y):
            return None
        # Size 1 leaves the axis as the input has it.
        sizes = as_array(output_shape(node, trace))
        fixed = sizes != as_array(kept.shape(y))
        return kept.override(node, 1, fixed, np.ones_like(sizes))
