"""Which channels can go because another one is a multiple of them, and what the weights that read them become.

Where a weight reads channels i and j, and j = r · i, W[:, i] + r · W[:, j] reads the same from i alone. Channel j goes
if every weight that reads it, in every tensor that it passes, reads such an i that stays.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from compress.channels.alike import Likeness, Read
from compress.channels.alike_cells import Cells
from compress.channels.arrange import arrange
from compress.channels.factors import coverage
from compress.channels.graph import Array
from compress.channels.multiples import normalised
from compress.channels.numbering import ONE
from compress.channels.sweep import ALL_DEAD, Kept, needed, sweep
from compress.channels.trace import Trace, retraced

_ATTEMPTS = 12  # so often what turns out to stay is left out, before nothing is merged


@dataclass(frozen=True)
class Reader:
    """A weight whose columns can be merged.

    Attributes:
        weight: its name.
        axis: along which its columns lie.
        read: one of the nodes that read with it.
        units: the class of each channel that is read. Shape: (groups, columns).
        columns: its cells, in all the nodes that use it at once. Shape: (groups, columns).
        alike: number of the columns that are multiples of one another, -1 for the others. Shape: (groups, columns).
    """

    weight: str
    axis: int
    read: Read
    units: Array
    columns: Cells
    alike: Array


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
    readers = tuple(_readers(known, likeness, changeable))
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


def _readers(known: Trace, likeness: Likeness, changeable: Collection[str] | None) -> list[Reader]:
    """Returns the weights of which all uses contract channels, and some of these are alike."""
    repeating = {read.weight for read in likeness.reads}
    for read in likeness.reads:
        if np.unique(read.columns.ids).size == read.columns.ids.size:
            repeating.discard(read.weight)
    if not repeating:
        return []
    uses: dict[str, int] = {}
    for node in known.graph.nodes:
        for name in (*node.inputs, *node.captured):
            uses[name] = uses.get(name, 0) + 1
    reads: dict[str, list[Read]] = {}
    for read in likeness.reads:
        if read.weight in repeating:
            reads.setdefault(read.weight, []).append(read)
    dead = sweep(known).dead
    found = []
    for name, sharing in reads.items():
        axis, shape = sharing[0].axis, sharing[0].columns.ids.shape
        same = all(read.axis == axis and read.columns.ids.shape == shape for read in sharing)
        if (
            not same
            or len(sharing) != uses[name]
            or name in known.graph.outputs
            or name not in (known.graph.constants if changeable is None else changeable)
            or name not in known.graph.constants
            or known.graph.constants[name].dtype.kind != "f"
        ):
            continue
        classes = units(known, sharing[0])
        if classes is None or (len(classes) > 1 and len(sharing) > 1):
            continue
        columns, constant = _together([read.columns for read in sharing], likeness)
        alike = _repeated(columns.ids, classes, ~constant & ~dead[classes])
        if (alike >= 0).any():
            found.append(Reader(name, axis, sharing[0], classes, columns, alike))
    return found


def units(known: Trace, read: Read) -> Array | None:
    """Returns the class of each channel that a weight reads, None where they have none of their own.

    Shape: (groups, channels of a group).
    """
    groups, width = read.columns.ids.shape
    # A column of a weight in groups stands for a channel of every group, so there the input says which it is.
    name, axis = (read.weight, read.axis) if groups == 1 else (read.node.input(0), 1)
    atoms = next((factor for factor in known.labels.of(name) if coverage(factor) == (axis,)), None)
    return None if atoms is None else np.asarray(known.labels.classes()[atoms.reshape(groups, width)])


def _together(parts: list[Cells], likeness: Likeness) -> tuple[Cells, Array]:
    """Returns what columns are in all uses of a weight at once, by group, and which are constant somewhere."""
    ids = np.stack([part.ids for part in parts], axis=-1)
    rows = np.stack([part.scales for part in parts], axis=-1)
    group = np.broadcast_to(np.arange(len(ids))[:, None, None], (*ids.shape[:2], 1))
    keys = np.concatenate([ids, group], axis=-1).reshape(ids.shape[0] * ids.shape[1], -1)
    shares, scales = normalised(rows.reshape(len(keys), -1))
    found = likeness.numbering.number("columns of one weight", keys, shares)
    shape = ids.shape[:2]
    return Cells(found.reshape(shape), scales.reshape(shape)), np.asarray((ids == ONE).any(axis=-1))


def _repeated(ids: Array, units: Array, eligible: Array) -> Array:
    """Returns the number of each column that is eligible and has a like in another class, -1 for the others."""
    ids = np.where(eligible, ids, -1)
    found, inverse = np.unique(ids, return_inverse=True)
    inverse = inverse.reshape(ids.shape)
    classes = np.unique(np.stack([inverse.reshape(-1), units.reshape(-1)]), axis=1)
    several = np.bincount(classes[0], minlength=len(found)) > 1
    return np.where((several & (found >= 0))[inverse], ids, -1)


def _representatives(readers: tuple[Reader, ...], stays: set[int], going: set[int]) -> set[int]:
    """Returns one class of each set of columns that are alike, where none of them stays anyway."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, reader in enumerate(readers):
        for group, column in np.argwhere(reader.alike >= 0).tolist():
            groups.setdefault((index, int(reader.alike[group, column])), []).append(int(reader.units[group, column]))
    count: dict[int, int] = {}
    for units in groups.values():
        for unit in units:
            count[unit] = count.get(unit, 0) + 1
    chosen: set[int] = set()
    for units in groups.values():
        if not any(unit in stays or unit in chosen for unit in units):
            chosen.add(max((unit for unit in units if unit in going), key=lambda unit: (count[unit], -unit)))
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
