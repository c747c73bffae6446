"""Operators whose result depends on shapes alone, or on nothing: they carry no channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from compress.channels.cells import combine, store
from compress.channels.graph import Array, Node
from compress.channels.rules import rule
from compress.channels.rules.base import Rule

if TYPE_CHECKING:
    from compress.channels.trace import Trace


class ShapeOnly(Rule):
    """No channels come out.

    Attributes:
        reads_values: whether the entries of the inputs are read, so that they all stay; else only their shape is.
    """

    reads_values = False

    def label(self, node: Node, trace: Trace) -> None:
        for name in () if self.reads_values else node.inputs:
            # What a rule asks for is its own business; what it does not ask for stays whole.
            trace.labels.of(name)
        trace.labels.factors[node.outputs[0]] = ()

    def need(self, node: Node, trace: Trace) -> None:
        return None


@rule("Shape")
class ShapeOf(ShapeOnly):
    """The sizes of a tensor, or of some of its axes."""

    def evaluate(self, node: Node, trace: Trace) -> None:
        shape = trace.graph.shapes[node.input(0)]
        axes = range(len(shape))[slice(node.attributes.get("start"), node.attributes.get("end"))]
        sizes = np.asarray([shape[axis] for axis in axes], dtype=np.int64)
        fixed = np.asarray([not trace.graph.is_dynamic(node.input(0), axis) for axis in axes], dtype=bool)
        store(node.outputs[0], sizes, trace, example=True, fixed=fixed)


@rule("Size")
class SizeOf(ShapeOnly):
    """The number of elements of a tensor."""

    def evaluate(self, node: Node, trace: Trace) -> None:
        shape = trace.graph.shapes[node.input(0)]
        example = any(trace.graph.is_dynamic(node.input(0), axis) for axis in range(len(shape)))
        store(node.outputs[0], np.asarray(int(np.prod(shape)), dtype=np.int64), trace, example=example)


@rule("ConstantOfShape")
class Filled(ShapeOnly):
    """A tensor of one value."""

    reads_values = True

    def evaluate(self, node: Node, trace: Trace) -> None:
        fill: Array = np.asarray(node.attributes.get("value", np.zeros(1, np.float32))).reshape(-1)
        rank = len(trace.graph.shapes[node.outputs[0]])
        shape = trace.integers(node.input(0))
        # Small integers are kept whole: they are shapes and indices that other nodes read.
        size: tuple[int, ...] = (1,) * rank
        if shape is not None and np.prod(shape) <= 64 and node.input(0) not in trace.examples:
            size = tuple(int(n) for n in shape)
        store(node.outputs[0], np.full(size, fill[0], fill.dtype), trace)


@rule("Range")
class Counting(ShapeOnly):
    """Evenly spaced numbers."""

    reads_values = True

    def evaluate(self, node: Node, trace: Trace) -> None:
        counted = lambda v: np.arange(v[0].item(), v[1].item(), v[2].item(), dtype=v[0].dtype)  # noqa: E731
        combine(node, trace, counted, in_part=False)
