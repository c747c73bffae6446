"""Matrix products: Gemm and MatMul contract the last axis of one operand with the second to last of the other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from compress.channels.alike import Read
from compress.channels.alike_cells import Cells
from compress.channels.alike_contraction import contracted
from compress.channels.cells import along, only_axis, project, read_by, reading, response, same, store
from compress.channels.factors import as_factors, coverage, every, on_axis, some
from compress.channels.graph import Array, Node
from compress.channels.matrices import Matrices, Operand, matrices
from compress.channels.numbering import ONE
from compress.channels.operands import unify_elementwise, unify_operands
from compress.channels.rules import rules
from compress.channels.rules.base import Rule, holds_channels, muted, once_a_node, output_shape, tells_no_places
from compress.channels.windows import LARGEST_MAP

if TYPE_CHECKING:
    from compress.channels.alike import Likeness
    from compress.channels.sweep import Kept
    from compress.channels.trace import Trace


class MatrixProduct(Rule):
    """A[…, M, K] · B[…, K, N] (+ C) → Y[…, M, N]."""

    multiplies = True
    prompted = True
    averages = True

    def label(self, node: Node, trace: Trace) -> None:
        labels, shapes = trace.labels, trace.graph.shapes
        a, b, c, y = node.input(0), node.input(1), node.input(2), node.outputs[0]
        sides = self._sides(node, trace)
        constant = trace.constant(b) is not None
        if constant:
            labels.roles[(b, sides.b.inner)] = "in"
            if sides.b.outer is not None:
                labels.roles[(b, sides.b.outer)] = "out"
        operands = [
            (tuple([side.framed(factor) for factor in labels.of(name)]), side.framed_shape(shapes[name]))
            for side, name in ((sides.a, a), (sides.b, b))
        ]
        joint = len(operands[0][1])
        reason = "its channels are spread over several axes here"
        factors: list[Array] = []
        for factor in unify_operands(labels, operands, joint, node):
            read = joint - 2 in coverage(factor)
            factors += labels.reduced(factor, (joint - 2,), node, reason) if read else (factor,)
        labels.factors[y] = as_factors(*[sides.as_result(factor.squeeze(-2)) for factor in factors])
        if c:
            if c in trace.graph.constants:
                labels.roles[(c, len(shapes[c]) - 1)] = "shift"
            labels.factors[y] = unify_elementwise(labels, [y, c], len(shapes[y]), node)
        if constant:
            # A weight with batch axes of its own uses each entry for one of them.
            positions = max(1, math.prod(shapes[y][1:-1]) // math.prod(shapes[b][:-2]))
            labels.reuse[b] = labels.reuse.get(b, 0) + positions

    def evaluate(self, node: Node, trace: Trace) -> None:
        weight = trace.full(node.input(1))
        c = trace.full(node.input(2)) if node.input(2) else np.zeros(1, np.float32)
        y = node.outputs[0]
        if (weight is None or weight.ndim != 2) and node.operator != "Gemm":
            self._evaluate_product(node, trace)
            return
        if weight is None or weight.ndim != 2 or c is None or (c.ndim > 1 and c.shape[0] > 1):
            return
        pairs = self._pairs(node, trace)
        if node.input(0) not in trace.values and every(reading(pairs)):
            return
        inputs, uneven = self._inputs(node, trace), self._uneven(node, trace)
        unknown = np.isnan(inputs)
        varies = reading(pairs, unknown & ~uneven)
        if varies.all():
            return
        values = self._response(node, trace, np.where(unknown, 0, inputs)) if not unknown.all() else 0
        values = on_axis(values + self._factor(node, "beta") * c.reshape(-1), -1, len(trace.graph.shapes[y]))
        if uneven.any():
            values = values + self._maps(node, trace, uneven)
        values = np.where(on_axis(varies, -1, values.ndim), np.nan, values)
        store(y, values.astype(weight.dtype) if weight.dtype.kind == "f" else values, trace)

    def need(self, node: Node, trace: Trace) -> None:
        a, b, c = node.input(0), node.input(1), node.input(2)
        cells, weight = trace.demand(node.outputs[0]), trace.full(b)
        if c:
            trace.need(c, np.full((1,) * len(trace.graph.shapes[c]), some(cells)))
        if weight is None or weight.ndim != 2:
            self._need_operands(cells, node, trace)
            return
        sides = self._sides(node, trace)
        wanted = only_axis(cells, -1, weight.shape[sides.b.outer or 0])
        used = read_by(self._pairs(node, trace), wanted)
        if a in trace.values and not trace.sharpening:
            # A bias can stand for an input of one value.
            inputs, uneven = self._inputs(node, trace), self._uneven(node, trace)
            firm = not trace.fold or (a in trace.tainted and not trace.alone(b))
            asked = trace.asked(node.outputs[0]) if firm else trace.asked_sharply(node.outputs[0])
            shown = read_by(self._pairs(node, trace), only_axis(asked, -1, wanted.size))
            shown = shown & (uneven | (~np.isnan(inputs) & (inputs != 0)) if firm else uneven)
            used = (used & trace.stays(inputs) & ~uneven) | shown
        trace.keep(a, on_axis(used, sides.a.inner, len(trace.graph.shapes[a])))

    def _need_operands(self, cells: Array, node: Node, trace: Trace) -> None:
        """Both operands vary: a product is idle where either factor of it is zero.

        Where both factors are constant, a constant that is added can stand for it; where one is, nothing can.
        """
        sides, shapes = self._sides(node, trace), trace.graph.shapes
        (a, left), (b, right) = (
            (name, side.framed(_busy(name, trace))) for name, side in zip(node.inputs, (sides.a, sides.b), strict=False)
        )
        wanted = np.expand_dims(sides.as_matrices(cells), -2)
        if trace.settling:
            # What is known of a product follows from what is known of both operands.
            for name, side, axis in ((a, sides.a, -1), (b, sides.b, -3)):
                used = np.asarray(wanted.any(axis=axis, keepdims=True))
                trace.need(name, project(side.unframed(used), shapes[name]))
        if trace.fold and node.operator != "Gemm":
            wanted = wanted & (_firm(a, sides.a, trace) | _firm(b, sides.b, trace))
        used = np.asarray((wanted & right).any(axis=-1, keepdims=True) & left)
        trace.keep(a, project(sides.a.unframed(used), shapes[a]))
        used = np.asarray((wanted & left).any(axis=-3, keepdims=True) & right)
        trace.keep(b, project(sides.b.unframed(used), shapes[b]))

    def blurs(self, node: Node, trace: Trace) -> Literal["mean", "place by place"] | None:
        a, b, shapes = node.input(0), node.input(1), trace.graph.shapes
        sides, weight = self._sides(node, trace), trace.full(b)
        if weight is not None and weight.ndim == 2:
            return "place by place" if len(shapes[a]) > 2 and holds_channels(a, sides.a.inner, trace) else None
        shares = trace.constant(a)
        if shares is None or not same(shares, shares.take([0], axis=sides.a.inner)):
            return None
        # Each row of the result is a multiple of the mean.
        return "mean" if tells_no_places(b, (sides.b.inner,), trace) else None

    def alike(self, node: Node, trace: Trace, likeness: Likeness) -> None:
        a, b, y = node.input(0), node.input(1), node.outputs[0]
        sides = self._sides(node, trace)
        row, inner, inner_b = sides.a.outer, sides.a.inner, sides.b.inner
        shape, rank = trace.graph.shapes[a], len(trace.graph.shapes[y])
        weight = trace.full(b)
        c = trace.full(node.input(2)) if node.input(2) else np.zeros(1)
        if c is None or (c.ndim > 1 and c.shape[0] > 1):
            likeness.fresh(y)
            return
        if weight is None or weight.ndim != 2:
            self._alike_products(node, trace, likeness)
            return
        beside = [axis for axis in range(len(shape)) if axis != inner]
        inputs = likeness.apart(likeness.opened(likeness.of(a), beside), shape, (inner,))
        columns = inputs.reshape((1, -1))
        likeness.reads.append(Read(node, b, inner_b, columns))
        rows = weight if inner_b == 1 else weight.T
        factors = columns.scales * self._factor(node, "alpha")
        bias = np.broadcast_to(c.reshape(-1) * self._factor(node, "beta"), (len(rows),))
        signature = ("MatMul", row, likeness.extent(a, columns))
        cells = contracted(likeness, signature, Cells(columns.ids, factors), rows, bias, trace.limit(weight))
        likeness.set(y, cells.reshape((1,) * (rank - 1) + (-1,)))

    def _alike_products(self, node: Node, trace: Trace, likeness: Likeness) -> None:
        """Both operands vary, or one has batch axes: each result is of the functions that are contracted."""
        names, shapes, rank = node.inputs[:2], trace.graph.shapes, len(output_shape(node, trace))
        if any(len(shapes[name]) != rank for name in names) or node.input(2) or node.attributes:
            likeness.fresh(node.outputs[0])
            return
        first, second = (
            likeness.opened(likeness.of(name), (axis,)) for name, axis in zip(names, (rank - 1, rank - 2), strict=True)
        )
        shape = np.broadcast_shapes(first.ids.shape, second.ids.shape)
        beside = [axis for axis in range(rank - 2) if shape[axis] > 1]
        parts = [likeness.apart(cells, shapes[name], beside) for cells, name in ((first, names[0]), (second, names[1]))]
        ids = np.stack([part.broadcast(shape).ids.reshape(-1) for part in parts], axis=1)
        signature = ("products", tuple(shapes[name] for name in names), names if (ids == ONE).any() else ())
        found = likeness.numbering.number(signature, ids).reshape(shape)
        likeness.set(node.outputs[0], Cells(found, parts[0].scales * parts[1].scales))

    def fold(self, node: Node, trace: Trace, kept: Kept) -> Array | None:
        """Returns what the bias gains once constant inputs are gone, or None. Shape: (N,), or one that suits Y."""
        weight = trace.full(node.input(1))
        if weight is None or weight.ndim != 2:
            return self._fold_product(node, trace, kept) if node.operator != "Gemm" else None
        inputs = self._inputs(node, trace)
        gone, silent = ~kept.mask(node.input(0), self._sides(node, trace).a.inner), self._silent(node, trace, kept)
        gone = gone if silent is None else gone | silent
        constants = np.where(gone & ~np.isnan(inputs), inputs, 0)
        uneven = gone & self._uneven(node, trace)
        if uneven.any():
            # Where that matters only the mean over all rows is read.
            maps = np.moveaxis(trace.values[node.input(0)], self._sides(node, trace).a.inner, 0).astype(np.float64)
            constants = np.where(uneven, maps.reshape(len(maps), -1).mean(axis=1), constants)
        return self._response(node, trace, constants) if constants.any() else None

    def mute(self, node: Node, trace: Trace, kept: Kept) -> Array | None:
        silent = self._silent(node, trace, kept)
        if silent is None:
            return None
        shape = trace.graph.shapes[node.input(1)]
        return np.broadcast_to(on_axis(silent, self._sides(node, trace).b.inner, len(shape)), shape)

    def _silent(self, node: Node, trace: Trace, kept: Kept) -> Array | None:
        """Returns which constants stay though nothing makes them any more, or None. Shape: (K,), booleans."""
        weight = trace.full(node.input(1))
        if weight is None or weight.ndim != 2:
            return None
        constants = ~np.isnan(self._inputs(node, trace)) | self._uneven(node, trace)
        return muted(node.input(0), self._sides(node, trace).a.inner, node.input(1), constants, trace, kept)

    def _sides(self, node: Node, trace: Trace) -> Matrices:
        """Returns how the operands lie."""
        shapes, attributes = trace.graph.shapes, node.attributes
        return matrices(
            len(shapes[node.inputs[0]]),
            len(shapes[node.inputs[1]]),
            bool(attributes.get("transA", 0)),
            bool(attributes.get("transB", 0)),
        )

    def _evaluate_product(self, node: Node, trace: Trace) -> None:
        """Σ_k a_k b_k is known where each term is: it is zero if one of its factors is, whatever the other may be.

        Where the a_k sum to one, it is also known where all b_k are the same: attention to equal values.
        """
        known = [trace.values[name] for name in node.inputs[:2] if name in trace.values]
        if not known or known[0].dtype.kind != "f":
            return
        sides = self._sides(node, trace)
        left, right = self._matrices(node, trace)
        unknown = [np.isnan(side).astype(np.float32) for side in (left, right)]
        busy = [(side != 0).astype(np.float32) for side in (left, right)]  # NaN is
        varies = (unknown[0] @ busy[1] + busy[0] @ unknown[1]) > 0
        values = np.nan_to_num(left) @ np.nan_to_num(right)
        if trace.graph.is_dynamic(node.inputs[0], sides.a.inner):
            # How many terms there are is not known.
            varies = varies | (values != 0)
        values = np.where(varies, np.nan, values)
        if trace.averaging.get(node.inputs[0]) == sides.a.inner:
            same = (right == right[..., :1, :]).all(axis=-2, keepdims=True)
            values = np.where(same & np.isnan(values), right[..., :1, :], values)
        values = sides.as_result(self._factor(node, "alpha") * values)
        store(node.outputs[0], values.astype(known[0].dtype), trace)

    def _fold_product(self, node: Node, trace: Trace, kept: Kept) -> Array | None:
        """Returns what products of two constants had added that have gone, or None."""
        sides = self._sides(node, trace)
        mask = kept.mask(node.input(0), sides.a.inner)
        if mask.all() or not all(name in trace.values for name in node.inputs[:2]):
            return None
        if node.outputs[0] in trace.tainted and not trace.asked(node.outputs[0]).any():
            return None
        left, right = (np.nan_to_num(side) for side in self._matrices(node, trace))
        gain = sides.as_result(self._factor(node, "alpha") * (np.where(mask, 0, left) @ right))
        return gain if gain.any() else None

    def _matrices(self, node: Node, trace: Trace) -> tuple[Array, Array]:
        """Returns what is known of A as […, M, K] and of B as […, K, N], NaN where nothing is; K in full, float64."""
        sides, found = self._sides(node, trace), []
        for side, name in ((sides.a, node.inputs[0]), (sides.b, node.inputs[1])):
            value = trace.values.get(name, np.full((1,) * len(trace.graph.shapes[name]), np.nan))
            if name in trace.graph.constants:
                value = np.where(trace.nonzero(name), value, 0)
            found.append(side.matrix(side.framed(value.astype(np.float64))))
        size = trace.graph.shapes[node.inputs[0]][sides.a.inner]
        left, right = found
        return (
            np.broadcast_to(left, (*left.shape[:-1], size)),
            np.broadcast_to(right, (*right.shape[:-2], size, right.shape[-1])),
        )

    @once_a_node
    def _inputs(self, node: Node, trace: Trace) -> Array:
        """Returns the constant value of each contracted position of A, NaN where it varies."""
        axis = self._sides(node, trace).a.inner
        size = trace.graph.shapes[node.input(0)][axis]
        value = trace.values.get(node.input(0))
        return np.full(size, np.nan) if value is None else along(value, axis, size).astype(np.float64)

    @once_a_node
    def _uneven(self, node: Node, trace: Trace) -> Array:
        """Returns which contracted positions of A are constant and differ from row to row. Shape: (K,), booleans."""
        axis = self._sides(node, trace).a.inner
        size, value = trace.graph.shapes[node.input(0)][axis], trace.values.get(node.input(0))
        if value is None or value.size == value.shape[axis] or value.dtype.kind != "f":
            return np.zeros(size, dtype=bool)
        rows = np.moveaxis(value, axis, 0).reshape(value.shape[axis], -1)
        if rows.shape[1] * max(trace.graph.shapes[node.input(1)]) > LARGEST_MAP:
            return np.zeros(size, dtype=bool)
        return np.broadcast_to(~np.isnan(rows).any(axis=1) & (rows != rows[:, :1]).any(axis=1), size)

    def _maps(self, node: Node, trace: Trace, inputs: Array) -> Array:
        """Returns what known inputs add to each output, in double precision; it broadcasts to the shape of Y."""
        sides = self._sides(node, trace)
        row, inner = sides.a.outer, sides.a.inner
        value = trace.values[node.input(0)]
        value = np.where(on_axis(inputs, inner, value.ndim), value, 0).astype(np.float64)
        value = value.swapaxes(row, inner) if row is not None and inner < row else value
        weight = np.broadcast_to(trace.values[node.input(1)], trace.graph.shapes[node.input(1)]).astype(np.float64)
        return np.asarray(value @ (weight.T if sides.b.inner == 1 else weight)) * self._factor(node, "alpha")

    def _pairs(self, node: Node, trace: Trace) -> Array:
        """Returns which output reads which input. Shape: (1, N, K), booleans."""
        nonzero = trace.nonzero(node.input(1))
        return (nonzero if self._sides(node, trace).b.inner == 1 else nonzero.T)[None]

    def _response(self, node: Node, trace: Trace, inputs: Array) -> Array:
        """Returns what constant inputs add to each output. Shapes: `inputs` (K,), result (N,)."""
        b = node.input(1)
        weight = np.broadcast_to(trace.values[b], trace.graph.shapes[b])
        rows = weight if self._sides(node, trace).b.inner == 1 else weight.T
        return response(rows, inputs) * self._factor(node, "alpha")

    def _factor(self, node: Node, name: str) -> float:
        return float(node.attributes.get(name, 1.0))


for _name in ("Gemm", "MatMul", "com.microsoft::FusedMatMul"):
    rules.register(_name)(MatrixProduct())


def _busy(name: str, trace: Trace) -> Array:
    """Returns which cells of an operand may be other than zero."""
    if name in trace.graph.constants:
        return trace.nonzero(name)
    value = trace.values.get(name)
    return np.ones((1,) * len(trace.graph.shapes[name]), dtype=bool) if value is None else np.asarray(value != 0)


def _firm(name: str, side: Operand, trace: Trace) -> Array:
    """Returns which cells of an operand, framed, no constant can stand for, unless it were one for each place."""
    found, value, axis = trace.varies(name), trace.values.get(name), side.outer
    if (
        value is not None
        and axis is not None
        and value.shape[axis] > 1
        and (side.first or not holds_channels(name, axis, trace))
    ):
        found = found | ~(value == value.take([0], axis=axis)).all(axis=axis, keepdims=True)
    return side.framed(found)
