"""Operators whose outputs are runs of positions of their inputs along one axis; joining and cutting among them."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

from compress.channels.alike_joining import joined
from compress.channels.cells import store
from compress.channels.factors import Factors, as_factors, ascending, coverage, on_axis, some
from compress.channels.graph import Array, Node, Shape, as_array
from compress.channels.operands import unify_operands
from compress.channels.rules import rule
from compress.channels.rules.base import Glance, NodeEdit, Rule, holds_channels, once_a_node

if TYPE_CHECKING:
    from compress.channels.alike import Likeness
    from compress.channels.kept import Kept
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

    def exemplary(self, node: Node, trace: Trace) -> bool:
        """Tells whether the segments hold for the example sizes of free axes only."""
        return False

    def homogeneous(self, node: Node, trace: Trace) -> bool:
        """Tells whether multiples of the input give multiples of the output along the other axes."""
        return True

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
            if not name:
                continue
            example = self.exemplary(node, trace) or any(s.source in trace.examples for s in segments)
            parts = [self._values(segment, axis, name, trace) for segment in segments]
            known = [part for part in parts if part is not None]
            if not known or (example and len(known) < len(parts) and known[0].dtype.kind != "f"):
                continue
            sourced = [p for p, s in zip(parts, segments, strict=True) if p is not None and s.source is not None]
            sizes = [segment.positions.size for segment in segments]
            if len(parts) == 1 and segments[0].source in trace.fixed and not self.exemplary(node, trace):
                fixed = take(trace.fixed[segments[0].source or ""], segments[0].positions, axis)
                store(name, known[0], trace, example=example, fixed=fixed)
                continue
            if len(parts) == 1 and known[0].shape[axis] == 1:
                store(name, known[0], trace, example=example)
                continue
            dtype = np.result_type(*(part.dtype for part in sourced or known))
            # Integers have no NaN: where one of them is not known, all are held as numbers.
            dtype = dtype if dtype.kind == "f" or len(known) == len(parts) else np.dtype(np.float64)
            store(name, _concatenate(parts, sizes, axis, dtype), trace, example=example)

    def need(self, node: Node, trace: Trace) -> None:
        found = self.segments(node, trace)
        if found is None:
            for name in node.inputs:
                if name:
                    trace.need(name, trace.all_of(name))
            return
        axis, outputs = found
        for name, segments in zip(node.outputs, outputs, strict=True):
            demand, start = trace.demand(name), 0
            for segment in segments if some(demand) else ():
                stop = start + segment.positions.size
                if segment.source is not None:
                    # Where another axis is cut or grown as well, which of its cells are needed is not told apart.
                    before, after = trace.graph.shapes[segment.source], trace.graph.shapes[name]
                    cut = tuple(a for a in range(len(after)) if a != axis and before[a] != after[a])
                    part = np.asarray(demand.any(axis=cut, keepdims=True)) if cut else demand
                    part = part if part.shape[axis] == 1 else part[(slice(None),) * axis + (slice(start, stop),)]
                    size = before[axis]
                    trace.need(segment.source, scatter(part, segment.positions, axis, size))
                start = stop

    def blurs(self, node: Node, trace: Trace) -> Literal["mean", "place by place"] | None:
        found, shapes = self.segments(node, trace), trace.graph.shapes
        pairs = zip(node.outputs, found[1] if found is not None else (), strict=False)
        moved = {
            (segment.source, axis)
            for name, segments in pairs
            for segment in segments
            for axis, size in enumerate(shapes.get(name, ()))
            if segment.source is not None and shapes[segment.source][axis] != size
        }
        cut = found is not None and all(holds_channels(source, axis, trace) for source, axis in moved)
        return "place by place" if cut else None

    def alike(self, node: Node, trace: Trace, likeness: Likeness) -> None:
        found = None if self.exemplary(node, trace) else self.segments(node, trace)
        if found is None:
            super().alike(node, trace, likeness)
            return
        axis, outputs = found
        for name, segments in zip(node.outputs, outputs, strict=True):
            pieces = [(segment.source, segment.positions, segment.fill) for segment in segments]
            if name:
                joined(node, name, axis, pieces, likeness, homogeneous=self.homogeneous(node, trace))

    def _join(self, segments: list[Segment], axis: int, node: Node, trace: Trace) -> Factors:
        labels, shapes = trace.labels, trace.graph.shapes
        sources = [segment.source for segment in segments if segment.source is not None]
        rank = len(shapes[sources[0]])
        if len(segments) == 1:
            picked = [take(factor, segments[0].positions, axis) for factor in labels.of(sources[0])]
            for before, after in zip(labels.of(sources[0]), picked, strict=True):
                if before.shape[axis] > after.shape[axis] == 1:
                    # An axis of size 1 carries no label, so nothing else would keep its one position.
                    reason = "it is the only one that the operator picks"
                    if coverage(after) and labels.spread:
                        labels.hold(before, (axis,), node, reason)
                    else:
                        labels.pin(after, node, reason)
            return as_factors(*picked)
        labelled = [name for name in sources if labels.of(name)]
        if not labelled and len(sources) == len(segments):
            return ()
        whole = self._covering(list(dict.fromkeys(sources)), axis, node, trace)
        across = next(iter(whole.values())).shape
        parts: list[Array] = []
        for segment in segments:
            if segment.source is not None:
                parts.append(whole[segment.source].take(segment.positions, axis=axis))
                continue
            new = [segment.positions.size if a == axis else size for a, size in enumerate(across)]
            parts.append(labels.fresh(math.prod(new)).reshape(new))
        beside: list[tuple[Factors, Shape]] = []
        for name in dict.fromkeys(sources):
            factors = tuple(f for f in labels.of(name) if axis not in coverage(f))
            beside.append((factors, tuple(1 if a == axis else size for a, size in enumerate(shapes[name]))))
        others = unify_operands(labels, beside, rank, node)
        return as_factors(np.concatenate(parts, axis=axis), *others)

    def _covering(self, sources: list[str], axis: int, node: Node, trace: Trace) -> dict[str, Array]:
        """Returns the factor of each source that covers the axis: over several axes where all sources have it so."""
        labels = trace.labels
        rank = len(trace.graph.shapes[sources[0]])
        found = {name: [f for f in labels.of(name) if axis in coverage(f)] for name in sources}
        beside = {f.shape[:axis] + f.shape[axis + 1 :] for factors in found.values() for f in factors}
        if labels.spread and len(beside) == 1 and all(len(factors) == 1 for factors in found.values()):
            return {name: factors[0] for name, factors in found.items()}
        return {name: on_axis(labels.axis(name, axis, node), axis, rank) for name in sources}

    def _values(self, segment: Segment, axis: int, name: str, trace: Trace) -> Array | None:
        rank = len(trace.graph.shapes[name])
        if segment.source is None:
            return np.full((1,) * rank, segment.fill, np.float32)
        value = trace.examples.get(segment.source, trace.values.get(segment.source))
        return None if value is None else take(value, segment.positions, axis)


def take(cells: Array, positions: Array, axis: int) -> Array:
    """Returns the cells at some positions of an axis."""
    return cells if cells.shape[axis] == 1 else cells.take(positions, axis=axis)


def _concatenate(parts: list[Array | None], sizes: list[int], axis: int, dtype: np.dtype[np.generic]) -> Array:
    shapes = [part.shape for part in parts if part is not None]
    common = [sum(sizes) if a == axis else max(lengths) for a, lengths in enumerate(zip(*shapes, strict=True))]
    result, stop = np.empty(common, dtype), 0
    for part, size in zip(parts, sizes, strict=True):
        start, stop = stop, stop + size
        result[(slice(None),) * axis + (slice(start, stop),)] = np.nan if part is None else part
    return result


def scatter(part: Array, positions: Array, axis: int, size: int) -> Array:
    """Returns the needed cells of a tensor of `size` along `axis`, given those that were picked of it."""
    target = [size if a == axis else n for a, n in enumerate(part.shape)]
    cells = np.zeros(target, dtype=bool)
    if positions.ndim == 1 and positions.size and positions[0] >= 0 and ascending(positions):
        cells[(slice(None),) * axis + (positions,)] = part
        return cells
    picked = [positions.size if a == axis else n for a, n in enumerate(target)]
    # A view with the axis in front: positions may repeat, so they are added one by one.
    np.logical_or.at(np.moveaxis(cells, axis, 0), positions, np.moveaxis(np.broadcast_to(part, picked), axis, 0))
    return cells


@rule("Concat")
class Concatenation(AlongAxis):
    """Joins tensors along an axis."""

    prompted = True

    def glance(self, node: Node, trace: Trace) -> Glance | None:
        return "moves"

    @once_a_node
    def segments(self, node: Node, trace: Trace) -> tuple[int, list[list[Segment]]] | None:
        shapes = trace.graph.shapes
        axis = int(node.attributes["axis"]) % len(shapes[node.input(0)])
        return axis, [[Segment(name, np.arange(shapes[name][axis])) for name in node.inputs]]


@rule("Split")
class Splitting(AlongAxis):
    """Cuts a tensor into parts along an axis."""

    prompted = True

    def glance(self, node: Node, trace: Trace) -> Glance | None:
        return "moves"

    @once_a_node
    def segments(self, node: Node, trace: Trace) -> tuple[int, list[list[Segment]]] | None:
        shapes, x = trace.graph.shapes, node.input(0)
        axis = int(node.attributes.get("axis", 0)) % len(shapes[x])
        bounds = self._bounds(node, trace, axis)
        return None if bounds is None else (axis, [[Segment(x, np.arange(a, b))] for a, b in pairwise(bounds)])

    def resize(self, node: Node, trace: Trace, kept: Kept) -> NodeEdit | None:
        axis = int(node.attributes.get("axis", 0)) % len(trace.graph.shapes[node.input(0)])
        mask, bounds = kept.mask(node.input(0), axis), self._bounds(node, trace, axis)
        if bounds is None or mask.all():
            return None
        sizes = as_array([mask[a:b].sum() for a, b in pairwise(bounds)])
        if trace.graph.opset < 13:
            return NodeEdit(attributes={"split": [int(size) for size in sizes]})
        return NodeEdit(attributes={"num_outputs": None}, inputs={1: sizes})

    def _bounds(self, node: Node, trace: Trace, axis: int) -> Array | None:
        """Returns where each output starts and the last one ends, also of outputs that nobody reads."""
        given = trace.integers(node.input(1)) if node.input(1) else node.attributes.get("split")
        if given is None and not all(node.outputs):
            return None
        sizes = [trace.graph.shapes[name][axis] for name in node.outputs] if given is None else given
        return np.cumsum([0, *as_array(sizes)])


@rule("SplitToSequence")
class SequenceSplitting(Splitting):
    """Cuts a tensor into parts of sizes of their own, or of one size of which the last part may fall short.

    The parts are the outputs, as far as they are read. One size for all follows the channels in code that says
    ``x.chunk(n)``, as long as each part loses the same; sizes of their own stand in the code as they are.
    """

    def segments(self, node: Node, trace: Trace) -> tuple[int, list[list[Segment]]] | None:
        axis, bounds = self._axis_and_bounds(node, trace)
        parts = [] if bounds is None else list(pairwise(bounds))[: len(node.outputs)]
        return (axis, [[Segment(node.input(0), np.arange(a, b))] for a, b in parts]) if parts else None

    def label(self, node: Node, trace: Trace) -> None:
        super().label(node, trace)
        axis, bounds = self._axis_and_bounds(node, trace)
        if bounds is None or trace.labels.spread:
            return
        sizes, given = set(np.diff(bounds).tolist()), trace.integers(node.input(1))
        if len(sizes) > 1 or (given is not None and given.ndim):
            trace.labels.pin_axes(node.input(0), (axis,), node, "it is split by numbers that stand in forward()")
        elif trace.labels.of(node.input(0)):
            atoms = trace.labels.axis(node.input(0), axis, node).reshape(-1, sizes.pop())
            trace.labels.unify(atoms, atoms[:1], node)

    def resize(self, node: Node, trace: Trace, kept: Kept) -> NodeEdit | None:
        axis, bounds = self._axis_and_bounds(node, trace)
        mask = kept.mask(node.input(0), axis)
        if bounds is None or mask.all():
            return None
        return NodeEdit(inputs={1: as_array([mask[a:b].sum() for a, b in pairwise(bounds)])})

    def _axis_and_bounds(self, node: Node, trace: Trace) -> tuple[int, Array | None]:
        shape, sizes = trace.graph.shapes[node.input(0)], trace.integers(node.input(1))
        axis = int(node.attributes.get("axis", 0)) % len(shape)
        if node.input(1) and (sizes is None or trace.graph.is_dynamic(node.input(0), axis)):
            return axis, None
        if sizes is not None and sizes.ndim:
            return axis, np.cumsum([0, *as_array(sizes)])
        step = 1 if sizes is None else int(sizes)
        return axis, np.asarray([*range(0, shape[axis], step), shape[axis]])
