"""Convolutions: one labelled axis is contracted, another produced."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from compress.channels.alike import Read
from compress.channels.alike_contraction import contracted
from compress.channels.factors import as_factors, coverage, on_axis
from compress.channels.graph import Array, Node
from compress.channels.rules import rule
from compress.channels.rules.base import Glance, NodeEdit, once_a_node
from compress.channels.rules.windowed import WindowedSum, windows_of
from compress.channels.windows import Windows

if TYPE_CHECKING:
    from compress.channels.alike import Likeness
    from compress.channels.kept import Kept
    from compress.channels.trace import Trace


@rule("Conv")
class Convolution(WindowedSum):
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
        labels.reuse[weight] = labels.reuse.get(weight, 0) + math.prod(shapes[node.outputs[0]][2:])

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

    def glance(self, node: Node, trace: Trace) -> Glance | None:
        weight, groups = trace.full(node.input(1)), int(node.attributes.get("group", 1))
        if weight is None or weight.ndim < 3:
            return None
        if weight.shape[1] > 1 or groups == 1:
            return weight.reshape(len(weight), -1)
        return "each" if len(weight) == groups else None

    def alike(self, node: Node, trace: Trace, likeness: Likeness) -> None:
        x, name, y = node.input(0), node.input(1), node.outputs[0]
        weight, shape = trace.full(name), trace.graph.shapes[x]
        bias = None if weight is None else self._bias(node, trace)
        if weight is None or bias is None:
            likeness.fresh(y)
            return
        beside = [axis for axis in range(len(shape)) if axis != 1]
        inputs = likeness.apart(likeness.opened(likeness.of(x), beside), shape, (1,))
        columns = inputs.reshape((int(node.attributes.get("group", 1)), -1))
        likeness.reads.append(Read(node, name, 1, columns))
        signature = likeness.signature(node, columns, without=("group",))
        rows = contracted(likeness, signature, columns, weight, bias, trace.limit(weight))
        likeness.set(y, rows.reshape(-1 if a == 1 else 1 for a in range(len(shape))))

    def resize(self, node: Node, trace: Trace, kept: Kept) -> NodeEdit | None:
        groups = int(node.attributes.get("group", 1))
        remaining = int(kept.mask(node.input(0), 1).reshape(groups, -1).any(axis=1).sum())
        return NodeEdit(attributes={"group": remaining}) if remaining != groups else None

    def _grouped(self, weight: Array, node: Node) -> Array:
        groups = int(node.attributes.get("group", 1))
        return weight.reshape(groups, len(weight) // groups, *weight.shape[1:])

    @once_a_node
    def _windows(self, node: Node, trace: Trace) -> Windows:
        return windows_of(node, trace)

    def _pairs(self, node: Node, trace: Trace) -> Array:
        pairs = trace.nonzero(node.input(1), axes=2)
        return pairs.reshape(int(node.attributes.get("group", 1)), -1, pairs.shape[1])
