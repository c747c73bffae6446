"""What is known of a graph that has lost channels, from what was known of it before.

What stays computes what it did: its values are the same, an output depends on it as before, and what had to go together
has to still. Only integers are found anew: shapes are made of them. A channel that stays although nothing needs it may
have lost what it was computed from; where it is constant then, nothing follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from compress.channels.cut import Cut
from compress.channels.derived import carried
from compress.channels.factors import every, some
from compress.channels.graph import INTEGERS, Graph, Node
from compress.channels.kept import Kept
from compress.channels.trace import Trace

_BIASED = ("Conv", "ConvTranspose", "Gemm")


def remaining(kept: Kept, graph: Graph) -> Trace | None:
    """Returns what is known of a graph that has lost channels; None if that is not all that has changed in it.

    Args:
        kept: what remains of the graph that it was.
        graph: the graph as it is now.
    """
    known = kept.trace
    same = _same_nodes(kept, graph)
    if same is None:
        return None
    cut = Cut(kept, graph, same.gains)
    if not cut.fits:
        return None
    labels = cut.labels({before.name: after.name for before, after in same.nodes.items()})
    result = carried(known, graph, labels, same.nodes, cut.take)
    _count_anew(known, result)
    if result.tainted or any(_bared(old, node, kept, result) for old, node in same.nodes.items()):
        return None
    for name, axis, positions in known.choices:
        left = kept.axes(name).get(axis)
        now = positions if left is None else np.flatnonzero(np.isin(left, positions))
        if name in graph.shapes and now.size:
            result.choices.append((name, axis, now))
    return result


@dataclass(frozen=True)
class _Same:
    """What the nodes of a graph have become.

    Attributes:
        nodes: by what they were; those that are gone are absent.
        gains: constants that stand in place of others, which they are called after: channels that went had added
            the difference.
    """

    nodes: Mapping[Node, Node]
    gains: Mapping[str, str]


def _same_nodes(kept: Kept, graph: Graph) -> _Same | None:
    """Returns what each node has become; None if one computes anything else.

    Sizes and indices may come from elsewhere where a node has been edited. An operand that is absent was found to add
    nothing before.
    """
    before = kept.trace.graph
    made = {name: node for node in before.nodes for name in node.outputs if name}
    nodes: dict[Node, Node] = {}
    gains: dict[str, str] = {}
    for node in graph.nodes:
        old = made.get(next(filter(None, node.outputs), ""))
        if old is None:
            if not all(graph.counts(name) for name in (*node.inputs, *node.outputs)):
                return None
            continue
        if (old.key, old.outputs, old.captured) != (node.key, node.outputs, node.captured):
            return None
        for index in range(max(len(old.inputs), len(node.inputs))):
            name, new = old.input(index), node.input(index)
            if name == new:
                if (name in before.constants) != (name in graph.constants):
                    return None
            elif new in graph.constants and kept.trace.alone(name) and _adds(kept.trace, old, index):
                gains[new] = name
            elif not _edited(kept, old, index, new):
                return None
        nodes[old] = node
    return _Same(nodes, gains)


def _adds(known: Trace, node: Node, index: int) -> bool:
    """Tells whether an operand can take what others had added, so that no other tensor's values change."""
    if node.key in _BIASED:
        return index in (1, 2)  # a carrier's column bears the constants of others, as a bias does
    if node.key == "BatchNormalization":
        return index == 3 and node.inputs[0] not in known.values
    return node.key == "Add" and not any(name in known.values for name in node.inputs if name != node.input(index))


def _edited(kept: Kept, node: Node, index: int, new: str) -> bool:
    """Tells whether an operand is another one because channels have gone, or is absent."""
    if not new and node.input(index) in kept.trace.graph.constants:
        return True
    edit = kept.edit(node)
    return edit is not None and (index in edit.inputs or index in edit.overrides)


def _bared(old: Node, node: Node, kept: Kept, result: Trace) -> bool:
    """Tells whether more is known of what a node makes than was, now that it no longer reads all that it read.

    What is needed reads what it read. What is not, and stays, may have lost all that varied.
    """
    if not any(kept.changed(name) for name in old.inputs):
        return False
    loose = [name for name in node.outputs if name and _varies_unneeded(name, result)]
    if not loose:
        return False
    before = {name: result.values[name] for name in loose if name in result.values}
    result.rule(node).evaluate(node, result)
    after = {name: result.values.pop(name) for name in loose if name in result.values}
    result.values.update(before)
    return any(name not in before or some(np.isnan(before[name]) & ~np.isnan(value)) for name, value in after.items())


def _varies_unneeded(name: str, known: Trace) -> bool:
    needed = known.needs.get(name)
    if needed is None:
        return some(known.varies(name))
    return not every(needed if name not in known.values else needed | ~known.varies(name))


def _count_anew(known: Trace, result: Trace) -> None:
    """Evaluates what makes integers, or numbers of nothing else, again: shapes are no longer what they were."""
    counted: set[str] = set()
    constants = result.graph.constants.keys()
    for node in result.graph.nodes:
        made = [name for name in node.outputs if name]
        follows = not counted.isdisjoint(node.inputs) and all(
            name in counted or name in constants for name in node.inputs if name
        )
        if not (follows or any(_integer(known, name) for name in made)):
            continue
        counted.update(made)
        for held in (result.values, result.examples, result.fixed):
            for name in made:
                held.pop(name, None)
        result.rule(node).evaluate(node, result)


def _integer(known: Trace, name: str) -> bool:
    """Tells whether a tensor is one of integers or truth values of which something is known."""
    value = known.examples.get(name, known.values.get(name))
    return value is not None and (value.dtype.kind in INTEGERS or known.graph.counts(name))
