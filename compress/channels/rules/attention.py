"""Attention as one operator: whole heads can go, since each is computed by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from compress.channels.cells import along, only_axis, store
from compress.channels.factors import as_factors, coverage, on_axis
from compress.channels.graph import Array, Node
from compress.channels.rules import rules
from compress.channels.rules.base import NodeEdit, Rule, output_shape

if TYPE_CHECKING:
    from compress.channels.kept import Kept
    from compress.channels.trace import Trace


class Attention(Rule):
    """Queries, keys, values [N, S, H·D] or [N, H, S, D] → Y of the values' layout, H heads side by side.

    Args:
        heads: attributes that hold H, which must agree.
        bias: where the bias of queries, keys and values stands, one after the other; 0: there is none.
        added: where a term of the scores [N, H or 1, S, S] stands.
        plain: inputs without channels: masks and lengths.
    """

    def __init__(self, heads: tuple[str, ...], bias: int, added: int, plain: tuple[int, ...]) -> None:
        self.heads = heads
        self.bias = bias
        self.added = added
        self.plain = plain

    def label(self, node: Node, trace: Trace) -> None:
        labels, shapes, y = trace.labels, trace.graph.shapes, node.outputs[0]
        reason = self._obstacle(node, trace)
        if reason:
            for name in filter(None, node.inputs):
                for factor in labels.of(name):
                    labels.pin(factor, node, reason)
            return
        heads = labels.fresh(self._count(node, trace))
        for name in self._streams(node):
            axis = self._axis(name, trace)
            labels.unify(labels.axis(name, axis, node), self._wide(heads, name, trace), node)
            for factor in labels.of(name):
                if axis not in coverage(factor):
                    labels.pin(factor, node, "it is batch, length or width of an attention head")
        self._label_weights(node, heads, trace)
        added = node.input(self.added)
        if added and len(shapes[added]) == 4 and shapes[added][1] == heads.size > 1:
            labels.unify(labels.axis(added, 1, node), heads, node)
        rank = len(shapes[y])
        labels.factors[y] = as_factors(on_axis(self._wide(heads, y, trace), self._axis(y, trace), rank))

    def evaluate(self, node: Node, trace: Trace) -> None:
        zero = None if self._obstacle(node, trace) else self._zero(node, trace)
        if zero is None or not zero.any():
            return
        y = node.outputs[0]
        known = np.where(zero, np.float32(0), np.float32(np.nan))
        store(y, on_axis(known, self._axis(y, trace), len(trace.graph.shapes[y])), trace)

    def need(self, node: Node, trace: Trace) -> None:
        if self._obstacle(node, trace):
            for name in filter(None, node.inputs):
                trace.keep(name, trace.all_of(name))
            return
        y = node.outputs[0]
        shape, axis = output_shape(node, trace), self._axis(y, trace)
        wanted = only_axis(trace.demand(y), axis, shape[axis]).reshape(self._count(node, trace), -1).any(axis=1)
        self._need_streams(node, np.asarray(wanted), trace)
        for index in (self.added, *self.plain):
            if node.input(index):
                trace.keep(node.input(index), trace.all_of(node.input(index)))

    def resize(self, node: Node, trace: Trace, kept: Kept) -> NodeEdit | None:
        if self._obstacle(node, trace):
            return None
        y, before = node.outputs[0], self._count(node, trace)
        axis = self._axis(y, trace)
        after = kept.count(y, axis) * before // trace.graph.shapes[y][axis]
        return NodeEdit(attributes=self._attributes(node, before, after)) if after != before else None

    def _streams(self, node: Node) -> tuple[str, ...]:
        return node.inputs[:3]

    def _attributes(self, node: Node, before: int, after: int) -> dict[str, object]:
        return dict.fromkeys((name for name in self.heads if name in node.attributes), after)

    def _label_weights(self, node: Node, heads: Array, trace: Trace) -> None:
        bias = node.input(self.bias) if self.bias else ""
        if bias:
            widths = [trace.graph.shapes[name][2] for name in self._streams(node)]
            tied = np.concatenate([heads.repeat(width // heads.size) for width in widths])
            trace.labels.unify(trace.labels.axis(bias, 0, node, role="shift"), tied, node)

    def _need_streams(self, node: Node, wanted: Array, trace: Trace) -> None:
        for name in self._streams(node):
            trace.keep(name, self._spread(wanted, name, trace))

    def _zero(self, node: Node, trace: Trace) -> Array | None:
        """Returns which positions of the result are zero because the values are. Shape: (H·D,) or (H,)."""
        name, bias = self._streams(node)[2], node.input(self.bias) if self.bias else ""
        values, shift = trace.values.get(name), trace.full(bias) if bias else np.zeros(1)
        if values is None or shift is None:
            return None
        axis = self._axis(name, trace)
        size = trace.graph.shapes[name][axis]
        return np.asarray((along(values, axis, size) == 0) & (shift[-size:] == 0))

    def _count(self, node: Node, trace: Trace) -> int:
        given = next((int(node.attributes[name]) for name in self.heads if name in node.attributes), 0)
        shape = trace.graph.shapes[node.input(0)]
        return given or (shape[1] if len(shape) == 4 else 0)

    def _axis(self, name: str, trace: Trace) -> int:
        return 2 if len(trace.graph.shapes[name]) == 3 else 1

    def _wide(self, heads: Array, name: str, trace: Trace) -> Array:
        """Repeats what is said of each head for each position of the axis that holds heads."""
        return heads.repeat(trace.graph.shapes[name][self._axis(name, trace)] // heads.size)

    def _spread(self, heads: Array, name: str, trace: Trace) -> Array:
        return on_axis(self._wide(heads, name, trace), self._axis(name, trace), len(trace.graph.shapes[name]))

    def _obstacle(self, node: Node, trace: Trace) -> str:
        """Returns why the rule does not speak for a node, ``""`` if it does."""
        shapes = trace.graph.shapes
        known = {*range(3), self.bias, self.added, *self.plain}
        if any(name and index not in known for index, name in enumerate(node.inputs)):
            return "it reads what earlier steps have left"
        if not all(node.inputs[:3]) or len(node.inputs) < 3:
            return "its queries, keys and values come in one tensor"
        ranks = {len(shapes[name]) for name in self._streams(node)}
        counts = {int(node.attributes[name]) for name in self.heads if name in node.attributes}
        if ranks == {4}:
            counts |= {shapes[name][1] for name in self._streams(node)}
        if (
            len(ranks) > 1
            or ranks & {0, 1, 2, 5}
            or len(counts) != 1
            or (ranks == {3} and not self._count(node, trace))
        ):
            return "queries, keys and values have not the same heads"
        return ""


class PackedAttention(Attention):
    """X[N, S, I], W[I, D + D + V], B[D + D + V] → Y[N, S, V]: the projections are a part of it."""

    def _streams(self, node: Node) -> tuple[str, ...]:
        return ()

    def _label_weights(self, node: Node, heads: Array, trace: Trace) -> None:
        labels, (x, weight, bias) = trace.labels, (node.input(index) for index in range(3))
        labels.unify(labels.axis(x, 2, node), labels.axis(weight, 0, node, role="in"), node)
        labels.pin_axes(x, (0, 1), node, "it is batch or length of an attention")
        tied = np.concatenate([heads.repeat(width // heads.size) for width in self._widths(node, trace)])
        labels.unify(labels.axis(weight, 1, node, role="out"), tied, node)
        if bias:
            labels.unify(labels.axis(bias, 0, node, role="shift"), tied, node)
        labels.reuse[weight] = labels.reuse.get(weight, 0) + trace.graph.shapes[x][1]

    def _need_streams(self, node: Node, wanted: Array, trace: Trace) -> None:
        x, size = node.input(0), trace.graph.shapes[node.input(0)][2]
        columns = np.concatenate([wanted.repeat(width // wanted.size) for width in self._widths(node, trace)])
        used = np.asarray(trace.nonzero(node.input(1))[:, columns].any(axis=1))
        value = trace.values.get(x)
        inputs = np.full(size, np.nan) if value is None else along(value, 2, size)
        trace.keep(x, on_axis(used & trace.stays(inputs, foldable=False), 2, 3))

    def _zero(self, node: Node, trace: Trace) -> Array | None:
        x, size, width = node.input(0), trace.graph.shapes[node.input(0)][2], self._widths(node, trace)[2]
        value, shift = trace.values.get(x), trace.full(node.input(2)) if node.input(2) else np.zeros(width)
        inputs = np.full(size, np.nan) if value is None else along(value, 2, size)
        fed = (trace.nonzero(node.input(1))[:, -width:] & (inputs != 0)[:, None]).any(axis=0)
        return None if shift is None else np.asarray(~fed & (shift[-width:] == 0))

    def _attributes(self, node: Node, before: int, after: int) -> dict[str, object]:
        sizes = node.attributes.get("qkv_hidden_sizes")
        scaled = {"qkv_hidden_sizes": [int(size) * after // before for size in sizes]} if sizes else {}
        return {"num_heads": after, **scaled}

    def _widths(self, node: Node, trace: Trace) -> list[int]:
        third = trace.graph.shapes[node.input(1)][1] // 3
        return [int(size) for size in node.attributes.get("qkv_hidden_sizes", [third] * 3)]

    def _obstacle(self, node: Node, trace: Trace) -> str:
        if any(node.inputs[index] for index in range(3, len(node.inputs)) if index not in (self.added, *self.plain)):
            return "it reads what earlier steps have left"
        if trace.full(node.input(1)) is None or node.attributes.get("do_rotary", 0):
            return "its weight is computed, or its positions are rotated"
        return ""


rules.register("com.microsoft::Attention")(PackedAttention(("num_heads",), bias=2, added=5, plain=(3,)))
rules.register("com.microsoft::MultiHeadAttention")(Attention(("num_heads",), bias=3, added=5, plain=(4,)))
rules.register("Attention")(Attention(("q_num_heads", "kv_num_heads"), bias=0, added=3, plain=()))
