"""Operators that give each value another place and lose none: reshapes and transpositions."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Literal

import numpy as np

from compress.channels.cells import regroup, store
from compress.channels.factors import as_factors, coverage
from compress.channels.graph import Array, Node, Shape, as_array
from compress.channels.rules import rule, rules
from compress.channels.rules.base import Glance, NodeEdit, Rule, output_shape

if TYPE_CHECKING:
    from compress.channels.alike import Likeness
    from compress.channels.kept import Kept
    from compress.channels.trace import Trace


class Rearrangement(Rule):
    """A bijection of positions: one function moves labels and values forwards, its inverse moves needs back."""

    prompted = True

    @abstractmethod
    def forward(self, cells: Array, node: Node, trace: Trace) -> Array:
        """Moves a cell array of the input to the output."""

    @abstractmethod
    def backward(self, cells: Array, node: Node, trace: Trace) -> Array:
        """Moves a cell array of the output to the input."""

    def label(self, node: Node, trace: Trace) -> None:
        moved = (self.forward(factor, node, trace) for factor in trace.labels.of(node.input(0)))
        trace.labels.factors[node.outputs[0]] = as_factors(*moved)

    def evaluate(self, node: Node, trace: Trace) -> None:
        x = node.input(0)
        for source, example in ((trace.values, False), (trace.examples, True)):
            if x in source:
                fixed = self.forward(trace.fixed[x], node, trace) if example and x in trace.fixed else None
                store(node.outputs[0], self.forward(source[x], node, trace), trace, example=example, fixed=fixed)

    def need(self, node: Node, trace: Trace) -> None:
        trace.need(node.input(0), self.backward(trace.demand(node.outputs[0]), node, trace))

    def blurs(self, node: Node, trace: Trace) -> Literal["mean", "place by place"] | None:
        return "place by place"

    def glance(self, node: Node, trace: Trace) -> Glance | None:
        return "moves"

    def alike(self, node: Node, trace: Trace, likeness: Likeness) -> None:
        likeness.moved(node, lambda cells: self.forward(cells, node, trace))


class Reshaping(Rearrangement):
    """Reshape, Flatten, Squeeze, Unsqueeze: the order of values stays, the axes change."""

    def forward(self, cells: Array, node: Node, trace: Trace) -> Array:
        return regroup(cells, trace.graph.shapes[node.input(0)], output_shape(node, trace))

    def backward(self, cells: Array, node: Node, trace: Trace) -> Array:
        return regroup(cells, output_shape(node, trace), trace.graph.shapes[node.input(0)])

    def label(self, node: Node, trace: Trace) -> None:
        super().label(node, trace)
        if node.operator != "Reshape":
            return
        # A target size that holds a symbolic size and a channel axis at once can be rewritten only if it is inferred.
        y = node.outputs[0]
        literal = trace.integers(node.input(1))
        for axis in range(len(output_shape(node, trace))):
            stuck = trace.graph.is_dynamic(y, axis) and (literal is None or literal[axis] > 0)
            for factor in trace.labels.of(y) if stuck else ():
                if axis in coverage(factor):
                    trace.labels.pin(factor, node, "its target size mixes channels with a symbolic size")

    def resize(self, node: Node, trace: Trace, kept: Kept) -> NodeEdit | None:
        y = node.outputs[0]
        if node.operator != "Reshape" or not kept.changed(y):
            return None
        literal = trace.integers(node.input(1))
        if literal is None:
            literal = as_array(output_shape(node, trace))
        fixed = np.array([size > 0 and not trace.graph.is_dynamic(y, axis) for axis, size in enumerate(literal)])
        return kept.override(node, 1, fixed, as_array(kept.shape(y)))


for _name in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
    rules.register(_name)(Reshaping())


@rule("Transpose")
class Transposition(Rearrangement):
    """Axes change places."""

    def forward(self, cells: Array, node: Node, trace: Trace) -> Array:
        return cells.transpose(self._order(node, cells.ndim))

    def backward(self, cells: Array, node: Node, trace: Trace) -> Array:
        order = self._order(node, cells.ndim)
        return cells.transpose(sorted(range(cells.ndim), key=order.__getitem__))

    def _order(self, node: Node, rank: int) -> list[int]:
        return [int(axis) for axis in node.attributes.get("perm", range(rank - 1, -1, -1))]


class BlockShuffle(Rearrangement):
    """DepthToSpace and SpaceToDepth: a reshape, a transposition, a reshape."""

    def __init__(self, *, to_space: bool) -> None:
        self.to_space = to_space

    def forward(self, cells: Array, node: Node, trace: Trace) -> Array:
        x = trace.graph.shapes[node.input(0)]
        split, order, joined = self._steps(node, x)
        return regroup(regroup(cells, x, split).transpose(order), _permuted(split, order), joined)

    def backward(self, cells: Array, node: Node, trace: Trace) -> Array:
        x = trace.graph.shapes[node.input(0)]
        split, order, joined = self._steps(node, x)
        back = np.argsort(order)
        return regroup(regroup(cells, joined, _permuted(split, order)).transpose(back), split, x)

    def _steps(self, node: Node, shape: Shape) -> tuple[Shape, tuple[int, ...], Shape]:
        n, c, h, w = shape
        b = int(node.attributes["blocksize"])
        if not self.to_space:
            return (n, c, h // b, b, w // b, b), (0, 3, 5, 1, 2, 4), (n, c * b * b, h // b, w // b)
        mode = node.attributes.get("mode", b"DCR")
        if mode in (b"CRD", "CRD"):
            return (n, c // (b * b), b, b, h, w), (0, 1, 4, 2, 5, 3), (n, c // (b * b), h * b, w * b)
        return (n, b, b, c // (b * b), h, w), (0, 3, 4, 1, 5, 2), (n, c // (b * b), h * b, w * b)


rules.register("DepthToSpace")(BlockShuffle(to_space=True))
rules.register("SpaceToDepth")(BlockShuffle(to_space=False))


def _permuted(shape: Shape, order: tuple[int, ...]) -> Shape:
    return tuple(shape[axis] for axis in order)
