"""Which channels can go because another one is a multiple of them, and what the weights that read them become.

Where a weight reads channels i and j, and j = r · i, W[:, i] + r · W[:, j] reads the same from i alone. Channel j goes
if every weight that reads it, in every tensor that it passes, reads such an i that stays.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from compress.channels.alike import Likeness
from compress.channels.arrange import arrange
from compress.channels.graph import Array
from compress.channels.kept import Kept
from compress.channels.readers import Reader, readers_of, units
from compress.channels.sweep import ALL_DEAD, needed, sweep
from compress.channels.trace import Trace, retraced

_ATTEMPTS = 12  # so often what turns out to stay is left out, before nothing is merged


@dataclass(frozen=True)
class Merging:
    """What can be merged.

    Attributes:
        readers: the weights that read channels of which one is a multiple of another.
        gone: the classes that go.
        weights: what the weights of some readers become.
    """

    readers: tuple[Reader, ...]
    gone: frozenset[int]
    weights: dict[str, Array]


def merging(known: Trace, likeness: Likeness, changeable: Collection[str] | None = None) -> Merging:
    """Finds what can be merged, and makes sure by a second sweep that it gains channels.

    Args:
        known: what is known of the graph.
        likeness: what is like what in it.
        changeable: the constants that may change; all if None.
    """
    readers = tuple(readers_of(known, likeness, changeable))
    candidates = {unit for reader in readers for unit in reader.units[_read(known, reader)].tolist()}
    if not candidates:
        return Merging(readers, frozenset(), {})
    unread = {reader.weight: _without(known, reader, reader.alike >= 0) for reader in readers}
    stays = _staying(retraced(known, unread), readers) & candidates
    dead = int(sweep(known).dead.sum())
    for _ in range(_ATTEMPTS):
        going = candidates - stays
        going -= _representatives(readers, stays, going)
        weights = {reader.weight: _merged(known, reader, going) for reader in readers}
        changed = {name: value for name, value in weights.items() if value is not None}
        if not changed:
            break
        after = retraced(known, changed)
        kept, aligned = sweep(after), arrange(after) is not None
        left = _staying(after, readers, None if aligned else kept) & going
        if not left:
            gains = aligned or int(kept.dead.sum()) > dead
            return Merging(readers, frozenset(going), changed) if gains else Merging(readers, frozenset(), {})
        stays |= left
    return Merging(readers, frozenset(), {})


def _representatives(readers: tuple[Reader, ...], stays: set[int], going: set[int]) -> set[int]:
    """Returns one class of each set of columns that are alike, where none of them stays anyway."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, reader in enumerate(readers):
        for group, column in np.argwhere(reader.alike >= 0).tolist():
            groups.setdefault((index, int(reader.alike[group, column])), []).append(int(reader.units[group, column]))
    count: dict[int, int] = {}
    for alike in groups.values():
        for unit in alike:
            count[unit] = count.get(unit, 0) + 1
    chosen: set[int] = set()
    for alike in groups.values():
        if not any(unit in stays or unit in chosen for unit in alike):
            chosen.add(max((unit for unit in alike if unit in going), key=lambda unit: (count[unit], -unit)))
    return chosen


def _merged(known: Trace, reader: Reader, going: set[int]) -> Array | None:
    """Returns a reader's weight with the columns of classes that go added to those of their likes that stay."""
    leaving = (reader.alike >= 0) & np.isin(reader.units, list(going))
    if not (leaving & _read(known, reader)).any():
        return None
    weight = np.moveaxis(known.graph.constants[reader.weight], reader.axis, 0)
    groups, width = reader.alike.shape
    # Columns first, then the rows of each group.
    parts = weight.astype(np.float64).reshape(width, groups, -1)
    staying = (reader.alike >= 0) & ~leaving
    where = {int(reader.alike[g, c]): c for g, c in np.argwhere(staying)[::-1].tolist()}
    for group, column in np.argwhere(leaving).tolist():
        into = where[int(reader.alike[group, column])]
        ratio = reader.columns.scales[group, column] / reader.columns.scales[group, into]
        parts[into, group] += ratio * parts[column, group]
        parts[column, group] = 0
    return np.moveaxis(parts.reshape(weight.shape), 0, reader.axis).astype(weight.dtype)


def _without(known: Trace, reader: Reader, columns: Array) -> Array:
    """Returns a reader's weight with some columns set to zero. Shape of `columns`: (groups, columns), booleans."""
    weight = np.moveaxis(known.graph.constants[reader.weight], reader.axis, 0)
    parts = weight.reshape(columns.shape[1], columns.shape[0], -1).copy()
    parts[columns.T] = 0
    return np.moveaxis(parts.reshape(weight.shape), 0, reader.axis)


def _read(known: Trace, reader: Reader) -> Array:
    """Returns which columns are alike others and not yet zero. Shape: (groups, columns), booleans."""
    weight = np.moveaxis(known.graph.constants[reader.weight], reader.axis, 0)
    nonzero = weight.reshape(reader.alike.shape[1], reader.alike.shape[0], -1).any(axis=2).T
    return np.asarray((reader.alike >= 0) & nonzero)


def _staying(after: Trace, readers: tuple[Reader, ...], kept: Kept | None = None) -> set[int]:
    """Returns the classes of what is read that stay, unless only because a tensor keeps one channel.

    Args:
        after: what is known once weights have changed.
        readers: with the classes that channels had before.
        kept: what remains; if None, channels that must be brought together before they can go count as gone.
    """
    classes = after.labels.classes()
    alive = np.zeros(len(classes), dtype=bool)
    alive[classes[needed(after)]] = True
    for one in kept.restored if kept is not None else ():
        alive[classes[one.atoms]] |= one.reason != ALL_DEAD
    found: set[int] = set()
    for reader in readers:
        now = units(after, reader.read)
        found |= set(reader.units[np.ones(reader.units.shape, dtype=bool) if now is None else alive[now]].tolist())
    return found
