"""Convolutions and matrix products of integers: zero is the zero point, of the input as of the weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from compress.channels.cells import along, only_axis, read_by, reading, store
from compress.channels.factors import on_axis
from compress.channels.graph import Array, Node
from compress.channels.rules import rules
from compress.channels.rules.base import NodeEdit, Rule, output_shape
from compress.channels.rules.convolution import Convolution
from compress.channels.rules.levels import Scale, integers, known_levels, requantized
from compress.channels.rules.linear import MatrixProduct

if TYPE_CHECKING:
    from compress.channels.kept import Kept
    from compress.channels.trace import Trace


class _Convolution(Convolution):
    """Convolution of a view: its inputs are those of Conv, then the zero points of input and weight."""

    def _inputs(self, node: Node, trace: Trace) -> Array:
        return _distance(node, trace, 1)

    def _pairs(self, node: Node, trace: Trace) -> Array:
        return np.asarray(self._dense(node, trace, np.any) != 0)

    def sums(self, node: Node, trace: Trace) -> Array:
        """Returns what each output adds up to without its bias, NaN where that varies. Shape: (O,), float64."""
        return _sums(self._inputs(node, trace), self._pairs(node, trace), self._dense(node, trace, np.sum))

    def _dense(self, node: Node, trace: Trace, reduce: Callable[..., Array]) -> Array:
        """Returns the weight with its spatial axes reduced. Shape: (g, O/g, C/g)."""
        weight = _weight(node, trace, 0)
        groups = int(node.attributes.get("group", 1))
        return np.asarray(reduce(weight, axis=tuple(range(2, weight.ndim)))).reshape(groups, -1, weight.shape[1])


class _Product(MatrixProduct):
    """Matrix product of a view: its inputs are those of Gemm, then the zero points of both operands."""

    def _inputs(self, node: Node, trace: Trace) -> Array:
        return _distance(node, trace, self._sides(node, trace).a.inner)

    def _pairs(self, node: Node, trace: Trace) -> Array:
        return np.asarray(self._dense(node, trace) != 0)

    def _dense(self, node: Node, trace: Trace) -> Array:
        side = self._sides(node, trace).b
        weight = _weight(node, trace, side.outer or 0)
        return (weight if side.inner == 1 else weight.T)[None]

    def sums(self, node: Node, trace: Trace) -> Array:
        """Returns what each output adds up to without its bias, NaN where that varies. Shape: (N,), float64."""
        return _sums(self._inputs(node, trace), self._pairs(node, trace), self._dense(node, trace))


class IntegerProduct(Rule):
    """An operator on integers that is spoken for by the one on numbers, once zero points are taken for zeros.

    Args:
        product: of numbers.
        operands: where the input, the weight and the bias stand; None: there is no bias.
        zeros: where the zero points of input and weight stand.
        scales: where their scales and that of the result stand, and its zero point; None: the result is not scaled.
    """

    def __init__(
        self,
        product: _Convolution | _Product,
        operands: tuple[int, int, int | None],
        zeros: tuple[int, int],
        scales: tuple[int, int, int, int] | None = None,
    ) -> None:
        self.product = product
        self.operands = operands
        self.zeros = zeros
        self.scales = scales

    def label(self, node: Node, trace: Trace) -> None:
        labels, shapes = trace.labels, trace.graph.shapes
        reason = self._obstacle(node, trace)
        if reason:
            for name in filter(None, node.inputs):
                for factor in labels.of(name):
                    labels.pin(factor, node, reason)
            return
        view = self._view(node)
        self.product.label(replace(view, inputs=view.inputs[:3]), trace)
        y = node.outputs[0]
        axis = 1 if isinstance(self.product, Convolution) else len(shapes[y]) - 1
        for index in self._beside():
            name = node.input(index)
            if not name or name in view.inputs[:3]:
                continue
            if int(np.prod(shapes[name])) == 1:
                labels.of(name)
                continue
            # One number for each channel that is produced.
            mine = labels.axis(name, len(shapes[name]) - 1, node, role="other")
            labels.unify(mine, labels.axis(y, axis, node), node)

    def evaluate(self, node: Node, trace: Trace) -> None:
        if not trace.graph.constants.keys() <= trace.values.keys() or self._obstacle(node, trace):
            # Where constants are left out, what follows from integers is to be stored; weights stay as they are.
            return
        view, y = self._view(node), node.outputs[0]
        convolution = isinstance(self.product, Convolution)
        sums = self.product.sums(view, trace)
        if convolution and np.nan_to_num(_distance(view, trace, 1)).any():
            # Padding shows a constant that is not the zero point.
            shown = reading(self.product._pairs(view, trace), _distance(view, trace, 1) != 0)
            sums = np.where(shown, np.nan, sums)
        bias = trace.full(view.input(2)) if view.input(2) else np.zeros(1)
        if bias is None:
            return
        sums = sums + bias.reshape(-1)
        shape = (1 if convolution else -1, len(output_shape(node, trace)))
        if self.scales is None:
            # The result is an integer that has no scale: 0 is 0.
            levels = np.where(sums == 0, 0.0, np.nan)
        else:
            first, second, third = (trace.full(node.input(index)) for index in self.scales[:3])
            target = Scale.of(node, trace, self.scales[2], self.scales[3])
            if first is None or second is None or third is None or target is None:
                return
            factor = float(node.attributes.get("alpha", 1.0))
            levels = requantized(sums, factor * np.float64(first) * np.float64(second).reshape(-1), target)
        kind = None if self.scales is None else integers(node.input(self.scales[3]), trace)
        store(y, _typed(on_axis(levels, *shape), kind), trace)

    def need(self, node: Node, trace: Trace) -> None:
        if self._obstacle(node, trace):
            for name in filter(None, node.inputs):
                trace.keep(name, trace.all_of(name))
            return
        view = self._view(node)
        x = view.input(0)
        axis = 1 if isinstance(self.product, Convolution) else len(output_shape(node, trace)) - 1
        wanted = only_axis(trace.demand(node.outputs[0]), axis, output_shape(node, trace)[axis])
        used = read_by(self.product._pairs(view, trace), wanted)
        contracted = 1 if isinstance(self.product, Convolution) else self.product._sides(view, trace).a.inner
        needed = used & trace.stays(self.product._inputs(view, trace), foldable=False)
        trace.keep(x, on_axis(needed, contracted, len(trace.graph.shapes[x])))

    def resize(self, node: Node, trace: Trace, kept: Kept) -> NodeEdit | None:
        return None if self._obstacle(node, trace) else self.product.resize(self._view(node), trace, kept)

    def _view(self, node: Node) -> Node:
        operands = [node.input(index) if index is not None else "" for index in self.operands]
        zeros = [node.input(index) for index in self.zeros]
        attributes = {name: value for name, value in node.attributes.items() if name not in ("alpha", "beta")}
        operator = "Conv" if isinstance(self.product, Convolution) else "Gemm"
        return replace(node, operator=operator, domain="", inputs=(*operands, *zeros), attributes=attributes)

    def _beside(self) -> Sequence[int]:
        """Returns where scales and zero points stand."""
        return sorted({*self.zeros, *(self.scales or ())})

    def _obstacle(self, node: Node, trace: Trace) -> str:
        """Returns why the rule does not speak for a node, ``""`` if it does."""
        view, shapes = self._view(node), trace.graph.shapes
        steering = [node.input(index) for index in self._beside()]
        wide = [name for name in filter(None, steering) if int(np.prod(shapes[name])) > 1]
        if trace.full(view.input(1)) is None or (view.input(2) and trace.full(view.input(2)) is None):
            return "its weight is computed"
        if isinstance(self.product, _Product) and len(shapes[view.input(1)]) != 2:
            return "its weight is no matrix"
        rows = output_shape(node, trace)[1 if isinstance(self.product, Convolution) else -1]
        if any(shapes[name] not in ((rows,), (1, rows)) or trace.full(name) is None for name in wide):
            return "its scales or zero points are not one for each channel that is produced"
        x_parameters = [node.input(self.zeros[0]), *([node.input(self.scales[0])] if self.scales else [])]
        if any(name in wide for name in x_parameters):
            return "its input has more than one scale or zero point"
        known = view.input(4) == "" or trace.full(view.input(4)) is not None
        return "" if known else "the zero point of its weight is computed"


def _distance(view: Node, trace: Trace, axis: int) -> Array:
    """Returns how far each position of the input is from its zero point, NaN where that varies. Shape: (size,)."""
    x, size = view.input(0), trace.graph.shapes[view.input(0)][axis]
    found = known_levels(x, view.input(3), trace)
    return np.full(size, np.nan) if found is None else along(found, axis, size).astype(np.float64)


def _weight(view: Node, trace: Trace, axis: int) -> Array:
    """Returns the weight's distance from its zero point, which may differ along `axis`. As float64."""
    stored = trace.full(view.input(1))
    zero = trace.full(view.input(4)) if view.input(4) else np.zeros(1)
    if stored is None or zero is None:
        raise ValueError(f"the weight of {view.name!r} is not known")
    spread = on_axis(zero.reshape(-1), axis, stored.ndim) if zero.size > 1 else zero.reshape(-1)[0]
    return np.asarray(stored.astype(np.float64) - np.asarray(spread, np.float64))


