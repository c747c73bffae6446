"""Operators that compare, sum up or blank out along an axis, or sample over space: that axis stays, the others pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from compress.channels.cells import only_axis, store
from compress.channels.factors import coverage
from compress.channels.graph import Node
from compress.channels.rules import rule
from compress.channels.rules.base import Rule
from compress.channels.rules.normalization import OverAxes
from compress.channels.rules.window import Reduction

if TYPE_CHECKING:
    from compress.channels.trace import Trace


class _Along(OverAxes):
    """Values of some axes are combined; the result has the input's shape."""

    def __init__(self) -> None:
        super().__init__(-1, onwards=False, operands=1)


@rule("CumSum")
class RunningSum(_Along):
    """Sums up along an axis."""

    def _axes(self, node: Node, trace: Trace) -> tuple[int, ...]:
        rank, axis = len(trace.graph.shapes[node.input(0)]), trace.integers(node.input(1))
        return tuple(range(rank)) if axis is None else (int(axis.reshape(-1)[0]) % rank,)


@rule("Trilu")
class Triangle(_Along):
    """Blanks out one side of the diagonal of the last two axes."""

    def _axes(self, node: Node, trace: Trace) -> tuple[int, ...]:
        rank = len(trace.graph.shapes[node.input(0)])
        return (rank - 2, rank - 1)


@rule("MeanVarianceNormalization")
class Standardization(_Along):
    """Brings some axes to mean 0 and variance 1."""

    def _axes(self, node: Node, trace: Trace) -> tuple[int, ...]:
        rank = len(trace.graph.shapes[node.input(0)])
        return tuple(sorted(int(axis) % rank for axis in node.attributes.get("axes", (0, 2, 3))))


@rule("ArgMax", "ArgMin")
class Position(Reduction):
    """Where along an axis the largest or the least value stands."""

    def evaluate(self, node: Node, trace: Trace) -> None:
        return None

    def need(self, node: Node, trace: Trace) -> None:
        super().need(node, trace)
        # A value that is known is compared as well.
        x = node.input(0)
        if trace.demand(node.outputs[0]).any():
            trace.keep(x, trace.all_of(x))

    def _axes(self, node: Node, trace: Trace) -> tuple[int, ...]:
        return (int(node.attributes.get("axis", 0)) % len(trace.graph.shapes[node.input(0)]),)


@rule("TopK")
class Largest(Rule):
    """The largest values along an axis, and where they stand."""

    several_outputs = True

    def label(self, node: Node, trace: Trace) -> None:
        labels, x, axis = trace.labels, node.input(0), self._axis(node, trace)
        labels.pin_axes(x, (axis,), node, "its values are compared")
        for name in filter(None, node.outputs):
            labels.factors[name] = tuple(factor for factor in labels.of(x) if axis not in coverage(factor))

    def evaluate(self, node: Node, trace: Trace) -> None:
        return None

    def need(self, node: Node, trace: Trace) -> None:
        axis = self._axis(node, trace)
        for name in filter(None, node.outputs):
            trace.keep(node.input(0), np.asarray(trace.demand(name).any(axis=axis, keepdims=True)))

    def _axis(self, node: Node, trace: Trace) -> int:
        return int(node.attributes.get("axis", -1)) % len(trace.graph.shapes[node.input(0)])


@rule("GridSample", "GlobalLpPool", "LpPool", "MaxRoiPool", "RoiAlign")
class Sampling(Rule):
    """X[N, C, …] → Y[M, C, …]: each value follows from others of its channel; what follows from zeros is zero."""

    def label(self, node: Node, trace: Trace) -> None:
        labels, x = trace.labels, node.input(0)
        for factor in labels.of(x):
            if coverage(factor) != (1,):
                labels.pin(factor, node, "it is batch or space of an operator that samples")
        labels.factors[node.outputs[0]] = tuple(factor for factor in labels.of(x) if coverage(factor) == (1,))

    def evaluate(self, node: Node, trace: Trace) -> None:
        value = trace.values.get(node.input(0))
        if value is not None and all(size == 1 for axis, size in enumerate(value.shape) if axis != 1):
            store(node.outputs[0], np.where(value == 0, value, np.asarray(np.nan, value.dtype)), trace)

    def need(self, node: Node, trace: Trace) -> None:
        x, shape = node.input(0), trace.graph.shapes[node.input(0)]
        channels = only_axis(trace.demand(node.outputs[0]), 1, shape[1])
        trace.need(x, channels.reshape([shape[1] if axis == 1 else 1 for axis in range(len(shape))]))
