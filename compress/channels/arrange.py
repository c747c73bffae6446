"""Which channels can change places, and how they must lie for the most whole slices to go.

To change the places of channels is exact where everything that they pass treats them alike. Channels that a whole slice
is made of (one of each group, one of each head) may be dead at different places; brought to the same places, they go.

A class of atoms is a *place*; what lies there, the weights of one channel in all tensors, is its *content*. Contents
change places within a *block*: places that occur in the same tensors, equally often, and that have the same coordinate
on every axis on which slices are told apart by something else (the group of a convolution, the head of a product).
A *unit* is a set of places that whole slices tie: it goes if all of its contents are dead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from compress.channels.factors import STAYS, coverage, on_axis
from compress.channels.graph import Array
from compress.channels.labels import Slices
from compress.channels.slices import slices_by_cells
from compress.channels.sweep import WHOLE_SLICES, minimal, needed, sliceable
from compress.channels.trace import Trace, once

Partition = tuple[tuple[int, ...], ...]


@once
def arrange(trace: Trace) -> Array | None:
    """Returns the place whose content is to come to each place, or None if no more could go than goes as it is.

    Shape: (atoms,); it maps classes to classes, within blocks.
    """
    dead, restored = minimal(trace)
    if all(one.reason != WHOLE_SLICES for one in restored):
        return None
    places = _Places(trace, needed(trace))
    if not (places.spread & ~places.alive & ~places.fixed).any():
        # Nothing that is dead could change places.
        return None
    source, _ = places.best()
    arranged, _ = sliceable(trace.labels, places.alive[source][places.classes])
    return source if arranged.sum() > dead.sum() else None


def moves(classes: Array, source: Array) -> Array:
    """Returns from which position each position of an axis gets its content.

    Args:
        classes: the class at each position. Shape: (size of the axis,).
        source: see `arrange`.
    """
    order = np.argsort(classes, kind="stable")
    ranked = classes[order]
    count = np.empty(len(classes), dtype=np.int64)  # how many positions before this one are of its class
    count[order] = np.arange(len(classes)) - np.searchsorted(ranked, ranked)
    return np.asarray(order[np.searchsorted(ranked, source[classes]) + count])


@dataclass(frozen=True)
class _Grid:
    """Places that cover two axes or more.

    Attributes:
        cells: atoms.
        slices: what goes with its slices.
        axes: along which slices of it could be brought together.
        partitions: the places of each slice, for each of these axes.
    """

    cells: Array
    slices: list[Slices]
    axes: tuple[int, ...]
    partitions: tuple[Partition, ...]

    def ties(self, partition: Partition) -> list[tuple[Array, Array]]:
        """Returns pairs of atoms that go together if the slices of a partition go."""
        axis = self.axes[self.partitions.index(partition)]
        first = self.cells
        for other in coverage(self.cells):
            first = first if other == axis else first.take([0], axis=other)
        beside = [on_axis(one.atoms, axis, first.ndim) for one in self.slices if one.axis == axis]
        return [(self.cells, first), *((atoms, first) for atoms in beside)]


class _Places:
    """The places of a graph.

    Args:
        trace: what is known of the graph.
        live: which atoms stay for themselves.
    """

    def __init__(self, trace: Trace, live: Array) -> None:
        self.trace = trace
        self.labels = trace.labels
        self.classes = self.labels.classes()
        self.alive = np.zeros(self.labels.atom_count, dtype=bool)
        self.alive[self.classes[live]] = True
        self.arrays = slices_by_cells(self.labels)

    def best(self) -> tuple[Array, int]:
        """Returns the arrangement that brings most dead contents together, and how many."""
        # Arrays of the same slices (a transposition, say) lose the same ones.
        kinds = {frozenset(grid.partitions): grid.partitions for grid in self.grids}
        choices = {kind: min(partitions, key=_by_size) for kind, partitions in kinds.items()}
        result = self._placed(choices)
        for kind, partitions in kinds.items():
            for partition in partitions:
                if partition != choices[kind]:
                    found = self._placed(choices | {kind: partition})
                    if found[1] > result[1]:
                        choices, result = choices | {kind: partition}, found
        return result

    @cached_property
    def blocks(self) -> Array:
        """The block of each class. Shape: (atoms,); numbers of no meaning."""
        block = np.where(self.fixed, 1 + np.arange(self.labels.atom_count), 0)
        for (_, slices), occurrences in zip(self.arrays, self.occurrences, strict=True):
            axes = sorted({one.axis for one in slices if not self._free(one)}) if occurrences else []
            for places, coordinates in occurrences:
                number = block[places]
                for told in coordinates[:, :, axes].reshape(places.size, -1).T:
                    number = _numbered(number * (told.max() + 1) + told)
                block[places] = block.max() + 1 + _numbered(number)
        return block

    @cached_property
    def fixed(self) -> Array:
        """Which classes cannot change places: they are pinned, or stand for slices. Shape: (atoms,), booleans."""
        labels = self.labels
        atoms = [np.array([STAYS]), *(pin.atoms for pin in labels.pins), *(one.atoms for one in labels.slices)]
        return self._marked(atoms)

    @cached_property
    def spread(self) -> Array:
        """Which classes are cells of several axes; no others can change places. Shape: (atoms,), booleans."""
        return self._marked([cells.reshape(-1) for cells, _ in self.arrays if len(coverage(cells)) > 1])

    def _marked(self, atoms: list[Array]) -> Array:
        """Returns which classes are those of some atoms. Shape: (atoms,), booleans."""
        found = np.zeros(self.labels.atom_count, dtype=bool)
        for some in atoms:
            found[self.classes[some]] = True
        return found

    @cached_property
    def reads(self) -> Counter[str]:
        """How often each tensor is read."""
        return Counter(name for node in self.trace.graph.nodes for name in (*node.inputs, *node.captured))

    @cached_property
    def grids(self) -> list[_Grid]:
        """The arrays of places among which some can change their coordinate."""
        found = []
        for (cells, slices), occurrences in zip(self.arrays, self.occurrences, strict=True):
            axes = tuple(self._varying(cells, occurrences)) if len(coverage(cells)) > 1 else ()
            if axes:
                slabs = [np.moveaxis(self.classes[cells], axis, 0).reshape(cells.shape[axis], -1) for axis in axes]
                parted = tuple(tuple(sorted(tuple(sorted(map(int, slab))) for slab in parts)) for parts in slabs)
                found.append(_Grid(cells, slices, axes, parted))
        return found

    @cached_property
    def occurrences(self) -> list[list[tuple[Array, Array]]]:
        """For each array, which places occur equally often, and where; those that cannot change are left out.

        Shapes: (places,), (places, times, axes of the array).
        """
        return [list(self._occurring(cells)) for cells, _ in self.arrays]

    def _occurring(self, cells: Array) -> Iterator[tuple[Array, Array]]:
        found = self.classes[cells].reshape(-1)
        among = np.flatnonzero(self.spread[found])
        if not among.size:
            return
        order = among[np.argsort(found[among], kind="stable")]
        present, start, count = np.unique(found[order], return_index=True, return_counts=True)
        where = np.stack(np.unravel_index(order, cells.shape), axis=-1)
        for times in np.flatnonzero(np.bincount(count)):
            alike = count == times
            yield present[alike], where[start[alike, None] + np.arange(times)]

    def _varying(self, cells: Array, occurrences: list[tuple[Array, Array]]) -> list[int]:
        """Returns the axes on which places of one block have several coordinates."""
        several = np.zeros(cells.ndim, dtype=bool)
        for places, coordinates in occurrences:
            _, first, number = np.unique(self.blocks[places], return_index=True, return_inverse=True)
            several |= (coordinates != coordinates[first][number.reshape(-1)]).any(axis=(0, 1))
        return np.flatnonzero(several).tolist()

    def _free(self, one: Slices) -> bool:
        """Tells whether cells can change places across slices: a weight that nobody else reads follows them."""
        graph = self.trace.graph
        held = one.weight in graph.constants and one.weight not in graph.outputs
        return held and self.reads[one.weight] == 1

    def _placed(self, choices: dict[frozenset[Partition], Partition]) -> tuple[Array, int]:
        """Returns the arrangement that fills units with dead contents, and how many these fill."""
        ties = [pair for grid in self.grids for pair in grid.ties(choices[frozenset(grid.partitions)])]
        units = self.labels.classes(extra=ties)
        source = np.arange(self.labels.atom_count)
        tied = np.unique(
            np.concatenate([self.classes[cells].reshape(-1) for pair in ties for cells in pair] or [source[:0]])
        )
        tied = tied[np.argsort(self.blocks[tied], kind="stable")]
        goes = np.isin(units[tied], list(self._chosen(tied, units)))
        dead, block = ~self.alive[tied], _numbered(self.blocks[tied])
        short = np.bincount(block, goes & ~dead).astype(np.int64)
        for one in np.flatnonzero(short):
            start, stop = np.searchsorted(block, (one, one + 1))
            places, going, gone = tied[start:stop], goes[start:stop], dead[start:stop]
            # The last of the dead contents that lie elsewhere fill up; all others keep their order.
            taken = gone & going
            taken[np.flatnonzero(gone & ~going)[-short[one] :]] = True
            source[places[going]], source[places[~going]] = places[taken], places[~taken]
        return source, int(goes.sum())

    def _chosen(self, tied: Array, units: Array) -> set[int]:
        """Returns units that the dead contents of all blocks suffice for: dead ones first, then from the last."""
        supply = Counter(self.blocks[tied[~self.alive[tied]]].tolist())
        members: dict[int, list[int]] = {}
        for place in tied.tolist():
            members.setdefault(int(units[place]), []).append(place)
        chosen = set()
        for unit in sorted(members, key=lambda u: (bool(self.alive[members[u]].any()), -u)):
            demand = Counter(self.blocks[members[unit]].tolist())
            if all(supply[block] >= count for block, count in demand.items()):
                supply.subtract(demand)
                chosen.add(unit)
        return chosen


def _numbered(values: Array) -> Array:
    """Returns small numbers, equal where values are. Shape: that of `values`."""
    return np.asarray(np.unique(values, return_inverse=True)[1].reshape(-1))


def _by_size(partition: Partition) -> tuple[int, Partition]:
    return len(partition[0]), partition
