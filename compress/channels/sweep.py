"""Which channels nothing needs."""

from __future__ import annotations

import numpy as np

from compress.channels.factors import STAYS, coverage
from compress.channels.graph import Array
from compress.channels.kept import Kept, Restored
from compress.channels.labels import Labels
from compress.channels.lasts import Lasts
from compress.channels.slices import whole_slices
from compress.channels.trace import Trace, once
from compress.channels.widths import MINIMAL, sites

ALL_DEAD = "a tensor keeps at least one channel"
WHOLE_SLICES = "only whole slices can go, and other channels of its slice are needed"
ROUNDED = "rounding keeps them"


@once
def sweep(trace: Trace) -> Kept:
    """Finds the largest set of channels that no output needs and that can be cut out of every tensor.

    Returns:
        what remains; each axis keeps at least one position, and each layer that loses channels as many as
        `trace.widths` wants.
    """
    kept = Kept(trace, *minimal(trace))
    while trace.widths != MINIMAL and (revived := _widened(kept)):
        alive = ~kept.dead
        for one in revived:
            alive[one.atoms] = True
        dead, restored = sliceable(trace.labels, alive)
        kept = Kept(trace, dead, [*kept.restored, *revived, *restored])
    return kept


def _widened(kept: Kept) -> list[Restored]:
    """Returns atoms that must come back so that each site is as wide as the policy wants it."""
    labels = kept.trace.labels
    classes, touched = labels.classes(), np.zeros(labels.atom_count, dtype=bool)
    found = []
    for site in sites(kept.trace):
        mask = kept.mask(site.weight, site.axis)
        gone, living = np.flatnonzero(~mask), int(mask.sum())
        lacking = kept.trace.widths.kept(site, living, mask.size) - living if gone.size else 0
        covering = [factor for factor in labels.of(site.weight) if site.axis in coverage(factor)] if lacking else []
        # What comes back for one site may be what another one lacks: that is seen in the next round.
        if any(touched[classes[factor.take(gone, axis=site.axis)]].any() for factor in covering):
            continue
        for factor in covering:
            atoms = factor.take(gone[:lacking], axis=site.axis).reshape(-1)
            touched[classes[atoms]] = True
            found.append(Restored(atoms, ROUNDED, site.weight))
    return found


@once
def minimal(trace: Trace) -> tuple[Array, list[Restored]]:
    """Returns the dead atoms, whatever widths are wanted, and those that had to come back; see `sliceable`."""
    return sliceable(trace.labels, needed(trace))


def keep_only(trace: Trace, live: Array) -> Kept:
    """Returns what remains if the atoms marked in `live`, and all that is tied to them, stay."""
    return Kept(trace, *sliceable(trace.labels, live.copy()))


@once
def needed(trace: Trace) -> Array:
    """Returns which atoms stay for themselves: an output needs them, or they are pinned. Shape: (atoms,), booleans."""
    labels = trace.labels
    live = np.zeros(labels.atom_count, dtype=bool)
    live[STAYS] = True
    for pin in labels.pins:
        live[pin.atoms] = True
    for name, cells in trace.needs.items():
        for factor in labels.of(name):
            live[factor[over(cells, factor)]] = True
    choices = [
        factor.reshape(-1)[positions]
        for name, axis, positions in trace.choices
        for factor in labels.of(name)
        if coverage(factor) == (axis,)
    ]
    lasts = Lasts(labels) if choices else None
    while lasts is not None:
        dead, _ = whole_slices(lasts.spread, lasts.classes, live)
        choices = [atoms for atoms in choices if dead[atoms].all()]
        if not choices:
            break
        live[lasts.best(choices, live)] = True
    return live


def over(cells: Array, factor: Array) -> Array:
    """Returns for each position of a factor whether any of the cells there is true."""
    others = tuple([axis for axis, size in enumerate(factor.shape) if size == 1 != cells.shape[axis]])
    found = np.asarray(cells.any(axis=others, keepdims=True)) if others else cells
    return found if found.shape == factor.shape else np.broadcast_to(found, factor.shape)


def sliceable(labels: Labels, live: Array) -> tuple[Array, list[Restored]]:
    """Shrinks the dead set until what goes is whole classes and whole slices, and no axis goes entirely.

    Args:
        labels: of the graph.
        live: which atoms stay for themselves.

    Returns:
        the dead atoms, and those that had to come back.
    """
    lasts = Lasts(labels)
    back: list[tuple[Array, Array, str]] = []  # cells, those of their atoms that had to come back, why
    while True:
        dead, stuck = whole_slices(lasts.spread, lasts.classes, live)
        back += [(cells, atoms, WHOLE_SLICES) for cells, atoms in stuck]
        empty = lasts.empty(dead)
        if not empty:
            names = _first_holders(labels) if back else {}
            return dead, [Restored(atoms, reason, names[id(cells)]) for cells, atoms, reason in back]
        live = ~dead
        last = lasts.best([], live)
        back.append((empty[0], np.array([last]), ALL_DEAD))
        live[last] = True


def _first_holders(labels: Labels) -> dict[int, str]:
    """Returns the first tensor that has an array of cells, by its identity; for cells beside tensors a weight."""
    beside = {id(one.cells): one.weight for one in labels.slices}
    held = [(id(factor), name) for name, factors in labels.factors.items() for factor in factors]
    return beside | dict(reversed(held))
