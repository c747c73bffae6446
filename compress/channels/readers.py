"""The weights that read channels of which one is a multiple of another."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from compress.channels.alike import Likeness, Read
from compress.channels.alike_cells import Cells
from compress.channels.factors import STAYS, coverage, some
from compress.channels.graph import Array
from compress.channels.multiples import normalised
from compress.channels.numbering import ONE
from compress.channels.sweep import sweep
from compress.channels.trace import Trace


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


def read_by_weights(known: Trace, changeable: Collection[str]) -> list[str]:
    """Returns what nodes make of channels that they read with a weight that can change, if some of these can go.

    Args:
        known: what is known of the graph.
        changeable: the constants that may change.
    """
    labels, classes = known.labels, known.labels.classes()
    free = np.ones(labels.atom_count, dtype=bool)
    for atoms in (np.array([STAYS]), *(pin.atoms for pin in labels.pins)):
        free[classes[atoms]] = False
    found: list[str] = []
    for node in known.graph.nodes:
        if known.rule(node).multiplies and any(_changes(known, name, changeable) for name in node.inputs[1:]):
            read = labels.of(node.input(0))
            found += node.outputs if any(some(free[classes[factor]]) for factor in read) else ()
    return found


def readers_of(known: Trace, likeness: Likeness, changeable: Collection[str] | None) -> list[Reader]:
    """Returns the weights of which all uses contract channels, and some of these are alike."""
    apart = {read.weight for read in likeness.reads if not _repeats(read.columns.ids)}
    reads: dict[str, list[Read]] = {}
    for read in likeness.reads:
        if read.weight not in apart:
            reads.setdefault(read.weight, []).append(read)
    if not reads:
        return []
    dead, among = sweep(known).dead, known.graph.constants if changeable is None else changeable
    found = []
    for name, sharing in reads.items():
        axis, shape = sharing[0].axis, sharing[0].columns.ids.shape
        same = all(read.axis == axis and read.columns.ids.shape == shape for read in sharing)
        if not same or not _changes(known, name, among) or len(sharing) != known.uses(name):
            continue
        classes = units(known, sharing[0])
        if classes is None or (len(classes) > 1 and len(sharing) > 1):
            continue
        columns, constant = _together([read.columns for read in sharing], likeness)
        alike = _repeated(columns.ids, classes, ~constant & ~dead[classes])
        if (alike >= 0).any():
            found.append(Reader(name, axis, sharing[0], classes, columns, alike))
    return found


def _changes(known: Trace, name: str, changeable: Collection[str]) -> bool:
    """Tells whether a constant can be changed by what is merged."""
    value = known.graph.constants.get(name) if name in changeable and name not in known.graph.outputs else None
    return value is not None and value.dtype.kind == "f"


def units(known: Trace, read: Read) -> Array | None:
    """Returns the class of each channel that a weight reads, None where they have none of their own.

    Shape: (groups, channels of a group).
    """
    groups, width = read.columns.ids.shape
    # A column of a weight in groups stands for a channel of every group, so there the input says which it is.
    name, axis = (read.weight, read.axis) if groups == 1 else (read.node.input(0), 1)
    atoms = next((factor for factor in known.labels.of(name) if coverage(factor) == (axis,)), None)
    return None if atoms is None else np.asarray(known.labels.classes()[atoms.reshape(groups, width)])


def _repeats(ids: Array) -> bool:
    """Tells whether a group reads an id twice that is not constant. Shape: (groups, channels of a group)."""
    ordered = np.sort(ids, axis=1)
    return some((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != ONE))


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
