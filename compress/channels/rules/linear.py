"""Matrix products with a known matrix: one labelled axis is contracted, another produced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from compress.channels.alike import Read
from compress.channels.alike_cells import Cells
from compress.channels.alike_contraction import contracted
from compress.channels.cells import along, only_axis, read_by, reading, response, store
from compress.channels.factors import every, on_axis, some
from compress.channels.graph import Array, Node
from compress.channels.rules import rules
from compress.channels.rules.base import Glance, holds_channels, muted, once_a_node
from compress.channels.rules.matrix_product import Product
from compress.channels.rules.varying_product import VaryingProduct
from compress.channels.windows import LARGEST_MAP

if TYPE_CHECKING:
    from compress.channels.alike import Likeness
    from compress.channels.kept import Kept
    from compress.channels.trace import Trace


_VARYING = VaryingProduct()


class MatrixProduct(Product):
    """B is a known matrix: what lies along K is read as channels are by a convolution; else see `VaryingProduct`."""

    def evaluate(self, node: Node, trace: Trace) -> None:
        weight, y = self._weight(node, trace), node.outputs[0]
        if weight is None:
            _VARYING.evaluate(node, trace)
            return
        c = trace.full(node.input(2)) if node.input(2) else np.zeros(1, np.float32)
        if c is None or (c.ndim > 1 and c.shape[0] > 1):
            return
        pairs = self._pairs(node, trace)
        if node.input(0) not in trace.values and every(reading(pairs)):
            return
        inputs, uneven = self._inputs(node, trace), self._uneven(node, trace)
        unknown = np.isnan(inputs)
        varies = reading(pairs, unknown & ~uneven)
        if every(varies):
            return
        values = self._response(node, trace, np.where(unknown, 0, inputs)) if not every(unknown) else 0
        values = on_axis(values + self._factor(node, "beta") * c.reshape(-1), -1, len(trace.graph.shapes[y]))
        if some(uneven):
            values = values + self._maps(node, trace, uneven)
        values = np.where(on_axis(varies, -1, values.ndim), np.nan, values)
        store(y, values.astype(weight.dtype) if weight.dtype.kind == "f" else values, trace)

    def need(self, node: Node, trace: Trace) -> None:
        weight = self._weight(node, trace)
        if weight is None:
            _VARYING.need(node, trace)
            return
        a, b, sides = node.input(0), node.input(1), self._sides(node, trace)
        cells = trace.demand(node.outputs[0])
        self._need_added(cells, node, trace)
        wanted = only_axis(cells, -1, weight.shape[sides.b.outer or 0])
        used = read_by(self._pairs(node, trace), wanted)
        if a in trace.values and not trace.sharpening:
            # A bias can stand for an input of one value.
            inputs, uneven = self._inputs(node, trace), self._uneven(node, trace)
            firm = not trace.fold or (a in trace.tainted and not trace.alone(b))
            shown = uneven | (~np.isnan(inputs) & (inputs != 0)) if firm else uneven
            used = used & trace.stays(inputs) & ~uneven
            if some(shown):
                asked = trace.asked(node.outputs[0]) if firm else trace.asked_sharply(node.outputs[0])
                used = used | (shown & read_by(self._pairs(node, trace), only_axis(asked, -1, wanted.size)))
        trace.keep(a, on_axis(used, sides.a.inner, len(trace.graph.shapes[a])))

    def blurs(self, node: Node, trace: Trace) -> Literal["mean", "place by place"] | None:
        if self._weight(node, trace) is None:
            return _VARYING.blurs(node, trace)
        a, inner = node.input(0), self._sides(node, trace).a.inner
        return "place by place" if len(trace.graph.shapes[a]) > 2 and holds_channels(a, inner, trace) else None

    def glance(self, node: Node, trace: Trace) -> Glance | None:
        weight = self._weight(node, trace)
        if weight is None:
            return None
        return weight if self._sides(node, trace).b.inner == 1 else weight.T

    def alike(self, node: Node, trace: Trace, likeness: Likeness) -> None:
        weight = self._weight(node, trace)
        if weight is None:
            _VARYING.alike(node, trace, likeness)
            return
        a, b, y = node.input(0), node.input(1), node.outputs[0]
        sides = self._sides(node, trace)
        row, inner, inner_b = sides.a.outer, sides.a.inner, sides.b.inner
        shape, rank = trace.graph.shapes[a], len(trace.graph.shapes[y])
        c = trace.full(node.input(2)) if node.input(2) else np.zeros(1)
        if c is None or (c.ndim > 1 and c.shape[0] > 1):
            likeness.fresh(y)
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

    def fold(self, node: Node, trace: Trace, kept: Kept) -> Array | None:
        """Returns what the bias gains once constant inputs are gone, or None. Shape: (N,), or one that suits Y."""
        if self._weight(node, trace) is None:
            return _VARYING.fold(node, trace, kept)
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
        if self._weight(node, trace) is None:
            return None
        constants = ~np.isnan(self._inputs(node, trace)) | self._uneven(node, trace)
        return muted(node.input(0), self._sides(node, trace).a.inner, node.input(1), constants, trace, kept)

    def _weight(self, node: Node, trace: Trace) -> Array | None:
        """Returns B if it is a known matrix."""
        weight = trace.full(node.input(1))
        return weight if weight is not None and weight.ndim == 2 else None

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


for _name in ("Gemm", "MatMul", "com.microsoft::FusedMatMul"):
    rules.register(_name)(MatrixProduct())
