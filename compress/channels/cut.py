"""What remains of the labels of a graph, and of cells, once channels have gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from compress.channels.factors import STAYS, Factors, coverage, some
from compress.channels.graph import Array, Graph
from compress.channels.kept import Kept
from compress.channels.labels import Labels, Pin, Slices
from compress.channels.trace import PARAMETER


class Cut:
    """What remains of factors and of cells.

    Args:
        kept: what remains.
        graph: that has nothing else.
        gains: constants that stand in place of others, which they are called after.

    Attributes:
        factors: what remains of those of each tensor.
        fits: whether all have the shapes that their tensors have in the graph, and cover the axes that they covered: an
            axis that can lose nothing more ties others in other ways.
    """

    def __init__(self, kept: Kept, graph: Graph, gains: Mapping[str, str]) -> None:
        self._kept = kept
        self._known = kept.trace
        self._graph = graph
        self._gains = gains
        self._factors: dict[int, Array] = {}
        self.factors: dict[str, Factors] = {}
        old = self._known.labels.factors
        cut = [self._cut(name, name, factors) for name, factors in old.items() if name in graph.shapes]
        shifted = [self._cut(new, name, old.get(name, ())) for new, name in gains.items()]
        spread = [coverage(self._of(one.cells)) == coverage(one.cells) for one in self._known.labels.slices]
        self.fits = all(cut + shifted + spread)

    def _cut(self, name: str, old: str, factors: Factors) -> bool:
        """Finds what remains of a tensor; tells whether that has the shape that the tensor has now."""
        now = self._graph.shapes[name]
        self.factors[name] = left = tuple([self._of(factor) for factor in factors]) if self._kept.axes(old) else factors
        # Two factors of one axis must have lost the same.
        same = all(part.shape[axis] == now[axis] for part in left for axis in coverage(part))
        covers = all(coverage(part) == coverage(factor) for part, factor in zip(left, factors, strict=True))
        return same and covers and self._kept.shape(old) == now

    def _of(self, factor: Array) -> Array:
        """Returns what remains of a factor, the same object each time."""
        found = self._factors.get(id(factor))
        if found is None:
            found = factor
            for axis, index in self._kept.left(factor).items():
                found = found.take(index, axis=axis)
            self._factors[id(factor)] = found
        return found

    def take(self, name: str, cells: Array) -> Array:
        """Returns what remains of a tensor's cells."""
        for axis, index in self._kept.axes(name).items():
            cells = cells.take(index, axis=axis) if cells.shape[axis] > 1 else cells
        return cells

    def labels(self, names: Mapping[str, str]) -> Labels:
        """Returns the labels: the same atoms; those that are no longer anywhere stay, which takes nothing away.

        How often a weight is used is as it was: who counts asks before a cut.

        Args:
            names: those of the nodes, by what they were.
        """
        old, graph = self._known.labels, self._graph
        slices: list[Slices] = []
        for one in old.slices:
            index = self._kept.left(one.cells).get(one.axis)
            atoms = one.atoms if index is None else one.atoms.take(index)
            slices.append(replace(one, cells=self._of(one.cells), atoms=atoms))
        present = np.zeros(old.atom_count, dtype=bool)
        present[STAYS] = True
        everywhere = {id(factor): factor for factors in self.factors.values() for factor in factors}
        beside = [atoms for one in slices for atoms in (one.cells, one.atoms)]
        for atoms in (*everywhere.values(), *beside):
            present[atoms] = True
        labels = old.tied_as(_smallest(old.classes(), present), graph)
        labels.factors, labels.slices = self.factors, slices
        own = {old: new for new, old in self._gains.items()} | {name: name for name in graph.shapes}
        labels.roles = {(own[name], axis): role for (name, axis), role in old.roles.items() if name in own}
        labels.reuse = {own[name]: times for name, times in old.reuse.items() if name in own}
        for pin in old.pins:
            still = present[pin.atoms]
            if some(still):
                labels.pins.append(Pin(pin.atoms[still], names.get(pin.node, pin.node), pin.reason))
        for node in graph.nodes:
            for name in node.inputs:
                # What a shape or an index has become is read as a whole, as that was.
                if name in graph.constants and name not in labels.factors:
                    for factor in labels.of(name):
                        labels.pin(factor, node, PARAMETER)
        return labels


def _smallest(classes: Array, present: Array) -> Array:
    """Returns for each atom that is present the smallest such of its class; for all others the one that stays."""
    atoms = np.flatnonzero(present)[::-1]
    first, found = np.zeros(classes.size, np.int64), np.full(classes.size, STAYS)
    first[classes[atoms]] = atoms
    found[atoms] = first[classes[atoms]]
    return found
