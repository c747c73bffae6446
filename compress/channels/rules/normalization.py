"""Normalisation: per channel (a scale and a shift at inference) or over channels (which must then all stay)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from compress.channels.alike_elementwise import affine
from compress.channels.cells import only_axis, project, store
from compress.channels.factors import any_behind, coverage, every, on_axis
from compress.channels.graph import Node
from compress.channels.operands import unify_elementwise
from compress.channels.rules import rule, rules
from compress.channels.rules.base import Glance, Rule, holds_channels

if TYPE_CHECKING:
    from compress.channels.alike import Likeness
    from compress.channels.trace import Trace

_ROLES = ("scale", "shift", "mean", "variance")


@rule("BatchNormalization")
class BatchNormalization(Rule):
    """Y = (X − mean) / √(variance + ε) · scale + shift, each of shape (C,), along axis 1."""

    prompted = True

    def label(self, node: Node, trace: Trace) -> None:
        labels, x = trace.labels, node.input(0)
        channels = labels.axis(x, 1, node)
        for name, role in zip(node.inputs[1:], _ROLES, strict=False):
            labels.unify(channels, labels.axis(name, 0, node, role=role), node)
        labels.factors[node.outputs[0]] = labels.of(x)

    def evaluate(self, node: Node, trace: Trace) -> None:
        x, weight = trace.values.get(node.input(0)), trace.values.get(node.input(1))
        if x is None and (weight is None or every(weight)):
            return
        parameters = [trace.full(name) for name in node.inputs[1:5]]
        rank = len(trace.graph.shapes[node.input(0)])
        if any(p is None for p in parameters) or node.attributes.get("training_mode", 0):
            return
        scale, shift, mean, variance = (on_axis(p, 1, rank) for p in parameters if p is not None)
        with np.errstate(all="ignore"):
            gain = scale / np.sqrt(variance + np.asarray(node.attributes.get("epsilon", 1e-5), variance.dtype))
            normal = np.full((1,) * rank, np.nan, scale.dtype) if x is None else (x - mean) * gain
        # A zero scale decides, whatever comes in.
        store(node.outputs[0], np.where(scale == 0, 0, normal) + shift, trace)

    def need(self, node: Node, trace: Trace) -> None:
        trace.need(node.input(0), trace.demand(node.outputs[0]))

    def blurs(self, node: Node, trace: Trace) -> Literal["mean", "place by place"] | None:
        training = node.attributes.get("training_mode", 0)
        return "place by place" if not training and holds_channels(node.input(0), 1, trace) else None

    def glance(self, node: Node, trace: Trace) -> Glance | None:
        return "each"

    def alike(self, node: Node, trace: Trace, likeness: Likeness) -> None:
        x, y = node.input(0), node.outputs[0]
        parameters = [trace.full(name) for name in node.inputs[1:5]]
        if any(p is None for p in parameters) or node.attributes.get("training_mode", 0):
            likeness.fresh(y)
            return
        shape = trace.graph.shapes[x]
        scale, shift, mean, variance = (
            on_axis(p.astype(np.float64), 1, len(shape)) for p in parameters if p is not None
        )
        with np.errstate(all="ignore"):
            gain = scale / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
            cells = likeness.operand(x, {1, *coverage(likeness.of(x).ids)}, len(shape))
            likeness.set(y, affine(cells, gain, shift - mean * gain, likeness, ()))


@rule("InstanceNormalization")
class InstanceNormalization(Rule):
    """Each channel is normalised over space by itself, then scaled and shifted."""

    def label(self, node: Node, trace: Trace) -> None:
        labels, x = trace.labels, node.input(0)
        channels = labels.axis(x, 1, node)
        for name, role in zip(node.inputs[1:3], _ROLES, strict=False):
            labels.unify(channels, labels.axis(name, 0, node, role=role), node)
        for factor in labels.of(x):
            labels.hold(factor, tuple(range(2, factor.ndim)), node, "it is normalised over")
        labels.factors[node.outputs[0]] = labels.of(x)

    def evaluate(self, node: Node, trace: Trace) -> None:
        scale, shift = trace.full(node.input(1)), trace.full(node.input(2))
        if scale is None or shift is None:
            return
        rank = len(trace.graph.shapes[node.input(0)])
        constant = scale == 0
        x = trace.values.get(node.input(0))
        if x is not None and all(n == 1 for axis, n in enumerate(x.shape) if axis != 1):
            # What is the same everywhere equals its own mean.
            constant = constant | ~np.isnan(np.broadcast_to(x.reshape(-1), scale.shape))
        store(node.outputs[0], on_axis(np.where(constant, shift, np.nan).astype(shift.dtype), 1, rank), trace)

    def need(self, node: Node, trace: Trace) -> None:
        channels = only_axis(trace.demand(node.outputs[0]), 1, trace.graph.shapes[node.input(0)][1])
        trace.need(node.input(0), on_axis(channels, 1, len(trace.graph.shapes[node.input(0)])))

    def alike(self, node: Node, trace: Trace, likeness: Likeness) -> None:
        scale, shift = trace.full(node.input(1)), trace.full(node.input(2))
        shape = trace.graph.shapes[node.input(0)]
        if scale is None or shift is None:
            likeness.fresh(node.outputs[0])
            return
        beside = [axis for axis in range(len(shape)) if axis != 1]
        x = likeness.apart(likeness.opened(likeness.of(node.input(0)), beside), shape, (1,))
        rows = likeness.applied(likeness.signature(node, x), x)
        likeness.set(
            node.outputs[0], affine(rows, on_axis(scale, 1, len(shape)), on_axis(shift, 1, len(shape)), likeness, shape)
        )


class OverAxes(Rule):
    """An operator that mixes all positions of some axes: they all stay. The other axes pass.

    Args:
        default_axis: of the operator's attribute ``axis``.
        onwards: whether all axes from that one on are mixed, or that one alone.
        operands: how many of the inputs are combined position by position; the others are read as a whole.
    """

    def __init__(self, default_axis: int, *, onwards: bool, operands: int | None = None) -> None:
        self.default_axis = default_axis
        self.onwards = onwards
        self.operands = operands

    def label(self, node: Node, trace: Trace) -> None:
        labels, x = trace.labels, node.input(0)
        axes = self._axes(node, trace)
        for factor in labels.of(x):
            labels.hold(factor, axes, node, f"{node.operator} normalises over it")
        names = [name for name in node.inputs[: self.operands] if name]
        labels.factors[node.outputs[0]] = unify_elementwise(labels, names, len(trace.graph.shapes[x]), node)

    def evaluate(self, node: Node, trace: Trace) -> None:
        x, y, axes = node.input(0), node.outputs[0], self._axes(node, trace)
        if node.operator != "Softmax" or len(axes) > 1:
            return
        trace.averaging[y] = axes[0]
        value, size = trace.values.get(x), trace.graph.shapes[x][axes[0]]
        if value is None or (value.shape[axes[0]] < size and trace.graph.is_dynamic(x, axes[0])):
            return
        if every(any_behind(np.moveaxis(np.isnan(value), axes[0], -1), value.ndim - 1)):
            return
        powers = np.exp(value - value.max(axis=axes[0], keepdims=True))
        shares = powers / powers.sum(axis=axes[0], keepdims=True)
        store(y, shares if value.shape[axes[0]] == size else shares / size, trace)

    def need(self, node: Node, trace: Trace) -> None:
        cells = trace.demand(node.outputs[0]).any(axis=self._axes(node, trace), keepdims=True)
        # Even a known value takes part in the mean or the sum, so it is kept, not only needed.
        trace.keep(node.input(0), np.asarray(cells))
        for name in node.inputs[1 : self.operands]:
            if name:
                trace.need(name, project(trace.demand(node.outputs[0]), trace.graph.shapes[name]))

    def alike(self, node: Node, trace: Trace, likeness: Likeness) -> None:
        x = likeness.opened(likeness.of(node.input(0)), self._axes(node, trace))
        likeness.set(node.outputs[0], likeness.applied(likeness.signature(node, x, node.inputs[1:]), x))

    def _axes(self, node: Node, trace: Trace) -> tuple[int, ...]:
        rank = len(trace.graph.shapes[node.input(0)])
        default = self.default_axis
        if node.operator in ("Softmax", "LogSoftmax", "Hardmax") and trace.graph.opset < 13:
            # Before version 13 these flattened the tensor from axis 1 on.
            return tuple(range(int(node.attributes.get("axis", 1)) % rank, rank))
        axis = int(node.attributes.get("axis", default)) % rank
        return tuple(range(axis, rank)) if self.onwards else (axis,)


for _name, _rule in {
    "LayerNormalization": OverAxes(-1, onwards=True),
    "RMSNormalization": OverAxes(-1, onwards=True),
    "Softmax": OverAxes(-1, onwards=False),
    "LogSoftmax": OverAxes(-1, onwards=False),
    "LpNormalization": OverAxes(-1, onwards=False),
    "LRN": OverAxes(1, onwards=False),
    "GroupNormalization": OverAxes(1, onwards=True, operands=1),
    "Hardmax": OverAxes(-1, onwards=False),
}.items():
    rules.register(_name)(_rule)
