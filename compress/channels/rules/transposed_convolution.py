"""Transposed convolutions: as convolutions, with the two channel axes of the weight exchanged."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from compress.channels.alike import Read
from compress.channels.alike_contraction import contracted
from compress.channels.factors import as_factors, coverage, on_axis
from compress.channels.graph import Array, Node
from compress.channels.rules import rule
from compress.channels.rules.base import NodeEdit, once_a_node
from compress.channels.rules.windowed import WindowedSum, windows_of
from compress.channels.windows import Windows

if TYPE_CHECKING:
    from compress.channels.alike import Likeness
    from compress.channels.kept import Kept
    from compress.channels.trace import Trace


@rule("ConvTranspose")
class TransposedConvolution(WindowedSum):
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
        labels.reuse[weight] = labels.reuse.get(weight, 0) + math.prod(shapes[x][2:])

    def alike(self, node: Node, trace: Trace, likeness: Likeness) -> None:
        x, name, y = node.input(0), node.input(1), node.outputs[0]
        weight, shape = trace.full(name), trace.graph.shapes[x]
        bias = self._bias(node, trace)
        if weight is None or bias is None:
            likeness.fresh(y)
            return
        groups = int(node.attributes.get("group", 1))
        beside = [axis for axis in range(len(shape)) if axis != 1]
        inputs = likeness.apart(likeness.opened(likeness.of(x), beside), shape, (1,))
        columns = inputs.reshape((groups, -1))
        if groups == 1:
            likeness.reads.append(Read(node, name, 0, columns))
        by_group = weight.reshape(groups, shape[1] // groups, weight.shape[1], -1)
        by_output = by_group.swapaxes(1, 2).reshape(len(bias), shape[1] // groups, -1)
        signature = likeness.signature(node, columns, without=("group",))
        rows = contracted(likeness, signature, columns, by_output, bias, trace.limit(weight))
        likeness.set(y, rows.reshape(-1 if a == 1 else 1 for a in range(len(shape))))

    def resize(self, node: Node, trace: Trace, kept: Kept) -> NodeEdit | None:
        groups = int(node.attributes.get("group", 1))
        size, remaining = trace.graph.shapes[node.input(0)][1], kept.count(node.input(0), 1)
        return NodeEdit(attributes={"group": remaining}) if groups == size != remaining and groups > 1 else None

    def _grouped(self, weight: Array, node: Node) -> Array:
        groups = int(node.attributes.get("group", 1))
        return weight.reshape(groups, len(weight) // groups, *weight.shape[1:]).swapaxes(1, 2)

    @once_a_node
    def _windows(self, node: Node, trace: Trace) -> Windows:
        return windows_of(node, trace, transposed=True)

    def _pairs(self, node: Node, trace: Trace) -> Array:
        pairs = trace.nonzero(node.input(1), axes=2)
        return pairs.reshape(int(node.attributes.get("group", 1)), -1, pairs.shape[1]).swapaxes(1, 2)
