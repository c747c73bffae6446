"""Pooling, reductions and resizing: space changes, each channel stays by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from compress.channels.alike import Cells
from compress.channels.cells import store
from compress.channels.graph import Array, Node, as_array
from compress.channels.labels import coverage
from compress.channels.rules import rule, rules
from compress.channels.rules.base import NodeEdit, Rule, pads

if TYPE_CHECKING:
    from compress.channels.alike import Likeness
    from compress.channels.sweep import Kept
    from compress.channels.trace import Trace

# f(s·x) = s·f(x) for s > 0.
_HOMOGENEOUS = frozenset({
    "MaxPool", "AveragePool", "Resize", "Upsample", "GlobalAveragePool", "GlobalMaxPool",
    "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceL2",
})  # fmt: skip


class Window(Rule):
    """Pooling or resizing over the axes after the second; a constant channel stays what it is.

    Args:
        zero_pads: whether padding enters the result as zeros, so that only a zero channel stays what it is.
    """

    def __init__(self, *, zero_pads: bool = False) -> None:
        self.zero_pads = zero_pads

    def label(self, node: Node, trace: Trace) -> None:
        labels, x = trace.labels, node.input(0)
        labels.pin_axes(x, tuple(range(2, len(trace.graph.shapes[x]))), node, "it is a spatial axis")
        kept = tuple(f for f in labels.of(x) if max(coverage(f), default=0) < 2)
        labels.factors[node.outputs[0]] = kept

    def evaluate(self, node: Node, trace: Trace) -> None:
        value = trace.values.get(node.input(0))
        if value is None or any(size > 1 for size in value.shape[2:]):
            return
        if self.zero_pads and node.attributes.get("count_include_pad", 0) and pads(node):
            value = np.where(value == 0, value, np.asarray(np.nan, value.dtype))
        store(node.outputs[0], value, trace)

    def need(self, node: Node, trace: Trace) -> None:
        demand = trace.demand(node.outputs[0])
        trace.need(node.input(0), np.asarray(demand.any(axis=tuple(range(2, demand.ndim)), keepdims=True)))

    def alike(self, node: Node, trace: Trace, likeness: Likeness) -> None:
        x = likeness.of(node.input(0))
        cells = likeness.opened(x, range(2, x.ids.ndim))
        signature = likeness.signature(node, cells, node.inputs[1:])
        likeness.set(node.outputs[0], likeness.applied(signature, cells, homogeneous=node.operator in _HOMOGENEOUS))


class Reduction(Rule):
    """One value for all positions of some axes: their mean, their sum, ….

    Args:
        of_constant: what becomes of n equal values, given the value and n; by default the value itself.
        spatial: the axes are all after the second, whatever the node says (global pooling).
    """

    def __init__(self, of_constant: Callable[[Array, int], Array] | None = None, *, spatial: bool = False) -> None:
        self.of_constant = of_constant
        self.spatial = spatial

    def label(self, node: Node, trace: Trace) -> None:
        labels, x = trace.labels, node.input(0)
        axes = self._axes(node, trace)
        reason = f"{node.operator} takes it as a whole"
        kept: list[Array] = []
        for factor in labels.of(x):
            labels.hold(factor, axes, node, reason)
            crossed = set(coverage(factor)) & set(axes)
            kept += labels.reduced(factor, axes, node, reason) if crossed else (factor,)
        labels.factors[node.outputs[0]] = tuple(self._reduced(f, axes, node) for f in kept)

    def evaluate(self, node: Node, trace: Trace) -> None:
        value, axes = trace.values.get(node.input(0)), self._axes(node, trace)
        if value is None or any(value.shape[axis] != 1 for axis in axes):
            return
        if self.of_constant is not None:
            if any(trace.graph.is_dynamic(node.input(0), axis) for axis in axes):
                return
            count = int(np.prod([trace.graph.shapes[node.input(0)][axis] for axis in axes]))
            value = self.of_constant(value, count).astype(value.dtype)
        store(node.outputs[0], self._reduced(value, axes, node), trace)

    def need(self, node: Node, trace: Trace) -> None:
        shape, axes = trace.graph.shapes[node.input(0)], self._axes(node, trace)
        cells = trace.demand(node.outputs[0])
        if not self._keeps_axes(node):
            cells = np.expand_dims(cells, axes)
        trace.need(node.input(0), cells.reshape(cells.shape[-len(shape) :] if shape else ()))

    def alike(self, node: Node, trace: Trace, likeness: Likeness) -> None:
        axes = self._axes(node, trace)
        cells = likeness.opened(likeness.of(node.input(0)), axes)
        signature = likeness.signature(node, cells, node.inputs[1:])
        result = likeness.applied(signature, cells, homogeneous=node.operator in _HOMOGENEOUS)
        likeness.set(node.outputs[0], Cells(*(self._reduced(part, axes, node) for part in (result.ids, result.scales))))

    def _axes(self, node: Node, trace: Trace) -> tuple[int, ...]:
        rank = len(trace.graph.shapes[node.input(0)])
        if self.spatial:
            return tuple(range(2, rank))
        given = trace.integers(node.input(1)) if node.input(1) else node.attributes.get("axes")
        if given is None or np.size(given) == 0:
            return () if node.attributes.get("noop_with_empty_axes", 0) else tuple(range(rank))
        return tuple(sorted(int(axis) % rank for axis in np.reshape(given, -1)))

    def _keeps_axes(self, node: Node) -> bool:
        return self.spatial or bool(node.attributes.get("keepdims", 1))

    def _reduced(self, cells: Array, axes: tuple[int, ...], node: Node) -> Array:
        return cells if self._keeps_axes(node) else cells.squeeze(axes)


for _name in ("ReduceMean", "ReduceMax", "ReduceMin"):
    rules.register(_name)(Reduction())
for _name, _of_constant in {
    "ReduceSum": lambda value, n: n * value,
    "ReduceL1": lambda value, n: n * np.abs(value),
    "ReduceL2": lambda value, n: np.sqrt(n) * np.abs(value),
    "ReduceSumSquare": lambda value, n: n * value**2,
    "ReduceProd": lambda value, n: value**n,
}.items():
    rules.register(_name)(Reduction(_of_constant))
for _name, _of_constant in {
    "ReduceLogSum": lambda value, n: np.log(n * value),
    "ReduceLogSumExp": lambda value, n: value + np.log(n),
}.items():
    rules.register(_name)(Reduction(_of_constant))
for _name in ("GlobalAveragePool", "GlobalMaxPool"):
    rules.register(_name)(Reduction(spatial=True))


@rule("Resize", "Upsample")
class Resizing(Window):
    """Interpolation over space; where the first two axes are resized as well, they stay."""

    def label(self, node: Node, trace: Trace) -> None:
        super().label(node, trace)
        if not self._spatial(node, trace):
            trace.labels.pin_axes(node.input(0), (0, 1), node, "it is resized")
            trace.labels.factors[node.outputs[0]] = ()

    def evaluate(self, node: Node, trace: Trace) -> None:
        # Cropping brings in values from outside.
        cropped = node.attributes.get("coordinate_transformation_mode") in (b"tf_crop_and_resize", "tf_crop_and_resize")
        if self._spatial(node, trace) and not cropped:
            super().evaluate(node, trace)

    def need(self, node: Node, trace: Trace) -> None:
        if self._spatial(node, trace):
            super().need(node, trace)
            return
        trace.need(node.input(0), np.ones((1,) * len(trace.graph.shapes[node.input(0)]), dtype=bool))

    def alike(self, node: Node, trace: Trace, likeness: Likeness) -> None:
        cropped = node.attributes.get("coordinate_transformation_mode") in (b"tf_crop_and_resize", "tf_crop_and_resize")
        if self._spatial(node, trace) and not cropped:
            super().alike(node, trace, likeness)
        else:
            likeness.fresh(node.outputs[0])

    def resize(self, node: Node, trace: Trace, kept: Kept) -> NodeEdit | None:
        """Adapts the input ``sizes``; ``scales`` hold 1 for channels."""
        y = node.outputs[0]
        if not node.input(3) or not kept.changed(y):
            return None
        before, after = as_array(trace.graph.shapes[y]), as_array(kept.shape(y))
        axes = as_array(node.attributes.get("axes", range(len(after))))
        return kept.override(node, 3, (after != before)[axes], after[axes])

    def _spatial(self, node: Node, trace: Trace) -> bool:
        shapes = trace.graph.shapes
        return shapes[node.input(0)][:2] == shapes[node.outputs[0]][:2]


rules.register("MaxPool")(Window())
rules.register("AveragePool")(Window(zero_pads=True))
