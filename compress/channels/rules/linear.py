"""Matrix products: Gemm and MatMul contract the last axis of one operand with the second to last of the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from compress.channels.cells import along, only_axis, store
from compress.channels.graph import Array, Node
from compress.channels.labels import as_factors, coverage, on_axis
from compress.channels.rules import rules
from compress.channels.rules.base import Rule

if TYPE_CHECKING:
    from compress.channels.sweep import Kept
    from compress.channels.trace import Trace


class MatrixProduct(Rule):
    """A[…, M, K] · B[…, K, N] (+ C) → Y[…, M, N]."""

    def label(self, node: Node, trace: Trace) -> None:
        labels, shapes = trace.labels, trace.graph.shapes
        a, b, c, y = node.input(0), node.input(1), node.input(2), node.outputs[0]
        row, inner_a, inner_b, column = self._axes(node, trace)
        rank = len(shapes[y])
        constant = b in trace.graph.constants
        first = labels.axis(a, inner_a, node)
        second = labels.axis(b, inner_b, node, role="in" if constant else None)
        labels.unify(first, second, node)
        factors: list[Array] = []
        if column is not None:
            columns = labels.axis(b, column, node, role="out" if constant else None)
            factors.append(on_axis(columns, rank - 1, rank))
        if row is not None:
            rows = labels.axis(a, row, node)
            factors.append(on_axis(rows, rank - 1 - (column is not None), rank))
        batch = rank - (row is not None) - (column is not None)
        leading = [_leading(labels.of(name), shapes[name], used) for name, used in ((a, 2), (b, 2))]
        factors += labels.unify_operands([(f, s) for f, s in leading if s], batch, node) if batch else ()
        factors = [factor.reshape(factor.shape + (1,) * (rank - factor.ndim)) for factor in factors]
        labels.factors[y] = as_factors(*factors)
        if c:
            if c in trace.graph.constants:
                labels.roles[(c, len(shapes[c]) - 1)] = "shift"
            operands = [(labels.of(y), shapes[y]), (labels.of(c), shapes[c])]
            labels.factors[y] = labels.unify_operands(operands, rank, node)
        if constant:
            positions = int(np.prod(shapes[y][1:-1])) if rank > 1 else 1
            # A weight with batch axes of its own uses each entry for one of them.
            positions = max(1, positions // int(np.prod(shapes[b][:-2])))
            labels.reuse[b] = labels.reuse.get(b, 0) + positions

    def evaluate(self, node: Node, trace: Trace) -> None:
        weight = trace.full(node.input(1))
        c = trace.full(node.input(2)) if node.input(2) else np.zeros(1, np.float32)
        y = node.outputs[0]
        if weight is None or weight.ndim != 2 or c is None or (c.ndim > 1 and c.shape[0] > 1):
            return
        inputs = self._inputs(node, trace)
        unknown = np.isnan(inputs)
        varies = self._reads(node, trace)[:, unknown].any(axis=1)
        values = self._dense(node, trace) @ np.where(unknown, 0, inputs) if not unknown.all() else 0
        values = values + self._factor(node, "beta") * c.reshape(-1)
        store(y, on_axis(np.where(varies, np.nan, values).astype(weight.dtype), -1, len(trace.graph.shapes[y])), trace)

    def need(self, node: Node, trace: Trace) -> None:
        a, b, c, y = node.input(0), node.input(1), node.input(2), node.outputs[0]
        shapes = trace.graph.shapes
        cells = trace.demand(y)
        if c:
            trace.need(c, np.ones((1,) * len(shapes[c]), dtype=bool) & cells.any())
        weight = trace.full(b)
        if weight is not None and weight.ndim == 2:
            wanted = only_axis(cells, -1, weight.shape[self._axes(node, trace)[3] or 0])
            used = np.asarray(self._reads(node, trace)[wanted].any(axis=0))
            axis = self._axes(node, trace)[1]
            # A bias can stand for an input of one value.
            trace.keep(a, on_axis(used & trace.stays(self._inputs(node, trace)), axis, len(shapes[a])))
            return
        # Two operands that vary: a contracted position is idle if it is zero in either.
        _, inner_a, inner_b, _ = self._axes(node, trace)
        size = shapes[a][inner_a]
        busy = np.full(size, bool(cells.any()))
        for name, axis in ((a, inner_a), (b, inner_b)):
            value = trace.values.get(name)
            if value is not None:
                busy = busy & only_axis(value != 0, axis, size)
        trace.need(a, on_axis(busy, inner_a, len(shapes[a])))
        trace.need(b, on_axis(busy, inner_b, len(shapes[b])))
        for name, axis in ((a, inner_a), (b, inner_b)):
            value = trace.values.get(name)
            if value is not None:
                # No bias can stand for a constant here: its product with the other operand varies.
                trace.keep(name, on_axis(busy & only_axis((value != 0), axis, size), axis, len(shapes[name])))

    def fold(self, node: Node, trace: Trace, kept: Kept) -> Array | None:
        """Returns what the bias gains once constant inputs are gone, or None. Shape: (N,)."""
        weight = trace.full(node.input(1))
        if weight is None or weight.ndim != 2:
            return None
        inputs = self._inputs(node, trace)
        gone = ~kept.mask(node.input(0), self._axes(node, trace)[1]) & ~np.isnan(inputs)
        constants = np.where(gone, inputs, 0)
        return self._dense(node, trace) @ constants if constants.any() else None

    def _axes(self, node: Node, trace: Trace) -> tuple[int | None, int, int, int | None]:
        """Returns the axes of rows and contraction in A, of contraction and columns in B; None where 1-D."""
        rank_a, rank_b = (len(trace.graph.shapes[name]) for name in node.inputs[:2])
        row, inner_a = (rank_a - 2, rank_a - 1) if rank_a > 1 else (None, 0)
        inner_b, column = (rank_b - 2, rank_b - 1) if rank_b > 1 else (0, None)
        if row is not None and node.attributes.get("transA", 0):
            row, inner_a = inner_a, row
        if column is not None and node.attributes.get("transB", 0):
            inner_b, column = column, inner_b
        return row, inner_a, inner_b, column

    def _inputs(self, node: Node, trace: Trace) -> Array:
        """Returns the constant value of each contracted position of A, NaN where it varies."""
        axis = self._axes(node, trace)[1]
        size = trace.graph.shapes[node.input(0)][axis]
        value = trace.values.get(node.input(0))
        return np.full(size, np.nan) if value is None else along(value, axis, size).astype(np.float64)

    def _reads(self, node: Node, trace: Trace) -> Array:
        """Returns which output reads which input. Shape: (N, K), booleans."""
        nonzero = trace.nonzero(node.input(1))
        return nonzero if self._axes(node, trace)[2] == 1 else nonzero.T

    def _dense(self, node: Node, trace: Trace) -> Array:
        b = node.input(1)
        weight = np.broadcast_to(trace.values[b], trace.graph.shapes[b]).astype(np.float64) * self._factor(
            node, "alpha"
        )
        return weight if self._axes(node, trace)[2] == 1 else weight.T

    def _factor(self, node: Node, name: str) -> float:
        return float(node.attributes.get(name, 1.0))


for _name in ("Gemm", "MatMul"):
    rules.register(_name)(MatrixProduct())


def _leading(
    factors: tuple[Array, ...], shape: tuple[int, ...], used: int
) -> tuple[tuple[Array, ...], tuple[int, ...]]:
    """Returns the factors and shape of an operand's batch axes."""
    rank = len(shape) - used
    batch = [f for f in factors if all(axis < rank for axis in coverage(f))] if rank > 0 else []
    return tuple(f.reshape(f.shape[:rank]) for f in batch), tuple(shape[: max(rank, 0)])
