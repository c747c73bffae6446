"""Pooling, reductions and resizing: space changes, each channel stays by itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np

from compress.channels.alike_cells import Cells
from compress.channels.cells import shrink, store
from compress.channels.factors import coverage
from compress.channels.graph import Array, Node, as_array
from compress.channels.interpolation import interpolation
from compress.channels.rules import rule, rules
from compress.channels.rules.base import Glance, NodeEdit, Rule, pads, tells_no_places
from compress.channels.windows import LARGEST_MAP, Windows, windows

if TYPE_CHECKING:
    from compress.channels.alike import Likeness
    from compress.channels.kept import Kept
    from compress.channels.trace import Trace

# f(s·x) = s·f(x) for s > 0.
_HOMOGENEOUS = frozenset({
    "MaxPool", "AveragePool", "Resize", "Upsample", "GlobalAveragePool", "GlobalMaxPool",
    "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceL2",
})  # fmt: skip

_MEANS = frozenset({"GlobalAveragePool", "ReduceMean", "ReduceSum"})


class Window(Rule):
    """Pooling or resizing over the axes after the second; a channel of one value stays what it is.

    Args:
        of_map: from the input's values, NaN where they vary, to those of the result, where these can be computed from
            a constant that differs from place to place.
        zero_pads: whether padding enters the result as zeros, so that only zeros stay what they are.
    """

    prompted = True

    def __init__(
        self, of_map: Callable[[Array, Windows, Node], Array] | None = None, *, zero_pads: bool = False
    ) -> None:
        self.of_map = of_map
        self.zero_pads = zero_pads

    def label(self, node: Node, trace: Trace) -> None:
        labels, x = trace.labels, node.input(0)
        labels.pin_axes(x, tuple(range(2, len(trace.graph.shapes[x]))), node, "it is a spatial axis")
        kept = tuple(f for f in labels.of(x) if max(coverage(f), default=0) < 2)
        labels.factors[node.outputs[0]] = kept

    def evaluate(self, node: Node, trace: Trace) -> None:
        value = trace.values.get(node.input(0))
        if value is None:
            return
        padded = self.zero_pads and bool(node.attributes.get("count_include_pad", 0)) and pads(node)
        if padded or any(size > 1 for size in value.shape[2:]):
            found = self._map(value, node, trace)
            if found is not None:
                store(node.outputs[0], found, trace)
                return
            rows = value.reshape(*value.shape[:2], -1)
            same = (rows == rows[..., :1]).all(axis=2) & ((rows[..., 0] == 0) | (not padded))
            value = np.where(same, rows[..., 0], np.asarray(np.nan, value.dtype))
            value = value.reshape(*value.shape, *[1] * len(trace.graph.shapes[node.input(0)][2:]))
        store(node.outputs[0], value, trace)

    def _map(self, value: Array, node: Node, trace: Trace) -> Array | None:
        """Returns what becomes of values that are told apart place by place, None if that is not known."""
        x, y = node.input(0), node.outputs[0]
        shape, result = trace.graph.shapes[x], trace.graph.shapes[y]
        free = tuple(trace.graph.is_dynamic(x, axis) for axis in range(2, len(shape)))
        odd = node.attributes.get("ceil_mode", 0) and node.attributes.get("count_include_pad", 0)
        if self.of_map is None or any(free) or odd or value.shape[1] * math.prod(result[2:]) > LARGEST_MAP:
            return None
        where = windows(node, tuple(node.attributes["kernel_shape"]), shape[2:], result[2:], free)
        whole = np.broadcast_to(value, (*value.shape[:2], *shape[2:]))
        found = self.of_map(whole, where, node)
        return shrink(found.astype(value.dtype), range(2, found.ndim))

    def need(self, node: Node, trace: Trace) -> None:
        demand = trace.demand(node.outputs[0])
        trace.need(node.input(0), np.asarray(demand.any(axis=tuple(range(2, demand.ndim)), keepdims=True)))

    def glance(self, node: Node, trace: Trace) -> Glance | None:
        return "each"

    def alike(self, node: Node, trace: Trace, likeness: Likeness) -> None:
        x = likeness.of(node.input(0))
        cells = likeness.opened(x, range(2, x.ids.ndim))
        signature = likeness.signature(node, cells, node.inputs[1:])
        likeness.set(node.outputs[0], likeness.applied(signature, cells, homogeneous=node.operator in _HOMOGENEOUS))


class Reduction(Rule):
    """One value for all positions of some axes: their mean, their sum, ….

    Args:
        function: from values, the axes, which it keeps with size 1, and how often each value occurs, to the result;
            None where that is not told.
        counts: whether it matters how often each occurs.
        spatial: the axes are all after the second, whatever the node says (global pooling).
    """

    prompted = True
    averages = True

    def __init__(
        self,
        function: Callable[[Array, tuple[int, ...], int], Array] | None = None,
        *,
        counts: bool = False,
        spatial: bool = False,
    ) -> None:
        self.function = function
        self.counts = counts
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
        value, axes, function = trace.values.get(node.input(0)), self._axes(node, trace), self.function
        if (
            value is None
            or function is None
            or (value.dtype.kind != "f" and any(value.shape[axis] != 1 for axis in axes))
        ):
            return
        open_axes = [axis for axis in axes if value.shape[axis] == 1]
        if self.counts and any(trace.graph.is_dynamic(node.input(0), axis) for axis in open_axes):
            return
        repeats = math.prod(trace.graph.shapes[node.input(0)][axis] for axis in open_axes)
        with np.errstate(all="ignore"):
            value = function(value, axes, repeats).astype(value.dtype)
        store(node.outputs[0], self._reduced(value, axes, node), trace)

    def need(self, node: Node, trace: Trace) -> None:
        shape, axes = trace.graph.shapes[node.input(0)], self._axes(node, trace)
        cells = trace.demand(node.outputs[0])
        if not self._keeps_axes(node):
            cells = np.expand_dims(cells, axes)
        trace.need(node.input(0), cells.reshape(cells.shape[-len(shape) :] if shape else ()))

    def glance(self, node: Node, trace: Trace) -> Glance | None:
        return "each" if min(self._axes(node, trace), default=2) > 1 else None

    def alike(self, node: Node, trace: Trace, likeness: Likeness) -> None:
        axes = self._axes(node, trace)
        cells = likeness.opened(likeness.of(node.input(0)), axes)
        signature = likeness.signature(node, cells, node.inputs[1:])
        result = likeness.applied(signature, cells, homogeneous=node.operator in _HOMOGENEOUS)
        likeness.set(node.outputs[0], Cells(*(self._reduced(part, axes, node) for part in (result.ids, result.scales))))

    def blurs(self, node: Node, trace: Trace) -> Literal["mean", "place by place"] | None:
        x, axes = node.input(0), self._axes(node, trace)
        return "mean" if node.operator in _MEANS and tells_no_places(x, axes, trace) else None

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


def _summed(function: Callable[[Array], Array]) -> Callable[[Array, tuple[int, ...], int], Array]:
    return lambda x, axes, n: n * function(x).sum(axis=axes, keepdims=True)


_MEAN, _LARGEST = (
    lambda x, axes, _: x.mean(axis=axes, keepdims=True, dtype=np.float64),
    lambda x, axes, _: x.max(axis=axes, keepdims=True),
)
rules.register("ReduceMean")(Reduction(_MEAN))
rules.register("ReduceMax")(Reduction(_LARGEST))
rules.register("ReduceMin")(Reduction(lambda x, axes, _: x.min(axis=axes, keepdims=True)))
GLOBAL_MEAN = Reduction(_MEAN, spatial=True)
rules.register("GlobalAveragePool")(GLOBAL_MEAN)
rules.register("GlobalMaxPool")(Reduction(_LARGEST, spatial=True))
for _name, _function in {
    "ReduceSum": _summed(lambda x: x),
    "ReduceL1": _summed(np.abs),
    "ReduceL2": lambda x, axes, n: np.sqrt(n * (x**2).sum(axis=axes, keepdims=True)),
    "ReduceSumSquare": _summed(np.square),
    "ReduceProd": lambda x, axes, n: x.prod(axis=axes, keepdims=True) ** n,
    "ReduceLogSum": lambda x, axes, n: np.log(n * x.sum(axis=axes, keepdims=True)),
    "ReduceLogSumExp": lambda x, axes, n: np.log(n * np.exp(x).sum(axis=axes, keepdims=True)),
}.items():
    rules.register(_name)(Reduction(_function, counts=True))


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

    def _map(self, value: Array, node: Node, trace: Trace) -> Array | None:
        x, y = node.input(0), node.outputs[0]
        shape, result = trace.graph.shapes[x], trace.graph.shapes[y]
        size = value.shape[1] * max(math.prod(shape[2:]), math.prod(result[2:]))
        if any(trace.graph.is_dynamic(x, axis) for axis in range(2, len(shape))) or size > LARGEST_MAP:
            return None
        attributes = dict(node.attributes)
        if node.operator == "Upsample" or trace.graph.opset < 11:
            attributes |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        if node.attributes.get("keep_aspect_ratio_policy", b"stretch") not in (b"stretch", "stretch"):
            return None
        given = self._scales(node, trace)
        for axis in range(2, len(shape)):
            scale = result[axis] / shape[axis] if given is None else given[axis]
            matrix = interpolation(attributes, scale, shape[axis], result[axis])
            if matrix is None:
                return None
            if value.shape[axis] > 1:
                known = np.moveaxis(np.nan_to_num(value), axis, -1) @ matrix.T
                mixed = np.moveaxis(np.isnan(value).astype(np.float32), axis, -1) @ (matrix.T != 0) > 0
                value = np.moveaxis(np.where(mixed, np.nan, known), -1, axis).astype(value.dtype)
        return shrink(value, range(2, value.ndim))

    def _scales(self, node: Node, trace: Trace) -> dict[int, float] | None:
        """Returns the scale of each axis where scales are given, None where sizes are."""
        index = 1 if node.operator == "Upsample" or trace.graph.opset < 11 else 2
        value = trace.constant(node.input(index)) if node.input(index) else None
        found = node.attributes.get("scales") if value is None else value
        if found is None or np.size(found) == 0:
            return None
        axes = node.attributes.get("axes", range(len(trace.graph.shapes[node.input(0)])))
        rest = dict.fromkeys(range(len(trace.graph.shapes[node.input(0)])), 1.0)
        return rest | {int(a): float(scale) for a, scale in zip(axes, np.reshape(found, -1), strict=True)}

    def need(self, node: Node, trace: Trace) -> None:
        if self._spatial(node, trace):
            super().need(node, trace)
            return
        trace.need(node.input(0), trace.all_of(node.input(0)))

    def glance(self, node: Node, trace: Trace) -> Glance | None:
        return "each" if self._by_place(node, trace) else None

    def alike(self, node: Node, trace: Trace, likeness: Likeness) -> None:
        if self._by_place(node, trace):
            super().alike(node, trace, likeness)
        else:
            likeness.fresh(node.outputs[0])

    def _by_place(self, node: Node, trace: Trace) -> bool:
        """Tells whether channels are resized each by itself, with nothing from elsewhere."""
        cropped = node.attributes.get("coordinate_transformation_mode") in (b"tf_crop_and_resize", "tf_crop_and_resize")
        return self._spatial(node, trace) and not cropped

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


def _largest(x: Array, where: Windows, node: Node) -> Array:
    return np.asarray(np.maximum.reduce([where.seen(x, tap, beyond=-np.inf) for tap in where.taps()]))


def _mean(x: Array, where: Windows, node: Node) -> Array:
    inside = np.ones((1, 1, *x.shape[2:]), x.dtype)
    beyond = float(bool(node.attributes.get("count_include_pad", 0)))
    total, count = (
        np.sum([where.seen(part, tap, fill) for tap in where.taps()], axis=0, dtype=np.float64)
        for part, fill in ((x, 0.0), (inside, beyond))
    )
    return np.asarray(total / count)


rules.register("MaxPool")(Window(_largest))
LOCAL_MEAN = Window(_mean, zero_pads=True)
rules.register("AveragePool")(LOCAL_MEAN)
