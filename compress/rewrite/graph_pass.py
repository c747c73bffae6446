"""What a pass is: a change to a graph that keeps its function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

import numpy as np
import onnx_graphsurgeon as gs

from compress.channels.graph import Array, Node
from compress.channels.kept import Kept
from compress.channels.trace import Trace
from compress.recipe import RewriteSettings


class Pass(ABC):
    """A change to a graph. A pass has no state of its own.

    Attributes:
        name: for reports.
        order: passes run by ascending order, again and again until none changes anything.
        opens: whether it shows the others more of a graph, and does nothing else: it runs to its end before them, and
            looks at values alone.
    """

    name: str
    order: int
    opens = False

    def configured(self, settings: RewriteSettings) -> Pass | None:
        """Returns the pass as settings want it; None if they want it left out."""
        return self

    @abstractmethod
    def run(self, graph: gs.Graph, trace: Trace) -> list[str]:
        """Changes `graph` in place.

        Args:
            graph: the graph.
            trace: what is known of it; no longer true once something has changed.

        Returns:
            what has been done, a line each; empty if nothing has changed.
        """

    def known(self, trace: Trace) -> Trace | None:
        """Returns what is known of a graph once the pass has changed it; None where that does not follow.

        Args:
            trace: what `run` was given.
        """
        return None

    def kept(self, trace: Trace) -> Kept | None:
        """Returns what remains of each tensor that is still there once the pass has changed a graph; None if unknown.

        Args:
            trace: what `run` was given.
        """
        return None


def producers(graph: gs.Graph) -> dict[str, gs.Node]:
    """Returns the node that produces each tensor."""
    return {tensor.name: node for node in graph.nodes for tensor in node.outputs if tensor.name}


def origin(nodes: dict[str, gs.Node], node: Node) -> gs.Node:
    """Returns the node of `producers` that a node of the trace stands for or is a part of."""
    return nodes[node.whole or next(name for name in node.outputs if name)]


def fresh_name(graph: gs.Graph, wanted: str) -> str:
    """Returns a tensor name that the graph does not use yet."""
    return Names(graph).fresh(wanted)


def fresh_node_name(graph: gs.Graph, wanted: str) -> str:
    """Returns a node name that the graph does not use yet."""
    return unused(wanted, {node.name for node in graph.nodes})


class Names:
    """The names that the tensors of a graph have, gathered once for all that is to get a new one.

    Args:
        graph: whatever else gives new names to its tensors must ask here too.

    Attributes:
        tensors: those that the graph had at first, by name.
    """

    def __init__(self, graph: gs.Graph) -> None:
        self.tensors: Mapping[str, gs.Tensor] = graph.tensors()
        self._taken = set(self.tensors).union(*(_names(inner) for inner in _subgraphs(graph)))

    def fresh(self, wanted: str) -> str:
        """Returns a name like `wanted` that no tensor has, nor will get from here."""
        name = unused(wanted, self._taken)
        self._taken.add(name)
        return name

    def constant(self, wanted: str, values: Array) -> gs.Constant:
        """Returns a new constant under an unused name like `wanted`."""
        return gs.Constant(self.fresh(wanted), np.array(values, order="C"))


def unused(wanted: str, names: set[str]) -> str:
    """Returns a name like `wanted` that is not among `names`."""
    candidate, count = wanted, 0
    while candidate in names:
        count += 1
        candidate = f"{wanted}_{count}"
    return candidate


def _names(graph: gs.Graph) -> set[str]:
    """Returns the names of all tensors, also of those that only subgraphs have."""
    return set(graph.tensors()).union(*(_names(inner) for inner in _subgraphs(graph)))


def _subgraphs(graph: gs.Graph) -> Iterator[gs.Graph]:
    """Yields what the nodes of a graph hold as attributes."""
    return (value for node in graph.nodes for value in node.attrs.values() if isinstance(value, gs.Graph))


def constant(graph: gs.Graph, name: str, values: Array) -> gs.Constant:
    """Returns a new constant under an unused name like `name`."""
    return Names(graph).constant(name, values)
