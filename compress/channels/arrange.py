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

import numpy as np

from compress.channels.components import smallest_tied
from compress.channels.graph import Array
from compress.channels.places import Kind, Partition, Places, numbered
from compress.channels.sweep import WHOLE_SLICES, minimal, needed, sliceable
from compress.channels.trace import Trace, once


@once
def arrange(trace: Trace) -> Array | None:
    """Returns the place whose content is to come to each place, or None if no more could go than goes as it is.

    Shape: (atoms,); it maps classes to classes, within blocks.
    """
    dead, restored = minimal(trace)
    if all(one.reason != WHOLE_SLICES for one in restored):
        return None
    places, classes = Places(trace), trace.labels.classes()
    alive = places.marked([classes[needed(trace)]])
    if not (places.movable & ~alive).any():
        # Nothing that is dead could change places.
        return None
    source, _ = _best(places, alive)
    if (source == np.arange(source.size)).all():
        # What is dead lies together already.
        return None
    arranged, _ = sliceable(trace.labels, alive[source][classes])
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


def _best(places: Places, alive: Array) -> tuple[Array, int]:
    """Returns the arrangement that brings most dead contents together, and how many.

    Args:
        places: of the graph.
        alive: whether the content of each place stays for itself. Shape: (atoms,), booleans.
    """
    kinds = {grid.kind: grid.partitions for grid in places.grids}
    choices = {kind: min(partitions, key=_by_size) for kind, partitions in kinds.items()}
    result = _placed(places, alive, choices)
    for kind, partitions in kinds.items():
        for partition in partitions:
            if partition != choices[kind]:
                found = _placed(places, alive, choices | {kind: partition})
                if found[1] > result[1]:
                    choices, result = choices | {kind: partition}, found
    return result


def _placed(places: Places, alive: Array, choices: dict[Kind, Partition]) -> tuple[Array, int]:
    """Returns the arrangement that fills units with dead contents, and how many these fill."""
    ties = [pair for grid in places.grids for pair in grid.ties(choices[grid.kind])]
    units, source = smallest_tied(places.count, ties), np.arange(places.count)
    tied = np.flatnonzero(places.marked(some for pair in ties for some in pair))
    tied = tied[np.argsort(places.blocks[tied], kind="stable")]
    dead, block = ~alive[tied], numbered(places.blocks[tied])
    goes = filled(numbered(units[tied]), block, dead)
    short = np.bincount(block, goes & ~dead).astype(np.int64)
    for one in np.flatnonzero(short):
        start, stop = np.searchsorted(block, (one, one + 1))
        own, going, gone = tied[start:stop], goes[start:stop], dead[start:stop]
        # The last of the dead contents that lie elsewhere fill up; all others keep their order.
        taken = gone & going
        taken[np.flatnonzero(gone & ~going)[-short[one] :]] = True
        source[own[going]], source[own[~going]] = own[taken], own[~taken]
    return source, int(goes.sum())


def filled(units: Array, blocks: Array, dead: Array) -> Array:
    """Returns which places are of units that the dead contents of all blocks suffice for, taken from the last one on.

    Args:
        units: the unit of each place, a small number. Shape: (places,).
        blocks: its block, a small number. Shape: (places,).
        dead: whether its content is dead. Shape: (places,), booleans.

    Returns:
        Shape: (places,), booleans.
    """
    # Units that are dead already use up no other contents than their own.
    chosen = np.bincount(units, ~dead) == 0
    supply = np.bincount(blocks, dead & ~chosen[units])
    missing = np.bincount(units, supply[blocks] == 0) > 0
    open_ones = np.flatnonzero(~(chosen | missing)[units])
    members: dict[int, list[int]] = {}
    for unit, block in zip(units[open_ones].tolist(), blocks[open_ones].tolist(), strict=True):
        members.setdefault(unit, []).append(block)
    for unit in sorted(members, reverse=True):
        demand = Counter(members[unit])
        if all(supply[block] >= count for block, count in demand.items()):
            for block, count in demand.items():
                supply[block] -= count
            chosen[unit] = True
    return np.asarray(chosen[units])


def _by_size(partition: Partition) -> tuple[int, Partition]:
    return len(partition[0]), partition
