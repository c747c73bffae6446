"""Einsum: sums of products over named axes. All is said in the space of all letters, one axis for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from compress.channels.cells import project, store
from compress.channels.factors import as_factors, coverage
from compress.channels.graph import Array, Node, Shape
from compress.channels.operands import unify_operands
from compress.channels.rules import rule
from compress.channels.rules.base import Rule

if TYPE_CHECKING:
    from compress.channels.trace import Trace

_LARGEST = 1 << 24  # products of known values; more of them are left uncomputed


@dataclass(frozen=True)
class _Equation:
    """Letters of each operand, of the result, and all of them in the order of the common space."""

    operands: tuple[str, ...]
    result: str
    letters: str

    def spread(self, cells: Array, own: str) -> Array:
        """Moves a cell array whose axes are called `own` to the common space."""
        order = sorted(range(len(own)), key=lambda axis: self.letters.index(own[axis]))
        shape = [cells.shape[own.index(letter)] if letter in own else 1 for letter in self.letters]
        return cells.transpose(order).reshape(shape)

    def gather(self, cells: Array, own: str) -> Array:
        """Moves a cell array from the common space, where it has size 1 on axes not called `own`."""
        present = [letter for letter in self.letters if letter in own]
        plain = cells.reshape([cells.shape[self.letters.index(letter)] for letter in present])
        return plain.transpose([present.index(letter) for letter in own])

    @property
    def summed(self) -> tuple[int, ...]:
        """The axes of the common space that the result does not have."""
        return tuple(axis for axis, letter in enumerate(self.letters) if letter not in self.result)


@rule("Einsum")
class Einsum(Rule):
    """A letter ties the axes of all operands that bear it; where the result lacks it, it is summed over."""

    multiplies = True

    def label(self, node: Node, trace: Trace) -> None:
        labels, shapes, equation = trace.labels, trace.graph.shapes, _parsed(node)
        if equation is None:
            for name in node.inputs:
                for factor in labels.of(name):
                    labels.pin(factor, node, f"its equation {_text(node)!r} names an axis twice, or not at all")
            return
        operands = []
        for own, name in zip(equation.operands, node.inputs, strict=True):
            factors = tuple(equation.spread(factor, own) for factor in labels.of(name))
            operands.append((factors, equation.spread(np.empty(shapes[name], np.bool_), own).shape))
        tied = unify_operands(labels, operands, len(equation.letters), node)
        reason = "its channels are spread over several axes here"
        kept = []
        for factor in tied:
            summed = set(coverage(factor)) & set(equation.summed)
            remaining = labels.reduced(factor, equation.summed, node, reason) if summed else (factor,)
            kept += [equation.gather(one, equation.result) for one in remaining]
        labels.factors[node.outputs[0]] = as_factors(*kept)
        self._mention(node, equation, trace)

    def evaluate(self, node: Node, trace: Trace) -> None:
        equation = _parsed(node)
        values = [trace.values.get(name) for name in node.inputs]
        if equation is None or all(value is None for value in values):
            return
        dtype = next(value.dtype for value in values if value is not None)
        if dtype.kind != "f":
            return
        product: Array = np.ones((1,) * len(equation.letters), dtype=np.float64)
        for own, name in zip(equation.operands, node.inputs, strict=True):
            factor = self._value(name, equation, own, trace)
            if np.prod(np.broadcast_shapes(product.shape, factor.shape)) > _LARGEST:
                return
            product = np.where((product == 0) | (factor == 0), 0, product * factor)
        sizes = self._sizes(node, equation, trace)
        repeats = [sizes[axis] for axis in equation.summed if product.shape[axis] == 1]
        if (
            any(trace.graph.is_dynamic(*place) for place in self._summed_places(node, equation))
            and np.nan_to_num(product).any()
        ):
            return
        total = product.sum(axis=equation.summed, keepdims=True) * float(np.prod(repeats))
        store(node.outputs[0], equation.gather(total, equation.result).astype(dtype), trace)

    def need(self, node: Node, trace: Trace) -> None:
        equation, shapes = _parsed(node), trace.graph.shapes
        if equation is None:
            for name in node.inputs:
                trace.keep(name, trace.all_of(name))
            return
        demand = equation.spread(trace.demand(node.outputs[0]), equation.result)
        values = [self._value(n, equation, own, trace) for own, n in zip(equation.operands, node.inputs, strict=True)]
        for index, (own, name) in enumerate(zip(equation.operands, node.inputs, strict=True)):
            busy = demand
            # A product is idle where any of its factors is zero, the operand itself among them.
            for value in (values[index], *values[:index], *values[index + 1 :]):
                beside = tuple(a for a, letter in enumerate(equation.letters) if letter not in own)
                busy = busy & _seen(value != 0, beside, busy)
            shape = equation.spread(np.empty(shapes[name], np.bool_), own).shape
            trace.keep(name, equation.gather(project(busy, shape), own))

    def _mention(self, node: Node, equation: _Equation, trace: Trace) -> None:
        """Says what constant operands are: letters that are summed over are read, the others produced."""
        sizes = dict(zip(equation.letters, self._sizes(node, equation, trace), strict=True))
        for index, (own, name) in enumerate(zip(equation.operands, node.inputs, strict=True)):
            others = "".join(equation.operands[:index] + equation.operands[index + 1 :])
            if name not in trace.graph.constants or set(others) <= set(own):
                continue
            for axis, letter in enumerate(own):
                if letter not in equation.result:
                    trace.labels.roles[(name, axis)] = "in"
                elif letter not in others:
                    trace.labels.roles[(name, axis)] = "out"
            times = int(np.prod([sizes[letter] for letter in equation.result[1:] if letter not in own]))
            trace.labels.reuse[name] = trace.labels.reuse.get(name, 0) + times

    def _value(self, name: str, equation: _Equation, own: str, trace: Trace) -> Array:
        """Returns what is known of an operand (NaN: nothing) in the common space; what counts as zero is zero."""
        value = trace.values.get(name)
        if value is None:
            return np.full((1,) * len(equation.letters), np.nan)
        if name in trace.graph.constants:
            value = np.where(trace.nonzero(name), value, 0)
        return equation.spread(value, own)

    def _sizes(self, node: Node, equation: _Equation, trace: Trace) -> Shape:
        sizes: dict[str, int] = {}
        for own, name in zip(equation.operands, node.inputs, strict=True):
            for letter, size in zip(own, trace.graph.shapes[name], strict=True):
                sizes[letter] = max(size, sizes.get(letter, 1))
        return tuple(sizes[letter] for letter in equation.letters)

    def _summed_places(self, node: Node, equation: _Equation) -> list[tuple[str, int]]:
        pairs = zip(equation.operands, node.inputs, strict=True)
        return [(name, axis) for own, name in pairs for axis, c in enumerate(own) if c not in equation.result]


def _seen(cells: Array, beside: tuple[int, ...], like: Array) -> Array:
    """Drops axes that neither the operand in question nor what it is compared with tells apart."""
    idle = tuple(axis for axis in beside if like.shape[axis] == 1)
    return np.asarray(cells.any(axis=idle, keepdims=True) if idle else cells)


def _text(node: Node) -> str:
    equation = node.attributes["equation"]
    return equation.decode() if isinstance(equation, bytes) else str(equation)


def _parsed(node: Node) -> _Equation | None:
    """Returns the equation, or None where an operand repeats a letter or leaves axes unnamed."""
    left, arrow, result = _text(node).replace(" ", "").partition("->")
    operands = tuple(left.split(","))
    if "." in left or "." in result or any(len(set(own)) != len(own) for own in (*operands, result)):
        return None
    joined = "".join(operands)
    letters = "".join(sorted(set(joined)))
    if not arrow:
        result = "".join(letter for letter in letters if joined.count(letter) == 1)
    return _Equation(operands, result, letters)
