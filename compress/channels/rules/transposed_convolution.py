"""Transposed convolutions: as convolutions, with the two channel axes of the weight exchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from compress.channels.alike import Read
from compress.channels.alike_contraction import contracted
from compress.channels.cells import along, only_axis, store
from compress.channels.graph import Array, Node
from compress.channels.labels import as_factors, coverage, on_axis
from compress.channels.rules import rule
from compress.channels.rules.base import NO_CARRIERS, NodeEdit, Rule, able_to_carry, keep_inputs

if TYPE_CHECKING:
    from compress.channels.alike import Likeness
    from compress.channels.sweep import Kept
    from compress.channels.trace import Trace


@rule("ConvTranspose")
class TransposedConvolution(Rule):
    """X[N, C, …], W[C, O/g, …], B[O] → Y[N, O, …]. Copies of the kernel make a pattern of a constant."""

    def label(self, node: Node, trace: Trace) -> None:
        labels, shapes = trace.labels, trace.graph.shapes
        x, weight, bias = node.input(0), node.input(1), node.input(2)
        groups = int(node.attributes.get("group", 1))
        inputs = labels.axis(x, 1, node)
        rows = labels.axis(weight, 0, node, role="in" if groups == 1 else "out")
        labels.unify(inputs, rows, node)
        produced = labels.axis(weight, 1, node, role="out" if groups == 1 else None)
        if groups == len(inputs) > 1:
            # Depthwise: output channels follow their one input channel.
            labels.pin_axes(weight, (1,), node, "each channel makes as many as the others")
            produced = rows.repeat(produced.size)
        elif groups > 1:
            # Each group must lose as many channels as the others: tie the same position of all groups.
            by_group = rows.reshape(groups, -1)
            labels.unify(by_group, by_group[:1], node)
            produced = np.tile(produced, groups)
        if bias:
            labels.unify(labels.axis(bias, 0, node, role="shift"), produced, node)
        rank = len(shapes[x])
        for name in (x, weight):
            labels.pin_axes(name, tuple(range(2, rank)), node, "it is a spatial axis of a convolution")
        batch = [factor for factor in labels.of(x) if coverage(factor) == (0,)]
        labels.factors[node.outputs[0]] = as_factors(on_axis(produced, 1, rank), *batch)
        labels.reuse[weight] = labels.reuse.get(weight, 0) + int(np.prod(shapes[x][2:]))

    def evaluate(self, node: Node, trace: Trace) -> None:
        weight = trace.full(node.input(1))
        bias = trace.full(node.input(2)) if node.input(2) else None
        if weight is None or (node.input(2) and bias is None):
            return
        size = trace.graph.shapes[node.outputs[0]][1]
        busy = (self._reads(node, trace) & (self._inputs(node, trace) != 0)[None, :]).any(axis=1)
        values = np.zeros(size, weight.dtype) if bias is None else bias
        known = on_axis(np.where(busy, np.nan, values).astype(weight.dtype), 1, weight.ndim)
        store(node.outputs[0], known, trace)

    def need(self, node: Node, trace: Trace) -> None:
        x, y = node.input(0), node.outputs[0]
        wanted = only_axis(trace.demand(y), 1, trace.graph.shapes[y][1])
        rank = len(trace.graph.shapes[x])
        if trace.full(node.input(1)) is None:
            for name in (x, node.input(1)):
                trace.need(name, np.ones((1,) * rank, dtype=bool))
        else:
            inputs = self._inputs(node, trace)
            used = np.asarray(self._reads(node, trace)[wanted].any(axis=0))
            needed = used & trace.stays(inputs, foldable=False)
            keep_inputs(x, needed, inputs, self._carriers(node, trace), trace)
        if node.input(2):
            trace.need(node.input(2), wanted)

    def alike(self, node: Node, trace: Trace, likeness: Likeness) -> None:
        x, name, y = node.input(0), node.input(1), node.outputs[0]
        weight, shape = trace.full(name), trace.graph.shapes[x]
        bias = trace.full(node.input(2)) if node.input(2) else np.zeros(trace.graph.shapes[y][1])
        if weight is None or bias is None:
            likeness.fresh(y)
            return
        groups = int(node.attributes.get("group", 1))
        beside = [axis for axis in range(len(shape)) if axis != 1]
        inputs = likeness.apart(likeness.opened(likeness.of(x), beside), shape, (1,))
        columns = inputs.at(np.arange(shape[1]).reshape(groups, -1))
        if groups == 1:
            likeness.reads.append(Read(node, name, 0, columns))
        by_group = weight.reshape(groups, shape[1] // groups, weight.shape[1], -1)
        by_output = by_group.swapaxes(1, 2).reshape(len(bias), shape[1] // groups, -1)
        signature = likeness.signature(node, columns, without=("group",))
        rows = contracted(likeness, signature, columns, by_output, bias, trace.limit(weight))
        likeness.set(y, rows.at(np.arange(len(bias)).reshape([-1 if a == 1 else 1 for a in range(len(shape))])))

    def resize(self, node: Node, trace: Trace, kept: Kept) -> NodeEdit | None:
        groups = int(node.attributes.get("group", 1))
        size, remaining = trace.graph.shapes[node.input(0)][1], kept.count(node.input(0), 1)
        return NodeEdit(attributes={"group": remaining}) if groups == size != remaining and groups > 1 else None

    def carry(self, node: Node, trace: Trace, kept: Kept) -> tuple[int, Array] | None:
        """Σ_j c_j / c_r · W[j] for the constants c_j that went and the carrier r that stays."""
        inputs = self._inputs(node, trace).astype(np.float64)
        carrier = kept.first(node.input(0), 1, self._carriers(node, trace))
        gone = ~kept.mask(node.input(0), 1) & ~np.isnan(inputs) & (inputs != 0)
        if carrier is None or not gone.any():
            return None
        shares = np.where(gone, inputs, 0) / inputs[carrier]
        return carrier, np.tensordot(trace.values[node.input(1)].astype(np.float64), shares, axes=(0, 0))

    def _carriers(self, node: Node, trace: Trace) -> Array:
        """Returns the constant input channels that can bear the others; none where nothing can."""
        grouped = int(node.attributes.get("group", 1)) > 1
        if grouped or not trace.fold or node.input(1) not in trace.graph.constants:
            return NO_CARRIERS
        return able_to_carry(self._inputs(node, trace))

    def _inputs(self, node: Node, trace: Trace) -> Array:
        """Returns the constant value of each input channel, NaN where it varies."""
        size = trace.graph.shapes[node.input(0)][1]
        value = trace.values.get(node.input(0))
        return np.full(size, np.nan, np.float32) if value is None else along(value, 1, size)

    def _reads(self, node: Node, trace: Trace) -> Array:
        """Returns which output channel reads which input channel. Shape: (O, C), booleans."""
        nonzero = trace.nonzero(node.input(1))
        reads = np.asarray(nonzero.any(axis=tuple(range(2, nonzero.ndim))))  # (C, O/g)
        groups = int(node.attributes.get("group", 1))
        inputs, per_group = reads.shape
        full = np.zeros((groups, per_group, groups, inputs // groups), dtype=bool)
        index = np.arange(groups)
        full[index, :, index, :] = reads.reshape(groups, inputs // groups, per_group).transpose(0, 2, 1)
        return full.reshape(groups * per_group, inputs)
