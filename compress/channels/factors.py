"""Factors: what positions of a tensor are called, so that operators can say which stand or fall together.

A *factor* of a tensor is an integer array of the tensor's rank. Axes that it covers have their full size, the others
size 1; its entries are *atoms*. A position of the tensor goes if the atom of any of its factors there goes. An axis
that no factor covers can lose nothing.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from compress.channels.graph import Array, Shape

STAYS = 0  # the atom that always stays
_FEW_PLACES = 64
Factors = tuple[Array, ...]


def coverage(factor: Array) -> tuple[int, ...]:
    """Returns the axes that a factor covers."""
    return longer(factor.shape)


def covered(factor: Array) -> frozenset[int]:
    """Returns the axes that a factor covers, as a set."""
    return longer_set(factor.shape)


@lru_cache(maxsize=1024)
def longer_set(shape: Shape) -> frozenset[int]:
    """Returns the axes of more than one position, as a set."""
    return frozenset(longer(shape))


@lru_cache(maxsize=1024)
def longer(shape: Shape) -> tuple[int, ...]:
    """Returns the axes of more than one position."""
    return tuple([axis for axis, size in enumerate(shape) if size > 1])


def on_axis(atoms: Array, axis: int, rank: int) -> Array:
    """Returns 1-D atoms as a factor of a tensor of `rank` axes."""
    return atoms.reshape(_only(axis, atoms.size, rank))


def as_factors(*factors: Array) -> Factors:
    """Returns those of `factors` that cover an axis and hold an atom that can go."""
    return tuple([factor for factor in factors if factor.size > 1 and some(factor)])


def some(cells: Array) -> bool:
    """Tells whether any entry is not zero; on the few entries that most arrays have, much faster than `any`."""
    return bool(np.count_nonzero(cells))


def every(cells: Array) -> bool:
    """Tells whether no entry is zero."""
    return bool(np.count_nonzero(cells) == cells.size)


def any_behind(cells: Array, axes: int) -> Array:
    """Returns whether any cell is true for each position of the first `axes` axes."""
    front, places = cells.shape[:axes], math.prod(cells.shape[axes:])
    if places == 1:
        return cells.reshape(front)
    rows = cells.reshape(math.prod(front), places)
    # Along short axes, as kernels have, `any` is slow.
    found = rows.any(axis=1) if places > _FEW_PLACES else np.ascontiguousarray(rows.T).any(axis=0)
    return np.asarray(found.reshape(front))


def padded_shape(shape: Shape, rank: int) -> Shape:
    """Returns a shape with as many axes of size 1 in front as it lacks."""
    return (1,) * (rank - len(shape)) + shape


def ascending(atoms: Array) -> bool:
    """Tells whether atoms stand in their order, none of them twice: most are new ones."""
    return every(atoms[1:] > atoms[:-1])


@lru_cache(maxsize=1024)
def _only(axis: int, size: int, rank: int) -> Shape:
    shape = [1] * rank
    shape[axis % rank] = size
    return tuple(shape)
