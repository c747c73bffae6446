"""Which channel stays where a tensor would lose all: the one that leaves the fewest numbers in the constants.

What is the last of one tensor may be the last of others too, or bring back whole slices of yet another: it is found by
trying, among channels that lie differently, with a bounded effort; what no longer is tried follows a rule of thumb.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from compress.channels.factors import coverage
from compress.channels.graph import Array
from compress.channels.labels import Labels
from compress.channels.slices import slices_by_cells, spread_cells, whole_slices

_Kind = tuple[tuple[int, int], ...]  # where a class lies: arrays, and positions in them
_TRIED = 16  # so many channels are tried as the last of a tensor
_EFFORT = 1 << 22  # so many cells are looked at in all


class Lasts:
    """The choices of last channels in a graph.

    Args:
        labels: of the graph.
    """

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.classes = labels.classes()
        self.tied = slices_by_cells(labels)
        self.spread = spread_cells(self.tied)
        self._kinds: dict[int, _Kind] = {}

    @cached_property
    def arrays(self) -> list[Array]:
        """The arrays of cells, the smallest first: what is the last one of a part is one of the whole as well."""
        return sorted((cells for cells, _ in self.tied), key=lambda cells: cells.size)

    @cached_property
    def _effort(self) -> int:
        """How many channels may still be tried."""
        return _EFFORT // max(1, sum(cells.size for cells in self.arrays))

    def empty(self, dead: Array) -> list[Array]:
        """Returns the arrays of cells that lose all."""
        if not dead.any():
            return []
        atoms, starts = self._atoms
        lost = np.logical_and.reduceat(dead[atoms], starts).tolist()
        return [cells for cells, goes in zip(self.arrays, lost, strict=True) if goes]

    def best(self, choices: Sequence[Array], live: Array) -> int:
        """Returns an atom of the first choice, or else of the first array that loses all, that should stay.

        Args:
            choices: atoms of which one has to stay; none of them does yet.
            live: which atoms stay.
        """
        dead, _ = whole_slices(self.spread, self.classes, live)
        candidates = self._candidates([*(atoms for atoms in choices if dead[atoms].all()), *self.empty(dead)])
        if len(candidates) == 1 or self._effort <= 0:
            return candidates[0]
        return self._cheapest(choices, live)[1]

    def _cheapest(self, choices: Sequence[Array], live: Array) -> tuple[int, int]:
        """Returns how many numbers remain at best, and the atom to keep first; -1 if none has to be."""
        dead, _ = whole_slices(self.spread, self.classes, live)
        missing = [*(atoms for atoms in choices if dead[atoms].all()), *self.empty(dead)]
        if not missing:
            return self._numbers(dead), -1
        found: list[tuple[int, int]] = []
        for atom in self._candidates(missing):
            if found and self._effort <= 0:
                break
            self._effort -= 1
            with_it = ~dead
            with_it[atom] = True
            found.append((self._cheapest(choices, with_it)[0], atom))
        return min(found, key=lambda one: one[0])

    def _candidates(self, missing: Sequence[Array]) -> list[int]:
        """Returns atoms of the first array that lie differently, those first that serve most of the others."""
        classes, first = self.classes, missing[0].reshape(-1)
        serves = np.zeros(classes.size, dtype=np.int64)
        for atoms in missing:
            serves[np.unique(classes[atoms])] += 1
        ranked = first[np.lexsort((np.bincount(classes)[classes[first]], -serves[classes[first]]))]
        if len(ranked) == 1:
            return [int(ranked[0])]
        found: dict[_Kind, int] = {}
        for atom, kind in zip(ranked.tolist(), self._kinds_of(classes[ranked].tolist()), strict=True):
            found.setdefault(kind, atom)
        return list(found.values())[:_TRIED]

    def _kinds_of(self, classes: list[int]) -> list[_Kind]:
        """Returns in which arrays each class lies, and where in them; see `_held`."""
        new = [one for one in dict.fromkeys(classes) if one not in self._kinds]
        if new:
            wanted = np.zeros(self.classes.size, dtype=bool)
            wanted[new] = True
            held, arrays, positions = self._held
            among = np.flatnonzero(wanted[held])
            lie: dict[int, list[tuple[int, int]]] = {one: [] for one in new}
            where = zip(arrays[among].tolist(), positions[among].tolist(), strict=True)
            for one, there in zip(held[among].tolist(), where, strict=True):
                lie[one].append(there)
            self._kinds.update((one, tuple(places)) for one, places in lie.items())
        return [self._kinds[one] for one in classes]

    @cached_property
    def _atoms(self) -> tuple[Array, Array]:
        """The atoms of all arrays, and where each array starts."""
        starts = np.cumsum([0, *(cells.size for cells in self.arrays[:-1])])
        return np.concatenate([cells.reshape(-1) for cells in self.arrays]), starts

    @cached_property
    def _held(self) -> tuple[Array, Array, Array]:
        """The class of every cell of all arrays, which array that is, and where in it; shape of each: (cells,).

        Where slices are cut, it matters where a channel lies; else only how often it occurs: then it is -1.
        """
        classes, arrays, positions = [], [], []
        for index, (cells, slices) in enumerate(self.tied):
            apart = bool(slices) or len(coverage(cells)) > 1
            for atoms in (cells, *(one.atoms for one in slices)):
                classes.append(self.classes[atoms.reshape(-1)])
                arrays.append(np.full(atoms.size, index))
                positions.append(np.arange(atoms.size) if apart else np.full(atoms.size, -1))
        return np.concatenate(classes), np.concatenate(arrays), np.concatenate(positions)

    def _numbers(self, dead: Array) -> int:
        """Returns how many numbers the constants hold once atoms are gone."""
        atoms, starts, owners, sizes = self._constants
        if not starts.size:
            return 0
        left = np.add.reduceat((~dead[atoms]).astype(np.int64), starts)
        found = sizes.copy()
        np.multiply.at(found, owners, left)
        return int(found.sum())

    @cached_property
    def _constants(self) -> tuple[Array, Array, Array, Array]:
        """All atoms along axes of constants, where each axis starts, whose it is, and the product of other axes."""
        graph, atoms = self.labels.graph, [np.zeros(0, np.int64)]
        owners: list[int] = []
        sizes: list[int] = []
        for name in graph.constants:
            size = int(np.prod(graph.shapes[name]))
            for factor in self.labels.of(name):
                if len(coverage(factor)) == 1:
                    atoms.append(factor.reshape(-1))
                    owners.append(len(sizes))
                    size //= factor.size
            sizes.append(size)
        starts = np.cumsum([0, *(part.size for part in atoms[1:])])[:-1] if len(atoms) > 1 else np.zeros(0, np.int64)
        return np.concatenate(atoms), starts, np.asarray(owners, np.int64), np.asarray(sizes, np.int64)
