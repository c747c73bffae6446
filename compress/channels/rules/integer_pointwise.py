"""Operators on integers that stand for numbers, position by position or channel by channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from compress.channels.cells import project, store
from compress.channels.graph import Array, Node
from compress.channels.operands import unify_elementwise
from compress.channels.rules import rule, rules
from compress.channels.rules.along_axis import AlongAxis, Segment
from compress.channels.rules.base import Rule, output_shape, pads
from compress.channels.rules.levels import Scale, integers, known_levels, requantized
from compress.channels.rules.window import GLOBAL_MEAN, LOCAL_MEAN, Reduction, Window

if TYPE_CHECKING:
    from compress.channels.alike import Likeness
    from compress.channels.trace import Trace


class IntegerPointwise(Rule):
    """Operands are combined position by position; each has a scale and a zero point, as the result has.

    Args:
        function: of the numbers that the operands stand for (NaN: not known), and of the attribute ``alpha``.
        operands: where the operands stand; their scales and zero points follow each of them.
    """

    def __init__(self, function: Callable[[list[Array], float], Array], operands: tuple[int, ...]) -> None:
        self.function = function
        self.operands = operands

    def label(self, node: Node, trace: Trace) -> None:
        names = [node.input(index) for index in self.operands]
        for name in filter(None, node.inputs):
            trace.labels.of(name)
        rank = len(output_shape(node, trace))
        trace.labels.factors[node.outputs[0]] = unify_elementwise(trace.labels, names, rank, node)

    def evaluate(self, node: Node, trace: Trace) -> None:
        last = self.operands[-1] + 3
        numbers = [_numbers(node, trace, index) for index in self.operands]
        target = Scale.of(node, trace, last, last + 1)
        if target is None or all(np.isnan(number).all() for number in numbers):
            return
        result = self.function(numbers, float(node.attributes.get("alpha", 0.01)))
        _store(requantized(result, 1.0, target), node, node.input(last + 1), trace)

    def need(self, node: Node, trace: Trace) -> None:
        cells = trace.demand(node.outputs[0])
        for index in self.operands:
            name = node.input(index)
            trace.need(name, project(cells, trace.graph.shapes[name]))


def _product(numbers: list[Array], _: float) -> Array:
    return np.where((numbers[0] == 0) | (numbers[1] == 0), 0.0, numbers[0] * numbers[1])


_FUNCTIONS: dict[str, tuple[Callable[[list[Array], float], Array], tuple[int, ...]]] = {
    "QLinearAdd": (lambda numbers, _: numbers[0] + numbers[1], (0, 3)),
    "QLinearMul": (_product, (0, 3)),
    "QLinearSigmoid": (lambda numbers, _: 0.5 * (1 + np.tanh(0.5 * numbers[0])), (0,)),
    "QLinearLeakyRelu": (lambda numbers, alpha: np.where(numbers[0] < 0, alpha * numbers[0], numbers[0]), (0,)),
}
for _name, (_function, _operands) in _FUNCTIONS.items():
    rules.register(f"com.microsoft::{_name}")(IntegerPointwise(_function, _operands))


@rule("com.microsoft::QLinearConcat")
class IntegerConcatenation(AlongAxis):
    """Result's scale and zero point; then each tensor with its own. Joins them along an axis."""

    def segments(self, node: Node, trace: Trace) -> tuple[int, list[list[Segment]]] | None:
        shapes, names = trace.graph.shapes, node.inputs[2::3]
        axis = int(node.attributes["axis"]) % len(shapes[names[0]])
        return axis, [[Segment(name, np.arange(shapes[name][axis])) for name in names]]

    def label(self, node: Node, trace: Trace) -> None:
        for name in node.inputs:
            trace.labels.of(name)
        super().label(node, trace)

    def evaluate(self, node: Node, trace: Trace) -> None:
        target, found = Scale.of(node, trace, 0, 1), self.segments(node, trace)
        if target is None or found is None:
            return
        parts = []
        for index in range(2, len(node.inputs), 3):
            levels = requantized(_numbers(node, trace, index), 1.0, target)
            sizes = trace.graph.shapes[node.input(index)]
            parts.append((levels, sizes[found[0]]))
        common = [max(levels.shape[a] for levels, _ in parts) for a in range(parts[0][0].ndim)]
        spread = [
            np.broadcast_to(levels, [size if a == found[0] else n for a, n in enumerate(common)])
            for levels, size in parts
        ]
        _store(np.concatenate(spread, axis=found[0]), node, node.input(1), trace)

    def alike(self, node: Node, trace: Trace, likeness: Likeness) -> None:
        # Each tensor is rounded anew, by a scale of its own.
        likeness.fresh(node.outputs[0])


class IntegerPooling(Rule):
    """A mean over space; input and result each have a scale and a zero point.

    Args:
        pooling: of numbers.
    """

    def __init__(self, pooling: Window | Reduction) -> None:
        self.pooling = pooling

    def label(self, node: Node, trace: Trace) -> None:
        for name in filter(None, node.inputs):
            trace.labels.of(name)
        self.pooling.label(self._view(node), trace)

    def evaluate(self, node: Node, trace: Trace) -> None:
        numbers, target = _numbers(node, trace, 0), Scale.of(node, trace, 3, 4)
        if target is None or any(size > 1 for size in numbers.shape[2:]):
            return
        if pads(node) and node.attributes.get("count_include_pad", 0):
            numbers = np.where(numbers == 0, numbers, np.nan)
        _store(requantized(numbers, 1.0, target), node, node.input(4), trace)

    def need(self, node: Node, trace: Trace) -> None:
        self.pooling.need(self._view(node), trace)

    def _view(self, node: Node) -> Node:
        return replace(node, inputs=node.inputs[:1])


rules.register("com.microsoft::QLinearGlobalAveragePool")(IntegerPooling(GLOBAL_MEAN))
rules.register("com.microsoft::QLinearAveragePool")(IntegerPooling(LOCAL_MEAN))


@rule("DynamicQuantizeLinear")
class DynamicQuantize(Rule):
    """X → levels, scale, zero point, which all follow from the least and the largest of X and 0.

    Whatever is not zero takes part in these, so it is needed; a channel of zeros is not.
    """

    several_outputs = True

    def label(self, node: Node, trace: Trace) -> None:
        trace.labels.factors[node.outputs[0]] = trace.labels.of(node.input(0))
        for name in filter(None, node.outputs[1:]):
            trace.labels.factors[name] = ()

    def evaluate(self, node: Node, trace: Trace) -> None:
        return None

    def need(self, node: Node, trace: Trace) -> None:
        x, value = node.input(0), trace.values.get(node.input(0))
        if any(trace.demand(name).any() for name in node.outputs if name):
            shown = trace.all_of(x) if value is None else value != 0
            trace.keep(x, np.asarray(shown))


def _numbers(node: Node, trace: Trace, index: int) -> Array:
    """Returns the numbers that an operand stands for (NaN: not known), its scale and zero point following it."""
    levels = known_levels(node.input(index), node.input(index + 2), trace)
    scale = trace.full(node.input(index + 1))
    if levels is None or scale is None or scale.size > 1:
        return np.full((1,) * len(trace.graph.shapes[node.input(index)]), np.nan)
    return np.asarray(levels * float(scale.reshape(-1)[0]))


def _store(levels: Array, node: Node, zero: str, trace: Trace) -> None:
    kind = integers(zero, trace)
    known = kind is not None and not np.isnan(levels).any()
    store(node.outputs[0], levels.astype(kind) if known else levels, trace)
