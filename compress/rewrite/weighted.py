"""The operators that produce channels from a weight, and the channels that they produce."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from compress.channels.cells import only_axis
from compress.channels.factors import coverage
from compress.channels.graph import Array, Node
from compress.channels.kept import Kept
from compress.channels.trace import Trace


@dataclass(frozen=True)
class Weighted:
    """One such operator.

    Attributes:
        node: the operator.
        output: its first output.
        axis: of the output, along which its channels lie.
        rows: axis of its weight that produces them.
        atoms: of the channels. Shape: (C,).
    """

    node: Node
    output: str
    axis: int
    rows: int
    atoms: Array

    def constant(self, trace: Trace) -> Array:
        """Returns which channels hold one value whatever the input. Shape: (C,)."""
        return ~only_axis(trace.varies(self.output), self.axis, self.atoms.size)

    def unread(self, trace: Trace) -> Array:
        """Returns which channels depend on the input, and no output depends on them. Shape: (C,)."""
        return ~self.constant(trace) & ~only_axis(trace.demand(self.output), self.axis, self.atoms.size)

    def idle(self, trace: Trace) -> Array:
        """Returns which channels are constant or unread: what no output depends on. Shape: (C,)."""
        return ~only_axis(trace.demand(self.output), self.axis, self.atoms.size)

    def stays(self, kept: Kept) -> Array:
        """Returns which channels remain. Shape: (C,)."""
        return kept.mask(self.output, self.axis)


def weighted(trace: Trace) -> Iterator[Weighted]:
    """Yields the operators in the order of the graph."""
    labels, shapes = trace.labels, trace.graph.shapes
    producing = labels.producing_axes()
    for node in trace.graph.nodes:
        weight, output = node.input(1), node.outputs[0] if node.outputs else ""
        if weight not in producing or not shapes.get(output):
            continue
        axis = 1 if node.operator.startswith("Conv") else len(shapes[output]) - 1
        alone = [factor for factor in labels.of(output) if coverage(factor) == (axis,)]
        atoms = alone[0].reshape(-1) if alone else np.zeros(shapes[output][axis], dtype=np.int64)
        yield Weighted(node, output, axis, producing[weight], atoms)
