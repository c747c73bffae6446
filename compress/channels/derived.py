"""What is known of a graph after a change that keeps the function of each cell, from what was known of it before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from compress.channels.arrange import moves
from compress.channels.factors import coverage
from compress.channels.graph import Array, Graph, Node
from compress.channels.labels import Labels
from compress.channels.trace import Trace, retraced, unruled

Taken = Callable[[str, Array], Array]


def carried(known: Trace, graph: Graph, labels: Labels, nodes: Mapping[Node, Node], take: Taken) -> Trace:
    """Returns what is known of a graph whose cells are those of another; its choices are left to the caller.

    Args:
        known: of the other.
        graph: the graph.
        labels: its labels.
        nodes: what the nodes of the other are now; those that are gone are absent.
        take: returns the cells of a tensor where, or as far as, they are there now.
    """
    left = graph.shapes.keys() - graph.constants.keys()

    def taken(cells: Mapping[str, Array]) -> dict[str, Array]:
        return {name: take(name, found) for name, found in cells.items() if name in left}

    values = {name: value for name, value in taken(known.values).items() if not _unknown(value)}
    readers = {
        name: [(nodes[node], take(name, cells)) for node, cells in found if node in nodes]
        for name, found in known.readers.items()
        if name in left
    }
    return replace(
        known,
        graph=graph,
        labels=labels,
        values={**graph.constants, **values},
        examples=taken(known.examples),
        fixed=taken(known.fixed),
        needs=taken(known.needs),
        made=taken(known.made),
        sharp=taken(known.sharp),
        choices=[],
        unknown=unruled(graph),
        averaging={name: axis for name, axis in known.averaging.items() if name in left},
        readers=readers,
        tainted=known.tainted & values.keys(),
        endless=known.endless & left,
        _scales={},
        _nonzero={},
        _rules={nodes[node]: rule for node, rule in known._rules.items() if node in nodes},
        _blurred=set(),
    )


def _unknown(value: Array) -> bool:
    return value.dtype.kind == "f" and bool(np.isnan(value).all())


def rearranged(known: Trace, constants: Mapping[str, Array], source: Array) -> Trace:
    """Returns what is known of a graph once channels have changed places; see `arrange`.

    What holds of a channel goes with it: its value, and whether it is needed. Labels are of places, and stay.

    Args:
        known: what was known.
        constants: those that are others now.
        source: the place whose content comes to each place, by classes. Shape: (atoms,).
    """
    moved = _Moved(known.labels, source)
    if not moved.sound:
        return retraced(known, constants)
    graph = replace(known.graph, constants={**known.graph.constants, **constants})
    result = carried(known, graph, known.labels, {node: node for node in graph.nodes}, moved.take)
    for name, axis, positions in known.choices:
        result.choices.append((name, axis, moved.positions(name, axis, positions)))
    return result


class _Moved:
    """Where the content of each position has come from.

    Args:
        labels: of the graph.
        source: see `rearranged`.

    Attributes:
        sound: whether that is known of all tensors: among cells of several axes each place must occur once.
    """

    def __init__(self, labels: Labels, source: Array) -> None:
        self._labels = labels
        self._classes = labels.classes()
        self._source = source
        self._found: dict[int, Array | None] = {}
        self.sound = True
        for factors in labels.factors.values():
            for factor in factors:
                self._index(factor)

    def _index(self, factor: Array) -> Array | None:
        """Returns from which of a factor's cells, flat, each has its content; None if none has moved."""
        if id(factor) not in self._found:
            places = self._classes[factor.reshape(-1)]
            index: Array | None = None
            if (self._source[places] != places).any():
                index = moves(places, self._source)
                self.sound &= len(coverage(factor)) == 1 or np.unique(places).size == places.size
            self._found[id(factor)] = index
        return self._found[id(factor)]

    def take(self, name: str, cells: Array) -> Array:
        """Returns a tensor's cells where their channels are now."""
        for factor in self._labels.of(name):
            index, axes = self._index(factor), coverage(factor)
            if index is None or all(cells.shape[axis] == 1 for axis in axes):
                continue
            if len(axes) == 1:
                cells = cells.take(index, axis=axes[0])
                continue
            # Cells that are told apart along one of the axes may differ along all of them afterwards.
            wide = np.broadcast_to(cells, np.broadcast_shapes(cells.shape, factor.shape))
            first = wide.transpose(*axes, *[axis for axis in range(cells.ndim) if axis not in axes])
            moved = first.reshape(index.size, *first.shape[len(axes) :])[index].reshape(first.shape)
            cells = np.moveaxis(moved, range(len(axes)), axes)
        return cells

    def positions(self, name: str, axis: int, positions: Array) -> Array:
        """Returns where the contents of some positions of an axis are now."""
        for factor in self._labels.of(name):
            index = self._index(factor)
            if index is not None and coverage(factor) == (axis,):
                positions = np.flatnonzero(np.isin(index, positions))
        return positions
