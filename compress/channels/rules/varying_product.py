"""Products of two matrices that vary, or one of which has batch axes of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from compress.channels.alike_cells import Cells
from compress.channels.cells import project, same, store
from compress.channels.graph import Array, Node
from compress.channels.matrices import Operand
from compress.channels.numbering import ONE
from compress.channels.rules.base import holds_channels, output_shape, tells_no_places
from compress.channels.rules.matrix_product import Product

if TYPE_CHECKING:
    from compress.channels.alike import Likeness
    from compress.channels.kept import Kept
    from compress.channels.trace import Trace


class VaryingProduct(Product):
    """Each result is a sum of products of which either factor may be known."""

    def evaluate(self, node: Node, trace: Trace) -> None:
        """Σ_k a_k b_k is known where each term is: it is zero if one of its factors is, whatever the other may be.

        Where the a_k sum to one, it is also known where all b_k are the same: attention to equal values.
        """
        if node.operator == "Gemm":
            return
        known = [trace.values[name] for name in node.inputs[:2] if name in trace.values]
        if not known or known[0].dtype.kind != "f":
            return
        sides = self._sides(node, trace)
        left, right = self._matrices(node, trace)
        unknown = [np.isnan(side) for side in (left, right)]
        numbers = [np.where(cells, 0, side) for cells, side in zip(unknown, (left, right), strict=True)]
        busy = [(side != 0).astype(np.float32) for side in (left, right)]  # NaN is
        varies = (unknown[0].astype(np.float32) @ busy[1] + busy[0] @ unknown[1].astype(np.float32)) > 0
        values = numbers[0] @ numbers[1]
        if trace.graph.is_dynamic(node.inputs[0], sides.a.inner):
            # How many terms there are is not known.
            varies = varies | (values != 0)
        values = np.where(varies, np.nan, values)
        if trace.averaging.get(node.inputs[0]) == sides.a.inner:
            same = (right == right[..., :1, :]).all(axis=-2, keepdims=True)
            values = np.where(same & np.isnan(values), right[..., :1, :], values)
        values = sides.as_result(self._factor(node, "alpha") * values)
        store(node.outputs[0], values.astype(known[0].dtype), trace)

    def need(self, node: Node, trace: Trace) -> None:
        """A product is idle where either factor of it is zero.

        Where both factors are constant, a constant that is added can stand for it; where one is, nothing can.
        """
        cells = trace.demand(node.outputs[0])
        self._need_added(cells, node, trace)
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
        sides, shares = self._sides(node, trace), trace.constant(node.input(0))
        if shares is None or not same(shares, shares.take([0], axis=sides.a.inner)):
            return None
        # Each row of the result is a multiple of the mean.
        return "mean" if tells_no_places(node.input(1), (sides.b.inner,), trace) else None

    def alike(self, node: Node, trace: Trace, likeness: Likeness) -> None:
        """Each result is of the functions that are contracted."""
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
        """Returns what products of two constants had added that have gone, or None."""
        if node.operator == "Gemm":
            return None
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


def _busy(name: str, trace: Trace) -> Array:
    """Returns which cells of an operand may be other than zero."""
    if name in trace.graph.constants:
        return trace.nonzero(name)
    value = trace.values.get(name)
    return trace.all_of(name) if value is None else np.asarray(value != 0)


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
