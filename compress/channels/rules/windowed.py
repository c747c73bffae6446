"""Sums over windows, of convolutions and transposed ones: what constants add to them, and which of these may go.

A constant input adds to an output the same number everywhere, which a bias can add in its place; or, where windows
reach beyond the edge or the constant itself differs from place to place, a map, which is *shown*.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Literal

import numpy as np

from compress.channels.cells import along, only_axis, read_by, reading, response, shrink, store
from compress.channels.factors import every, on_axis, some
from compress.channels.graph import Array, Node
from compress.channels.rules.base import (
    NO_CARRIERS,
    Rule,
    able_to_carry,
    holds_channels,
    keep_inputs,
    muted,
    once_a_node,
)
from compress.channels.windows import GEOMETRY, LARGEST_MAP, Windows, evened, summed, windows

if TYPE_CHECKING:
    from compress.channels.kept import Kept
    from compress.channels.trace import Trace


class WindowedSum(Rule):
    """X[N, C, …], a weight, B[O] → Y[N, O, …]: Y = B + Σ over channels and taps."""

    multiplies = True
    prompted = True
    settles = True

    @abstractmethod
    def _grouped(self, weight: Array, node: Node) -> Array:
        """Returns a view of an array that is laid out like the weight. Shape: (g, O/g, C/g, taps…)."""

    @abstractmethod
    def _windows(self, node: Node, trace: Trace) -> Windows:
        """Returns where its windows read."""

    @abstractmethod
    def _pairs(self, node: Node, trace: Trace) -> Array:
        """Returns which output channel reads which input channel of its group. Shape: (g, O/g, C/g), booleans."""

    def evaluate(self, node: Node, trace: Trace) -> None:
        weight, bias = trace.full(node.input(1)), self._bias(node, trace)
        if weight is None or bias is None:
            return
        pairs = self._pairs(node, trace)
        varies = reading(pairs, self._varying(node, trace) if node.input(0) in trace.values else None)
        if every(varies):
            return
        rank, y = len(trace.graph.shapes[node.outputs[0]]), node.outputs[0]
        if not self._adds(node, trace):
            store(y, on_axis(np.where(varies, np.nan, bias), 1, rank).astype(weight.dtype), trace)
            return
        inputs, uneven = self._inputs(node, trace), self._uneven(node, trace)
        # The value of these differs from place to place, or adds up from what does.
        shown = self._shown(node, trace).any(axis=2).reshape(-1) | reading(pairs, uneven)
        values = bias + self._even(node, trace, np.where(np.isnan(inputs), 0, inputs))
        result = on_axis(np.where(varies | shown, np.nan, values), 1, rank)
        mapped = shown & ~varies
        if mapped.any():
            trace.tainted.add(y)
        if mapped.any() and self._mappable(node, trace):
            whole = np.broadcast_to(result[0], trace.graph.shapes[y][1:]).copy()
            maps = self._maps(node, trace, ~np.isnan(inputs) | uneven, mapped)
            whole[mapped] = maps + on_axis(bias[mapped], 0, rank - 1)
            result = whole[None]
        store(y, shrink(result.astype(weight.dtype), range(2, rank)), trace)

    def need(self, node: Node, trace: Trace) -> None:
        x, y = node.input(0), node.outputs[0]
        if trace.full(node.input(1)) is None:
            for name in filter(None, node.inputs):
                trace.need(name, trace.all_of(name))
            return
        wanted = only_axis(trace.demand(y), 1, trace.graph.shapes[y][1])
        used = read_by(self._pairs(node, trace), wanted)
        if trace.sharpening or x not in trace.values:
            trace.keep(x, on_axis(used, 1, len(trace.graph.shapes[x])))
        else:
            needed = used & self._varying(node, trace) | self._seen(node, trace)
            keep_inputs(x, needed, self._inputs(node, trace), self._carriers(node, trace), trace)
        if node.input(2) and not trace.sharpening:
            trace.need(node.input(2), wanted)

    def blurs(self, node: Node, trace: Trace) -> Literal["mean", "place by place"] | None:
        weight, steps = trace.graph.shapes[node.input(1)], node.attributes.get("strides") or [1]
        if max(*steps, *weight[2:]) > 1 or not holds_channels(node.input(0), 1, trace):
            return None
        still = all(every(axis.inner) for axis in self._windows(node, trace).axes)
        return "place by place" if still else None

    def fold(self, node: Node, trace: Trace, kept: Kept) -> Array | None:
        """Returns what the bias gains once constant input channels are gone, or None. Shape: (O,)."""
        if trace.full(node.input(1)) is None:
            return None
        gone, inputs = ~kept.mask(node.input(0), 1), self._inputs(node, trace)
        silent, borne = self._silent(node, trace, kept), self._borne(node, trace, kept)
        gone = gone if silent is None else gone | silent
        constants = np.where(gone & ~np.isnan(inputs) & ~borne, inputs, 0).astype(np.float64)
        uneven = gone & self._uneven(node, trace)
        gain = np.zeros(trace.graph.shapes[node.outputs[0]][1])
        if some(constants):
            gain = self._even(node, trace, constants)
        rows = reading(self._pairs(node, trace), uneven) if some(uneven) else None
        if rows is not None and some(rows):
            found = self._maps(node, trace, uneven, rows)
            gain[rows] += found.reshape(len(found), -1).mean(axis=1)
        return gain if some(gain) else None

    def mute(self, node: Node, trace: Trace, kept: Kept) -> Array | None:
        silent = self._silent(node, trace, kept)
        if silent is None:
            return None
        entries = np.zeros(trace.graph.shapes[node.input(1)], dtype=bool)
        by_group = self._grouped(entries, node)
        group, column = np.nonzero(silent.reshape(len(by_group), -1))
        by_group[group, :, column] = True
        return entries

    def carry(self, node: Node, trace: Trace, kept: Kept) -> tuple[int, Array] | None:
        """Where a bias cannot: Σ_j c_j / c_r · W[:, j] for the constants c_j that went and the carrier r that stays."""
        carrier = kept.first(node.input(0), 1, self._carriers(node, trace))
        borne = self._borne(node, trace, kept)
        if carrier is None or not borne.any():
            return None
        inputs = self._inputs(node, trace).astype(np.float64)
        shares = np.where(borne, inputs, 0) / inputs[carrier]
        return carrier, np.tensordot(self._by_group(node, trace)[0].astype(np.float64), shares, axes=(1, 0))

    def _borne(self, node: Node, trace: Trace, kept: Kept) -> Array:
        """Returns which constants have gone though they are seen: a carrier has to bear them. Shape: (C,), booleans."""
        if not self._carriers(node, trace).size:
            return np.zeros(trace.graph.shapes[node.input(0)][1], dtype=bool)
        gone, inputs = ~kept.mask(node.input(0), 1), self._inputs(node, trace)
        return np.asarray(gone & ~np.isnan(inputs) & (inputs != 0) & self._seen(node, trace))

    def _silent(self, node: Node, trace: Trace, kept: Kept) -> Array | None:
        """Returns which constants stay though nothing makes them any more, or None. Shape: (C,), booleans."""
        if trace.full(node.input(1)) is None:
            return None
        constants = ~np.isnan(self._inputs(node, trace)) | self._uneven(node, trace)
        return muted(node.input(0), 1, node.input(1), constants, trace, kept)

    def _seen(self, node: Node, trace: Trace) -> Array:
        """Returns which constant inputs an output that somebody asks for shows. Shape: (C,), booleans."""
        y = node.outputs[0]
        if not self._adds(node, trace):
            return np.zeros(trace.graph.shapes[node.input(0)][1], dtype=bool)
        sizes = trace.graph.shapes[y]
        if trace.fold and (node.input(0) not in trace.tainted or trace.alone(node.input(1))):
            symbolic = self._windows(node, trace).symbolic
            read = trace.asked(y) if symbolic else trace.asked_sharply(y)
            return read_by(self._shown(node, trace), only_axis(read, 1, sizes[1]))
        # No bias may change, so every constant is shown; or no weight, so that what is read has to be right.
        inputs = self._inputs(node, trace)
        constant = (~np.isnan(inputs) & (inputs != 0)) | self._uneven(node, trace)
        return np.asarray(read_by(self._pairs(node, trace), only_axis(trace.asked(y), 1, sizes[1])) & constant)

    @once_a_node
    def _shown(self, node: Node, trace: Trace) -> Array:
        """Returns which output shows which constant input, so that no bias can stand for it. Shape: (g, O/g, C/g)."""
        pairs, inputs, uneven = self._pairs(node, trace), self._inputs(node, trace), self._uneven(node, trace)
        constant = ~np.isnan(inputs) & (inputs != 0)
        groups, outputs, width = pairs.shape
        found = np.zeros(pairs.shape, dtype=bool)
        places = self._windows(node, trace).sometimes
        if places.any() and constant.any():
            group, column = np.nonzero(constant.reshape(groups, width))
            entries = self._by_group(node, trace)[group, :, column].reshape(len(group), outputs, places.size)
            nonzero = np.abs(entries[..., places]) > trace.limit(trace.values[node.input(1)])
            found[group, :, column] = nonzero.any(axis=-1)
        if uneven.any():
            found |= self._unevenly(node, trace, uneven)
        return found

    def _unevenly(self, node: Node, trace: Trace, uneven: Array) -> Array:
        """Returns which output makes a map of which input that is one. Shape: (g, O/g, C/g), booleans."""
        pairs, where = self._pairs(node, trace), self._windows(node, trace)
        groups, _, width = pairs.shape
        group, column = np.nonzero(uneven.reshape(groups, width))
        found = np.zeros(pairs.shape, dtype=bool)
        found[group, :, column] = pairs[group, :, column]
        size = int(found.sum()) * math.prod(where.shape)
        if size == 0 or ((where.symbolic or size > LARGEST_MAP) and math.prod(where.shape) > 1):
            return found
        g, o, c = np.nonzero(found)
        weight = self._by_group(node, trace)[g, o, c][:, None, None]
        x = self._known(node, trace)[g * width + c][:, None]
        maps = summed(x, weight, where).reshape(len(g), *where.shape)
        added = summed(np.abs(x), np.abs(weight), where).reshape(len(g), -1).max(axis=1)
        rows = evened(maps, added).reshape(len(g), -1)
        found[g, o, c] = np.ptp(rows, axis=1) > 0
        return found

    def _maps(self, node: Node, trace: Trace, inputs: Array, outputs: Array) -> Array:
        """Returns what known inputs add to some outputs. Shapes: (C,), (O,), booleans; (outputs, space…), float64."""
        weight, where = self._by_group(node, trace), self._windows(node, trace)
        groups, _, width = weight.shape[:3]
        x = np.where(on_axis(inputs, 0, 1 + len(where.shape)), self._known(node, trace), 0)
        x, rows = x.reshape(groups, width, *x.shape[1:]), outputs.reshape(groups, -1)
        taken = np.flatnonzero(rows.any(axis=1))
        if groups == 1:
            columns = np.flatnonzero(inputs)
            weight, x, rows = weight[:, rows[0]][:, :, columns], x[:, columns], rows[:, rows[0]]
        else:
            weight, x, rows = weight[taken], x[taken], rows[taken]
        found = summed(x, weight, where).reshape(-1, *where.shape)[rows.reshape(-1)]
        added = summed(np.abs(x), np.abs(weight), where).reshape(rows.size, -1)[rows.reshape(-1)]
        return evened(found, added.max(axis=1))

    def _by_group(self, node: Node, trace: Trace) -> Array:
        """Returns the weight, no copy of it. Shape: (g, O/g, C/g, taps…)."""
        weight = np.broadcast_to(trace.values[node.input(1)], trace.graph.shapes[node.input(1)])
        return self._grouped(weight, node)

    def _known(self, node: Node, trace: Trace) -> Array:
        """Returns what is known of the input, 0 elsewhere. Shape: (C, space…)."""
        shape, value = trace.graph.shapes[node.input(0)], trace.values[node.input(0)]
        return np.asarray(np.nan_to_num(np.broadcast_to(value[0], shape[1:])))

    def _mappable(self, node: Node, trace: Trace) -> bool:
        """Tells whether the sizes are known, and small enough to tell places apart."""
        size = math.prod(trace.graph.shapes[node.outputs[0]][1:])
        return size <= LARGEST_MAP and not self._windows(node, trace).symbolic

    def _carriers(self, node: Node, trace: Trace) -> Array:
        """Returns the constant input channels that can bear the others; none where a bias does or nothing can."""
        groups = int(node.attributes.get("group", 1))
        if groups > 1 or not trace.fold or not self._adds(node, trace) or node.input(1) not in trace.graph.constants:
            return NO_CARRIERS
        return able_to_carry(self._inputs(node, trace))

    @once_a_node
    def _inputs(self, node: Node, trace: Trace) -> Array:
        """Returns the constant value of each input channel, NaN where it varies over input, batch or space."""
        size = trace.graph.shapes[node.input(0)][1]
        value = trace.values.get(node.input(0))
        return np.full(size, np.nan, np.float32) if value is None else along(value, 1, size)

    @once_a_node
    def _uneven(self, node: Node, trace: Trace) -> Array:
        """Returns which input channels are constant and differ from place to place. Shape: (C,), booleans."""
        shape, value = trace.graph.shapes[node.input(0)], trace.values.get(node.input(0))
        if value is None or value.shape[0] > 1 or max(value.shape[2:], default=1) == 1:
            return np.zeros(shape[1], dtype=bool)
        rows = value[0].reshape(value.shape[1], -1)
        return np.broadcast_to(~np.isnan(rows).any(axis=1) & (rows != rows[:, :1]).any(axis=1), shape[1])

    @once_a_node
    def _varying(self, node: Node, trace: Trace) -> Array:
        """Returns which input channels depend on the input. Shape: (C,), booleans."""
        return np.isnan(self._inputs(node, trace)) & ~self._uneven(node, trace)

    @once_a_node
    def _adds(self, node: Node, trace: Trace) -> bool:
        """Tells whether some input channel is known and not zero; most that are known are."""
        inputs = self._inputs(node, trace)
        return some(~np.isnan(inputs) & (inputs != 0)) or some(self._uneven(node, trace))

    def _bias(self, node: Node, trace: Trace) -> Array | None:
        size = trace.graph.shapes[node.outputs[0]][1]
        return trace.full(node.input(2)) if node.input(2) else np.zeros(size, np.float32)

    def _even(self, node: Node, trace: Trace, inputs: Array) -> Array:
        """Returns what constant channels add to each output, in the mean over places: everywhere, or all that is read.

        Shapes: `inputs` (C,), result (O,).
        """
        weight, places = self._by_group(node, trace), self._windows(node, trace).shares
        per_group = inputs.reshape(len(weight), -1)
        if per_group.shape[1] == 1:
            # Depthwise: all groups at once.
            gains = np.zeros(weight.shape[:2])
            read = np.flatnonzero(per_group)
            kernels = weight[read].reshape(len(read), weight.shape[1], places.size).astype(np.float64)
            gains[read] = (kernels @ places) * per_group[read]
            return gains.reshape(-1)
        return np.concatenate([response(w, values, places) for w, values in zip(weight, per_group, strict=True)])


def windows_of(node: Node, trace: Trace, *, transposed: bool = False) -> Windows:
    """Returns where the windows of a convolution read."""
    x, y = node.input(0), node.outputs[0]
    shape, result = trace.graph.shapes[x], trace.graph.shapes[y]
    free = tuple(trace.graph.is_dynamic(x, axis) for axis in range(2, len(shape)))
    kernel = trace.graph.shapes[node.input(1)][2:]
    # Most networks repeat a few convolutions.
    key = (kernel, shape[2:], result[2:], free, transposed, *(str(node.attributes.get(name)) for name in GEOMETRY))
    return trace.once(key, lambda: windows(node, kernel, shape[2:], result[2:], free, transposed=transposed))