def _sums(inputs: Array, pairs: Array, dense: Array) -> Array:
    """Shapes: `inputs` (C,), `pairs` and `dense` (g, O/g, C/g), result (O,)."""
    added = (dense @ np.nan_to_num(inputs).reshape(len(dense), -1, 1)).reshape(-1)
    return np.where(reading(pairs, np.isnan(inputs)), np.nan, added)


def _typed(levels: Array, kind: np.dtype[np.generic] | None) -> Array:
    """Returns levels in their own type where they are all known; there is no integer for "not known"."""
    return levels if kind is None or np.isnan(levels).any() else levels.astype(kind)


rules.register("QLinearConv", "com.microsoft::QLinearConv")(
    IntegerProduct(_Convolution(), (0, 3, 8), (2, 5), (1, 4, 6, 7))
)
rules.register("ConvInteger")(IntegerProduct(_Convolution(), (0, 1, None), (2, 3)))
rules.register("QLinearMatMul")(IntegerProduct(_Product(), (0, 3, None), (2, 5), (1, 4, 6, 7)))
rules.register("MatMulInteger")(IntegerProduct(_Product(), (0, 1, None), (2, 3)))
rules.register("com.microsoft::QGemm")(IntegerProduct(_Product(), (0, 3, 6), (2, 5), (1, 4, 7, 8)))
