"""Graphs brought into order between passes.

graphsurgeon does the same and takes its time. A node that holds graphs reads what these read from outside, beside its
own inputs.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs


def clean(graph: gs.Graph) -> None:
    """Removes the nodes that no output needs, from inner graphs too; inputs stay."""
    held = _held(graph)
    for inner in (one for graphs in held.values() for one in graphs):
        clean(inner)
    for tensor in graph.inputs:
        tensor.inputs.clear()
    own = {id(node) for node in graph.nodes}
    needed: set[int] = set()
    reached = list(graph.outputs)
    while reached:
        for node in reached.pop().inputs:
            # What an inner graph reads may be made around it.
            if id(node) in own and id(node) not in needed:
                needed.add(id(node))
                reached += _read(node, held)
    for node in graph.nodes:
        if id(node) not in needed:
            node.inputs.clear()
            node.outputs.clear()
    graph.nodes = [node for node in graph.nodes if id(node) in needed]


def sort(graph: gs.Graph) -> None:
    """Sorts nodes by how many others have to come before them, one after the other; those of inner graphs too."""
    held = _held(graph)
    for inner in (one for graphs in held.values() for one in graphs):
        sort(inner)
    own = {id(node) for node in graph.nodes}
    levels: dict[int, int] = {}
    for node in graph.nodes:
        makers = [id(maker) for tensor in _read(node, held) for maker in tensor.inputs if id(maker) in own]
        if not levels.keys() >= set(makers):
            # Nodes of one level follow the order in which they are found, and these do not stand in it.
            break
        levels[id(node)] = 1 + max([levels[maker] for maker in makers], default=-1)
    if len(levels) < len(graph.nodes):
        graph.toposort()
    else:
        graph.nodes = sorted(graph.nodes, key=lambda node: levels[id(node)])


def _held(graph: gs.Graph) -> dict[int, list[gs.Graph]]:
    """Returns the graphs that nodes of a graph hold, by the identity of the node."""
    found: dict[int, list[gs.Graph]] = {}
    for node in graph.nodes:
        for value in node.attrs.values():
            if isinstance(value, gs.Graph):
                found.setdefault(id(node), []).append(value)
    return found


def _read(node: gs.Node, held: dict[int, list[gs.Graph]]) -> list[gs.Tensor]:
    """Returns the tensors that a node of a graph reads, and those that the nodes of the graphs that it holds read."""
    read = list(node.inputs)
    for inner in held.get(id(node), ()):
        inside = _held(inner)
        for one in inner.nodes:
            read += _read(one, inside)
    return read
