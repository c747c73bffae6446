"""Operators that combine their operands position by position, with broadcasting."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from compress.channels.alike_elementwise import elementwise
from compress.channels.cells import combine, project
from compress.channels.factors import coverage, every
from compress.channels.graph import Array, Node
from compress.channels.operands import unify_elementwise
from compress.channels.rules import rules
from compress.channels.rules.base import Glance, Rule, holds_channels, output_shape

if TYPE_CHECKING:
    from compress.channels.alike import Likeness
    from compress.channels.trace import Trace

Function = Callable[[list[Array], Mapping[str, Any]], Array]

# ONNX's numbers of element types.
DTYPES: dict[int, type] = {
    1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_,
    10: np.float16, 11: np.float64, 12: np.uint32, 13: np.uint64,
}  # fmt: skip


class Elementwise(Rule):
    """Labels of the operands are unified; a result is known where the function of the known operands is.

    Args:
        function: from the operands' values (NaN: unknown) and the attributes to the result's values.
        operands: how many of the inputs are combined; the others are parameters without channels.
    """

    prompted = True

    def __init__(self, function: Function, operands: int | None = None) -> None:
        self.function = function
        self.operands = operands

    def label(self, node: Node, trace: Trace) -> None:
        names = [name for name in node.inputs[: self.operands] if name]
        for parameter in node.inputs[len(names) :]:
            trace.labels.of(parameter)
        factors = unify_elementwise(trace.labels, names, len(output_shape(node, trace)), node)
        trace.labels.factors[node.outputs[0]] = factors

    def evaluate(self, node: Node, trace: Trace) -> None:
        if self._decided(node, trace):
            combine(node, trace, lambda values: self.function(values, node.attributes))

    def need(self, node: Node, trace: Trace) -> None:
        cells = trace.demand(node.outputs[0])
        for name in node.inputs[: self.operands]:
            if name and name not in trace.graph.constants:
                trace.need(name, project(cells, trace.graph.shapes[name]))

    def blurs(self, node: Node, trace: Trace) -> Literal["mean", "place by place"] | None:
        if node.key in _SUMS or (node.key in _PRODUCTS and _scaled(node, trace)):
            return "place by place"
        return None

    def _decided(self, node: Node, trace: Trace) -> bool:
        """Tells whether what is known of the operands can decide anything: not where another one is unknown."""
        values, examples = trace.values, trace.examples
        operands = [name for name in node.inputs[: self.operands] if name]
        if node.key not in _STRICT or all(name in values or name in examples for name in operands):
            return True
        # A zero decides a product.
        known = [source[name] for source in (values, examples) for name in operands if name in source]
        return node.key in _PRODUCTS and not all(every(value) for value in known)

    def glance(self, node: Node, trace: Trace) -> Glance | None:
        return "combines"

    def alike(self, node: Node, trace: Trace, likeness: Likeness) -> None:
        elementwise(node, trace, likeness, self.operands)


_SUMS = frozenset({"Add", "Sub", "Sum", "Identity", "Neg", "Dropout"})
_PRODUCTS = frozenset({"Mul", "Div"})
# Where an operand is not known the result is not; of products unless another one is zero.
_STRICT = _SUMS | _PRODUCTS | {"Clip", "Max", "Min"}


def _scaled(node: Node, trace: Trace) -> bool:
    """Tells whether an operand that scales the other one is constant, and the same in all places."""
    y, rank = node.outputs[0], len(output_shape(node, trace))
    for index in (1,) if node.key == "Div" else (0, 1):
        value = trace.constant(node.input(index))
        axes = () if value is None else [rank - value.ndim + axis for axis in coverage(value)]
        if value is not None and all(holds_channels(y, axis, trace) for axis in axes):
            return True
    return False


def _mul(values: list[Array], _: Mapping[str, Any]) -> Array:
    # A zero operand decides the product even where the other one is unknown.
    product = values[0] * values[1]
    return np.where((values[0] == 0) | (values[1] == 0), np.zeros((), product.dtype), product)


def _div(values: list[Array], _: Mapping[str, Any]) -> Array:
    numerator, denominator = values
    if numerator.dtype.kind in "iu":
        return np.trunc(numerator / denominator).astype(numerator.dtype)
    quotient = numerator / denominator
    return np.where((numerator == 0) & (denominator != 0), np.zeros((), quotient.dtype), quotient)


def _clip(values: list[Array], attributes: Mapping[str, Any]) -> Array:
    x = values[0]
    low = values[1] if len(values) > 1 and values[1].size else attributes.get("min")
    high = values[2] if len(values) > 2 and values[2].size else attributes.get("max")
    if low is not None:
        x = np.maximum(x, np.asarray(low, x.dtype))
    return x if high is None else np.minimum(x, np.asarray(high, x.dtype))


class _CastLike(Elementwise):
    """Takes the element type of its second input, of which nothing else is read."""

    def evaluate(self, node: Node, trace: Trace) -> None:
        like = node.inputs[1]
        kind = trace.graph.types.get(like, trace.values[like].dtype if like in trace.values else None)
        if kind is not None:
            combine(replace(node, inputs=node.inputs[:1]), trace, lambda values: values[0].astype(kind))


def _cast(values: list[Array], attributes: Mapping[str, Any]) -> Array:
    return values[0].astype(DTYPES[int(attributes["to"])])


def _where(values: list[Array], _: Mapping[str, Any]) -> Array:
    condition, chosen, other = values
    if condition.dtype.kind != "f":
        return np.where(condition, chosen, other)
    # Where the condition is not known, the result is if both sides agree.
    agreed = np.where(chosen == other, chosen, np.asarray(np.nan, chosen.dtype if chosen.dtype.kind == "f" else float))
    return np.where(np.isnan(condition), agreed, np.where(condition != 0, chosen, other))


def _gelu(values: list[Array], attributes: Mapping[str, Any]) -> Array:
    x = values[0]
    if attributes.get("approximate", b"none") in (b"tanh", "tanh"):
        return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
    return np.asarray(0.5 * x * (1 + _erf(x / math.sqrt(2))))


def _erf(x: Array) -> Array:
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x), dtype=x.dtype)


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _hard_sigmoid(x: Array, alpha: float = 0.2, beta: float = 0.5) -> Array:
    return np.clip(alpha * x + beta, 0, 1)


def _elu(x: Array, alpha: float) -> Array:
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)


def _biased(values: list[Array]) -> Array:
    return values[0] + values[1] if len(values) > 1 and values[1].size else values[0]


def _celu(x: Array, alpha: float) -> Array:
    return np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(x / alpha))


def _shrink(x: Array, limit: float, bias: float) -> Array:
    small = np.where(np.isnan(x), x, np.zeros((), x.dtype))
    return np.where(x < -limit, x + bias, np.where(x > limit, x - bias, small))


def _unary(function: Callable[[Array], Array]) -> Function:
    return lambda values, _: function(values[0])


def _binary(function: Callable[[Array, Array], Array]) -> Function:
    return lambda values, _: function(values[0], values[1])


def _reduce(function: Callable[[Array, Array], Array]) -> Function:
    def combined(values: list[Array], _: Mapping[str, Any]) -> Array:
        result = values[0]
        for value in values[1:]:
            result = function(result, value)
        return result

    return combined


_FUNCTIONS: dict[str, Function] = {
    "Abs": _unary(np.abs),
    "Acos": _unary(np.arccos),
    "Acosh": _unary(np.arccosh),
    "Add": _binary(np.add),
    "And": _binary(np.logical_and),
    "Asin": _unary(np.arcsin),
    "Asinh": _unary(np.arcsinh),
    "Atan": _unary(np.arctan),
    "Atanh": _unary(np.arctanh),
    "Ceil": _unary(np.ceil),
    "Celu": lambda values, a: _celu(values[0], a.get("alpha", 1.0)),
    "Clip": _clip,
    "Cos": _unary(np.cos),
    "Cosh": _unary(np.cosh),
    "Div": _div,
    "Elu": lambda values, a: _elu(values[0], a.get("alpha", 1.0)),
    "Equal": _binary(np.equal),
    "Erf": _unary(_erf),
    "Exp": _unary(np.exp),
    "Floor": _unary(np.floor),
    "Gelu": _gelu,
    "Greater": _binary(np.greater),
    "GreaterOrEqual": _binary(np.greater_equal),
    "HardSigmoid": lambda values, a: _hard_sigmoid(values[0], a.get("alpha", 0.2), a.get("beta", 0.5)),
    "HardSwish": _unary(lambda x: x * _hard_sigmoid(x, 1 / 6)),
    "Identity": _unary(lambda x: x),
    "LeakyRelu": lambda values, a: np.where(values[0] < 0, a.get("alpha", 0.01) * values[0], values[0]),
    "Less": _binary(np.less),
    "LessOrEqual": _binary(np.less_equal),
    "Log": _unary(np.log),
    "Max": _reduce(np.maximum),
    "Mean": lambda values, _: np.mean(np.broadcast_arrays(*values), axis=0),
    "Min": _reduce(np.minimum),
    "Mish": _unary(lambda x: x * np.tanh(np.logaddexp(0, x))),
    "Mod": lambda values, a: (np.fmod if a.get("fmod", 0) else np.mod)(values[0], values[1]),
    "Mul": _mul,
    "Neg": _unary(np.negative),
    "Not": _unary(np.logical_not),
    "Or": _binary(np.logical_or),
    "PRelu": lambda values, _: np.where(values[0] < 0, values[1] * values[0], values[0]),
    "Pow": _binary(lambda x, y: np.power(x, y.astype(x.dtype))),
    "Reciprocal": _unary(np.reciprocal),
    "Relu": _unary(lambda x: np.maximum(x, np.zeros((), x.dtype))),
    "Round": _unary(np.rint),
    "Selu": lambda values, a: a.get("gamma", 1.0507009873554805) * _elu(values[0], a.get("alpha", 1.6732632423543772)),
    "Shrink": lambda values, a: _shrink(values[0], a.get("lambd", 0.5), a.get("bias", 0.0)),
    "Sigmoid": _unary(_sigmoid),
    "Sign": _unary(np.sign),
    "Sin": _unary(np.sin),
    "Sinh": _unary(np.sinh),
    "Softplus": _unary(lambda x: np.logaddexp(np.zeros((), x.dtype), x)),
    "Softsign": _unary(lambda x: x / (1 + np.abs(x))),
    "Sqrt": _unary(np.sqrt),
    "Sub": _binary(np.subtract),
    "Sum": _reduce(np.add),
    "Tan": _unary(np.tan),
    "Tanh": _unary(np.tanh),
    "ThresholdedRelu": lambda values, a: np.where(values[0] <= a.get("alpha", 1.0), 0 * values[0], values[0]),
    "Where": _where,
    "Xor": _binary(np.logical_xor),
}
for _name, _function in _FUNCTIONS.items():
    rules.register(_name)(Elementwise(_function))
# What ONNX Runtime fuses. A bias is an operand like any other.
_FUSED: dict[str, Function] = {
    "BiasGelu": lambda values, _: _gelu([values[0] + values[1]], {}),
    "FastGelu": lambda values, _: _gelu([_biased(values)], {"approximate": "tanh"}),
    "Gelu": _gelu,
    "QuickGelu": lambda values, a: values[0] * _sigmoid(a.get("alpha", 1.702) * values[0]),
}
for _name, _function in _FUSED.items():
    rules.register(f"com.microsoft::{_name}")(Elementwise(_function))
rules.register("Cast")(Elementwise(_cast))
rules.register("CastLike")(_CastLike(_unary(lambda x: x), operands=1))
rules.register("Dropout")(Elementwise(_unary(lambda x: x), operands=1))
