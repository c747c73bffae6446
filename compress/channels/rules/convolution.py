"""Convolutions: one labelled axis is contracted, another produced."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from compress.channels.alike import Read
from compress.channels.alike_contraction import contracted
from compress.channels.cells import along, only_axis, read_by, reading, response, store
from compress.channels.graph import Array, Node
from compress.channels.labels import as_factors, coverage, on_axis
from compress.channels.rules import rule
from compress.channels.rules.base import NO_CARRIERS, NodeEdit, Rule, able_to_carry, keep_inputs, pads

if TYPE_CHECKING:
    from compress.channels.alike import Likeness
    from compress.channels.sweep import Kept
    from compress.channels.trace import Trace


@rule("Conv")
class Convolution(Rule):
    """Conv of any number of spatial axes: X[N, C, …], W[O, C/g, …], B[O] → Y[N, O, …]."""

    def label(self, node: Node, trace: Trace) -> None:
        labels, shapes = trace.labels, trace.graph.shapes
        x, weight, bias = node.input(0), node.input(1), node.input(2)
        groups = int(node.attributes.get("group", 1))
        inputs = labels.axis(x, 1, node)
        rows = labels.axis(weight, 0, node, role="out")
        columns = labels.axis(weight, 1, node, role="in")
        if groups == 1:
            labels.unify(inputs, columns, node)
        else:
            self._label_groups(inputs.reshape(groups, -1), rows.reshape(groups, -1), columns, node, trace)
        if bias:
            labels.unify(labels.axis(bias, 0, node, role="shift"), rows, node)
        rank = len(shapes[x])
        for name in (x, weight):
            labels.pin_axes(name, tuple(range(2, rank)), node, "it is a spatial axis of a convolution")
        batch = [factor for factor in labels.of(x) if coverage(factor) == (0,)]
        labels.factors[node.outputs[0]] = as_factors(on_axis(rows, 1, rank), *batch)
        labels.reuse[weight] = labels.reuse.get(weight, 0) + int(np.prod(shapes[node.outputs[0]][2:]))

    def _label_groups(self, read: Array, made: Array, columns: Array, node: Node, trace: Trace) -> None:
        """Ties a group's inputs and outputs. Shapes: `read` (g, C/g), `made` (g, O/g), `columns` (C/g,)."""
        labels = trace.labels
        if read.shape[1] == 1:
            # Depthwise: the outputs of a channel go with it, or each loses as many as the others.
            labels.tie_slices(made, 0, read.reshape(-1), node)
        elif labels.spread:
            # A group goes with all it reads and makes; else each loses as many channels as the others.
            whole = labels.fresh(len(read))
            labels.tie_slices(read, 0, whole, node)
            labels.tie_slices(read, 1, columns, node, weight=node.input(1))
            labels.tie_slices(made, 0, whole, node)
        else:
            labels.unify(read, columns[None, :], node)
            labels.unify(made, made[:1], node)

    def evaluate(self, node: Node, trace: Trace) -> None:
        weight = trace.full(node.input(1))
        if weight is None:
            return
        bias = self._bias(node, trace, weight.shape[0])
        if bias is None:
            return
        inputs, padding = self._inputs(node, trace), pads(node)
        unknown = np.isnan(inputs) | (padding & (inputs != 0))
        varies = reading(self._pairs(node, trace), unknown)
        known = np.where(unknown, 0, inputs).astype(weight.dtype)
        values = bias.copy()
        if known.any():
            values = values + self._response(node, trace, known)
        rank = len(trace.graph.shapes[node.outputs[0]])
        store(node.outputs[0], on_axis(np.where(varies, np.nan, values).astype(weight.dtype), 1, rank), trace)

    def need(self, node: Node, trace: Trace) -> None:
        x, weight = node.input(0), node.input(1)
        out_shape = trace.graph.shapes[node.outputs[0]]
        if trace.full(weight) is None:
            for name in (x, weight, node.input(2)):
                if name:
                    trace.need(name, np.ones((1,) * len(trace.graph.shapes[name]), dtype=bool))
            return
        wanted = only_axis(trace.demand(node.outputs[0]), 1, out_shape[1])
        used = read_by(self._pairs(node, trace), wanted)
        inputs = self._inputs(node, trace)
        needed = used & trace.stays(inputs, foldable=not pads(node))
        keep_inputs(x, needed, inputs, self._carriers(node, trace), trace)
        if node.input(2):
            trace.need(node.input(2), wanted)

    def alike(self, node: Node, trace: Trace, likeness: Likeness) -> None:
        x, name, y = node.input(0), node.input(1), node.outputs[0]
        weight, shape = trace.full(name), trace.graph.shapes[x]
        bias = None if weight is None else self._bias(node, trace, weight.shape[0])
        if weight is None or bias is None:
            likeness.fresh(y)
            return
        beside = [axis for axis in range(len(shape)) if axis != 1]
        inputs = likeness.apart(likeness.opened(likeness.of(x), beside), shape, (1,))
        columns = inputs.at(np.arange(shape[1]).reshape(int(node.attributes.get("group", 1)), -1))
        likeness.reads.append(Read(node, name, 1, columns))
        signature = likeness.signature(node, columns, without=("group",))
        rows = contracted(likeness, signature, columns, weight, bias, trace.limit(weight))
        likeness.set(y, rows.at(np.arange(len(weight)).reshape([-1 if a == 1 else 1 for a in range(len(shape))])))

    def resize(self, node: Node, trace: Trace, kept: Kept) -> NodeEdit | None:
        groups = int(node.attributes.get("group", 1))
        remaining = int(kept.mask(node.input(0), 1).reshape(groups, -1).any(axis=1).sum())
        return NodeEdit(attributes={"group": remaining}) if remaining != groups else None

    def fold(self, node: Node, trace: Trace, kept: Kept) -> Array | None:
        """Returns what the bias gains once constant input channels are gone, or None. Shape: (O,)."""
        if trace.full(node.input(1)) is None or self._carriers(node, trace).size:
            return None
        constants = self._gone(node, trace, kept)
        return self._response(node, trace, constants) if constants.any() else None

    def carry(self, node: Node, trace: Trace, kept: Kept) -> tuple[int, Array] | None:
        """Beside zero padding: Σ_j c_j / c_r · W[:, j] for the constants c_j that went and the carrier r that stays."""
        carrier = kept.first(node.input(0), 1, self._carriers(node, trace))
        if carrier is None:
            return None
        shares = self._gone(node, trace, kept) / float(self._inputs(node, trace)[carrier])
        if not shares.any():
            return None
        weight = trace.values[node.input(1)].astype(np.float64)
        return carrier, np.tensordot(weight, shares, axes=(1, 0))

    def _carriers(self, node: Node, trace: Trace) -> Array:
        """Returns the constant input channels that can bear the others; none where a bias does or nothing can."""
        groups = int(node.attributes.get("group", 1))
        if not pads(node) or not trace.fold or groups > 1 or node.input(1) not in trace.graph.constants:
            return NO_CARRIERS
        return able_to_carry(self._inputs(node, trace))

    def _gone(self, node: Node, trace: Trace, kept: Kept) -> Array:
        """Returns the value of each constant input channel that goes, 0 for the others. Shape: (C,), float64."""
        inputs = self._inputs(node, trace).astype(np.float64)
        return np.where(~kept.mask(node.input(0), 1) & ~np.isnan(inputs), inputs, 0)

    def _inputs(self, node: Node, trace: Trace) -> Array:
        """Returns the constant value of each input channel, NaN where it varies over input, batch or space."""
        size = trace.graph.shapes[node.input(0)][1]
        value = trace.values.get(node.input(0))
        return np.full(size, np.nan, np.float32) if value is None else along(value, 1, size)

    def _bias(self, node: Node, trace: Trace, size: int) -> Array | None:
        return trace.full(node.input(2)) if node.input(2) else np.zeros(size, np.float32)

    def _pairs(self, node: Node, trace: Trace) -> Array:
        """Returns which output channel reads which input channel of its group. Shape: (g, O/g, C/g), booleans."""
        pairs = trace.nonzero(node.input(1), axes=2)
        return pairs.reshape(int(node.attributes.get("group", 1)), -1, pairs.shape[1])

    def _response(self, node: Node, trace: Trace, inputs: Array) -> Array:
        """Returns what constant input channels add to each output channel. Shapes: `inputs` (C,), result (O,)."""
        weight = np.broadcast_to(trace.values[node.input(1)], trace.graph.shapes[node.input(1)])
        per_group = inputs.reshape(int(node.attributes.get("group", 1)), -1)
        outputs = len(weight) // len(per_group)
        rows = [slice(start, start + outputs) for start in range(0, len(weight), outputs)]
        return np.concatenate([response(weight[r], values) for r, values in zip(rows, per_group, strict=True)])
