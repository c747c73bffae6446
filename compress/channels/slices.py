"""What can be cut out of cells that are spread over several axes: whole slices."""

from __future__ import annotations

import numpy as np

from compress.channels.factors import coverage, on_axis
from compress.channels.graph import Array
from compress.channels.labels import Labels, Slices

Tied = list[tuple[Array, list[Slices]]]


def slices_by_cells(labels: Labels) -> Tied:
    """Returns every array of cells, once, with the atoms that go with slices of it.

    A factor passes many operators unchanged: it is one object, and appears once.
    """
    arrays = [factor for factors in labels.factors.values() for factor in factors]
    found: dict[int, tuple[Array, list[Slices]]] = {id(cells): (cells, []) for cells in arrays}
    for one in labels.slices:
        found.setdefault(id(one.cells), (one.cells, []))[1].append(one)
    return list(found.values())


def _not_sliceable(dead: Array, cells: Array, slices: list[Slices]) -> Array:
    """Returns the atoms of or beside `cells` that must come back so that what is dead is whole slices.

    Args:
        dead: for each atom, whether it goes.
        cells: atoms that cover several axes.
        slices: what goes with slices of them.
    """
    gone = dead[cells]
    if not gone.any():
        # No slice is whole.
        return np.concatenate([cells[:0].reshape(-1), *(one.atoms[dead[one.atoms]] for one in slices)])
    axes = coverage(cells)
    whole = {a: np.asarray(gone.all(axis=tuple(b for b in range(gone.ndim) if b != a))) for a in axes}
    for one in slices:
        whole[one.axis] = np.asarray(whole[one.axis] & dead[one.atoms])
    sliced = np.zeros(gone.shape, dtype=bool)
    for axis, goes in whole.items():
        sliced |= on_axis(goes, axis, gone.ndim)
    beside = [one.atoms[dead[one.atoms] & ~whole[one.axis]] for one in slices]
    return np.concatenate([cells[gone & ~sliced], *beside])


def spread_cells(tied: Tied) -> Tied:
    """Returns the arrays that cover several axes: of a single axis any position is a slice."""
    return [(cells, slices) for cells, slices in tied if len(coverage(cells)) > 1]


def whole_slices(spread: Tied, classes: Array, live: Array) -> tuple[Array, list[tuple[Array, Array]]]:
    """Shrinks the dead set to whole classes and whole slices.

    Args:
        spread: arrays of cells that cover several axes, with what goes with slices of them.
        classes: of the atoms. Shape: (atoms,).
        live: which atoms stay. Shape: (atoms,), booleans.

    Returns:
        which atoms go, and (cells, atoms) that had to come back.
    """
    restored: list[tuple[Array, Array]] = []
    while True:
        alive = np.zeros(classes.size, dtype=bool)
        alive[classes[live]] = True
        dead = ~alive[classes]
        revived = [(cells, stuck) for cells, slices in spread if (stuck := _not_sliceable(dead, cells, slices)).size]
        if not revived:
            return dead, restored
        restored += revived
        live = ~dead
        for _, atoms in revived:
            live[atoms] = True
