"""The order of nodes: each behind those whose outputs it reads."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from compress.onnx_io.tensors import captured_by, inner_graphs

if TYPE_CHECKING:
    import onnx


def sort_nodes(graph: onnx.GraphProto) -> bool:
    """Brings nodes into order, those of inner graphs too; otherwise they stay as they stand. A circle stays.

    Runtimes take any order, ONNX does not; some converters append the casts of inputs at the end.

    Returns:
        whether something has changed.
    """
    changed = sum(sort_nodes(inner) for node in graph.node for inner in inner_graphs(node)) > 0
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    awaited = [{makers[name] for name in (*node.input, *captured_by(node)) if name in makers} for node in graph.node]
    if all(max(before, default=-1) < index for index, before in enumerate(awaited)):
        return changed
    readers: list[list[int]] = [[] for _ in awaited]
    for index, before in enumerate(awaited):
        for maker in before:
            readers[maker].append(index)
    missing = [len(before) for before in awaited]
    ready = [index for index, count in enumerate(missing) if not count]
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for reader in readers[index]:
            missing[reader] -= 1
            if not missing[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(awaited):
        return changed
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes[index] for index in order)
    return True
