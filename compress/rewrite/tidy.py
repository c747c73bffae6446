"""Graphs brought into order between passes.

graphsurgeon does the same, for nodes that hold graphs of their own as well, and takes its time: such graphs are left to
it. In all others, a node reads its inputs and nothing else.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs


def clean(graph: gs.Graph) -> None:
    """Removes the nodes that no output needs; inputs stay."""
    if _holds_graphs(graph):
        graph.cleanup(remove_unused_graph_inputs=False)
        return
    for tensor in graph.inputs:
        tensor.inputs.clear()
    needed: set[int] = set()
    reached = list(graph.outputs)
    while reached:
        for node in reached.pop().inputs:
            if id(node) not in needed:
                needed.add(id(node))
                reached += node.inputs
    for node in graph.nodes:
        if id(node) not in needed:
            node.inputs.clear()
            node.outputs.clear()
    graph.nodes = [node for node in graph.nodes if id(node) in needed]


def sort(graph: gs.Graph) -> None:
    """Sorts nodes by how many others have to come before them, one after the other."""
    levels: dict[int, int] = {}
    for node in graph.nodes:
        makers = [id(maker) for tensor in node.inputs for maker in tensor.inputs]
        if not levels.keys() >= set(makers):
            # Nodes of one level follow the order in which they are found, and these do not stand in it.
            break
        levels[id(node)] = 1 + max([levels[maker] for maker in makers], default=-1)
    if len(levels) < len(graph.nodes) or _holds_graphs(graph):
        graph.toposort()
    else:
        graph.nodes = sorted(graph.nodes, key=lambda node: levels[id(node)])


def _holds_graphs(graph: gs.Graph) -> bool:
    return any(isinstance(value, gs.Graph) for node in graph.nodes for value in node.attrs.values())
