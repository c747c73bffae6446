"""Where channels lie that can change places, and along which axes; see `arrange` for what places and blocks are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from compress.channels.factors import STAYS, coverage
from compress.channels.graph import Array, Shape
from compress.channels.slices import slices_by_cells
from compress.channels.trace import Trace

Partition = tuple[tuple[int, ...], ...]
Kind = frozenset[Partition]


@dataclass(frozen=True)
class Held:
    """Arrays of cells that hold the same places at the same coordinates.

    Attributes:
        places: without axes of one position.
        beside: what goes with slices: the axis along which these lie, and a place for each.
        told: axes on which slices are told apart by something else.
    """

    places: Array
    beside: list[tuple[int, Array]]
    told: set[int]

    def slabs(self, axis: int) -> Array:
        """Returns the places of each slice along an axis. Shape: (slices, places of a slice)."""
        return self.places.swapaxes(0, axis).reshape(self.places.shape[axis], -1)


@dataclass(frozen=True)
class Grid:
    """Arrays of places of which some can change their coordinate.

    Attributes:
        held: the arrays.
        axes: along which slices could be brought together.
        partitions: the places of each slice, for each of these axes.
        kind: the same for arrays of the same slices (a transposition, say), which lose the same ones.
    """

    held: Held
    axes: tuple[int, ...]
    partitions: tuple[Partition, ...]
    kind: Kind

    def ties(self, partition: Partition) -> list[tuple[Array, Array]]:
        """Returns pairs of places that go together if the slices of a partition go. Shapes: (pairs,)."""
        axis = self.axes[self.partitions.index(partition)]
        slabs = self.held.slabs(axis)
        first = slabs[:, 0]
        beside = [(places, first) for along, places in self.held.beside if along == axis]
        return [(slabs.reshape(-1), first.repeat(slabs.shape[1])), *beside]


class Places:
    """The places of a graph.

    Args:
        trace: what is known of the graph.

    Attributes:
        count: how many numbers of places there are, those of atoms that are no class among them.
        arrays: what holds places, each once.
        movable: which can change places: cells of several axes that are not pinned and do not stand for slices. Shape:
            (count,), booleans.
    """

    def __init__(self, trace: Trace) -> None:
        labels = trace.labels
        self.count = labels.atom_count
        self._classes = labels.classes()
        self.arrays = self._arrays(trace)
        self.movable = self.marked(held.places for held in self.arrays if held.places.ndim > 1)
        pinned = (np.array([STAYS]), *(pin.atoms for pin in labels.pins), *(one.atoms for one in labels.slices))
        for atoms in pinned:
            self.movable[self._classes[atoms]] = False

    def _arrays(self, trace: Trace) -> list[Held]:
        found: dict[tuple[Shape, bytes], Held] = {}
        for cells, slices in slices_by_cells(trace.labels):
            axes = coverage(cells)
            places = self._classes[cells.reshape([cells.shape[axis] for axis in axes])]
            held = found.setdefault((places.shape, places.tobytes()), Held(places, [], set()))
            for one in slices:
                axis = axes.index(one.axis)
                held.beside.append((axis, self._classes[one.atoms]))
                if not trace.alone(one.weight):
                    # A weight that nobody else reads follows cells that change places across slices.
                    held.told.add(axis)
        return list(found.values())

    def marked(self, some: Iterable[Array]) -> Array:
        """Returns which places are among some. Shape: (count,), booleans."""
        found = np.zeros(self.count, dtype=bool)
        for places in some:
            found[places] = True
        return found

    @cached_property
    def blocks(self) -> Array:
        """The block of each place. Shape: (count,); numbers of no meaning."""
        block, next_one = np.where(self.movable, 0, 1 + np.arange(self.count)), self.count + 1
        known: set[bytes] = set()
        for held in self.arrays:
            if not held.told:
                # All that counts is how often each place occurs.
                present = np.sort(held.places[self.movable[held.places]]).tobytes()
                if present in known:
                    continue
                known.add(present)
            for places, positions in self._occurring(held):
                number = block[places]
                for axis in held.told:
                    for coordinate in np.unravel_index(positions, held.places.shape)[axis].T:
                        number = number * held.places.shape[axis] + coordinate
                block[places] = next_one + numbered(number)
                next_one += places.size
        return block

    @cached_property
    def grids(self) -> list[Grid]:
        """The arrays of places among which some can change their coordinate."""
        found = []
        for held in self.arrays:
            axes = self._varying(held) if held.places.ndim > 1 else ()
            if axes:
                slabs = [np.sort(held.slabs(axis)).tolist() for axis in axes]
                partitions = tuple(tuple(sorted(map(tuple, slab))) for slab in slabs)
                found.append(Grid(held, axes, partitions, frozenset(partitions)))
        return found

    def _occurring(self, held: Held) -> Iterator[tuple[Array, Array]]:
        """Yields the movable places that occur equally often, and where. Shapes: (places,), (places, times)."""
        places = held.places.reshape(-1)
        among = np.flatnonzero(self.movable[places])
        order = among[places[among].argsort(kind="stable")]
        present = places[order]
        start = np.flatnonzero(np.concatenate([present[:1] >= 0, present[1:] != present[:-1]]))
        count = np.diff(start, append=present.size)
        for times in np.flatnonzero(np.bincount(count)):
            first = start[count == times]
            yield present[first], order[first[:, None] + np.arange(times)]

    def _varying(self, held: Held) -> tuple[int, ...]:
        """Returns the axes on which places of one block have several coordinates."""
        several = np.zeros(held.places.ndim, dtype=bool)
        for places, positions in self._occurring(held):
            block = self.blocks[places]
            order = block.argsort()
            block, coordinates = block[order], np.array(np.unravel_index(positions[order], held.places.shape))
            beside = (block[1:] == block[:-1])[:, None]
            several |= ((coordinates[:, 1:] != coordinates[:, :-1]) & beside).any(axis=(1, 2))
        return tuple(np.flatnonzero(several).tolist())


def numbered(values: Array) -> Array:
    """Returns small numbers, equal where values are. Shape: that of `values`."""
    return np.asarray(np.unique(values, return_inverse=True)[1].reshape(-1))
