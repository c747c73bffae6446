"""What all matrix products have in common: A[…, M, K] · B[…, K, N] (+ C) → Y[…, M, N]."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from compress.channels.factors import as_factors, coverage, some
from compress.channels.graph import Array, Node
from compress.channels.matrices import Matrices, matrices
from compress.channels.operands import unify_elementwise, unify_operands
from compress.channels.rules.base import Rule

if TYPE_CHECKING:
    from compress.channels.trace import Trace


class Product(Rule):
    """The last axis of one operand is contracted with the second to last of the other."""

    multiplies = True
    prompted = True
    averages = True

    def label(self, node: Node, trace: Trace) -> None:
        labels, shapes = trace.labels, trace.graph.shapes
        a, b, c, y = node.input(0), node.input(1), node.input(2), node.outputs[0]
        sides = self._sides(node, trace)
        constant = trace.constant(b) is not None
        if constant:
            labels.roles[(b, sides.b.inner)] = "in"
            if sides.b.outer is not None:
                labels.roles[(b, sides.b.outer)] = "out"
        operands = [
            (tuple([side.framed(factor) for factor in labels.of(name)]), side.framed_shape(shapes[name]))
            for side, name in ((sides.a, a), (sides.b, b))
        ]
        joint = len(operands[0][1])
        reason = "its channels are spread over several axes here"
        factors: list[Array] = []
        for factor in unify_operands(labels, operands, joint, node):
            read = joint - 2 in coverage(factor)
            factors += labels.reduced(factor, (joint - 2,), node, reason) if read else (factor,)
        labels.factors[y] = as_factors(*[sides.as_result(factor.squeeze(-2)) for factor in factors])
        if c:
            if c in trace.graph.constants:
                labels.roles[(c, len(shapes[c]) - 1)] = "shift"
            labels.factors[y] = unify_elementwise(labels, [y, c], len(shapes[y]), node)
        if constant:
            # A weight with batch axes of its own uses each entry for one of them.
            positions = max(1, math.prod(shapes[y][1:-1]) // math.prod(shapes[b][:-2]))
            labels.reuse[b] = labels.reuse.get(b, 0) + positions

    def _need_added(self, cells: Array, node: Node, trace: Trace) -> None:
        """Marks what is added if any of the cells is needed."""
        c = node.input(2)
        if c:
            trace.need(c, np.full((1,) * len(trace.graph.shapes[c]), some(cells)))

    def _sides(self, node: Node, trace: Trace) -> Matrices:
        """Returns how the operands lie."""
        shapes, attributes = trace.graph.shapes, node.attributes
        return matrices(
            len(shapes[node.inputs[0]]),
            len(shapes[node.inputs[1]]),
            bool(attributes.get("transA", 0)),
            bool(attributes.get("transB", 0)),
        )

    def _factor(self, node: Node, name: str) -> float:
        return float(node.attributes.get(name, 1.0))
