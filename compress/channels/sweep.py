"""Which channels nothing needs, and what every tensor looks like without them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compress.channels.graph import Array, Node, Shape
from compress.channels.labels import STAYS, Labels, Slices, coverage, on_axis
from compress.channels.rules.base import NodeEdit
from compress.channels.trace import Trace

ALL_DEAD = "a tensor keeps at least one channel"
WHOLE_SLICES = "only whole slices can go, and other channels of its slice are needed"


class Kept:
    """The positions of each tensor that remain.

    Args:
        trace: what is known of the graph.
        dead: for each atom, whether it goes.
        restored: atoms that nothing needs and that stay all the same, with the reason.
    """

    def __init__(self, trace: Trace, dead: Array, restored: Sequence[tuple[Array, str]] = ()) -> None:
        self.trace = trace
        self.dead = dead
        self.restored = tuple(restored)

    def mask(self, name: str, axis: int) -> Array:
        """Returns which positions of an axis remain. Shape: (size of the axis,)."""
        shape = self.trace.graph.shapes[name]
        axis %= len(shape)
        keep = np.ones(shape[axis], dtype=bool)
        for factor in self.trace.labels.of(name):
            if axis in coverage(factor):
                others = tuple(a for a in range(factor.ndim) if a != axis)
                keep &= ~self.dead[factor].all(axis=others)
        return keep

    def count(self, name: str, axis: int) -> int:
        """Returns how many positions of an axis remain."""
        return int(self.mask(name, axis).sum())

    def shape(self, name: str) -> Shape:
        """Returns a tensor's shape once the others are gone."""
        return tuple(self.count(name, axis) for axis in range(len(self.trace.graph.shapes[name])))

    def changed(self, name: str) -> bool:
        """Tells whether a tensor loses anything."""
        return any(bool(self.dead[factor].any()) for factor in self.trace.labels.of(name))

    def axes(self, name: str) -> dict[int, Array]:
        """Returns, for each axis that loses positions, the indices of those that remain."""
        if not self.changed(name):
            return {}
        masks = {axis: self.mask(name, axis) for axis in range(len(self.trace.graph.shapes[name]))}
        return {axis: np.flatnonzero(mask) for axis, mask in masks.items() if not mask.all()}

    def override(self, node: Node, index: int, where: Array, values: Array) -> NodeEdit | None:
        """Returns the edit that sets some entries of an integer input, be it a constant or computed."""
        if not where.any():
            return None
        constant = self.trace.constant(node.input(index))
        if constant is None:
            return NodeEdit(overrides={index: (where, values)})
        new = np.where(where, values, constant.reshape(-1))
        return None if (new == constant.reshape(-1)).all() else NodeEdit(inputs={index: new.astype(np.int64)})


def sweep(trace: Trace) -> Kept:
    """Finds the largest set of channels that no output needs and that can be cut out of every tensor.

    Returns:
        what remains; each axis keeps at least one position, and each layer that loses channels a multiple of
        `trace.round_to`.
    """
    kept = Kept(trace, *sliceable(trace.labels, needed(trace)))
    while trace.round_to > 1 and (revived := _rounded_up(kept)).size:
        alive = ~kept.dead
        alive[revived] = True
        dead, restored = sliceable(trace.labels, alive)
        kept = Kept(trace, dead, [*kept.restored, (revived, "rounding keeps it"), *restored])
    return kept


def _rounded_up(kept: Kept) -> Array:
    """Returns atoms that must come back so that each weight produces a multiple of `round_to` channels, or all."""
    found = [np.zeros(0, dtype=np.int64)]
    for (name, axis), role in kept.trace.labels.roles.items():
        mask = kept.mask(name, axis) if role == "out" else np.ones(0, dtype=bool)
        lacking = -int(mask.sum()) % kept.trace.round_to
        if lacking and not mask.all():
            gone = np.flatnonzero(~mask)[:lacking]
            for factor in kept.trace.labels.of(name):
                if axis in coverage(factor):
                    found.append(factor.take(gone, axis=axis).reshape(-1))
    return np.concatenate(found)


def keep_only(trace: Trace, live: Array) -> Kept:
    """Returns what remains if the atoms marked in `live`, and all that is tied to them, stay."""
    return Kept(trace, *sliceable(trace.labels, live.copy()))


def needed(trace: Trace) -> Array:
    """Returns which atoms stay for themselves: an output needs them, or they are pinned. Shape: (atoms,), booleans."""
    labels = trace.labels
    live = np.zeros(labels.atom_count, dtype=bool)
    live[STAYS] = True
    for pin in labels.pins:
        live[pin.atoms] = True
    for name, cells in trace.needs.items():
        for factor in labels.of(name):
            live[factor[_over(cells, factor)]] = True
    return live


def _over(cells: Array, factor: Array) -> Array:
    """Returns for each position of a factor whether any of the cells there is true."""
    others = tuple(axis for axis, size in enumerate(factor.shape) if size == 1)
    return np.broadcast_to(cells.any(axis=others, keepdims=True), factor.shape)


def sliceable(labels: Labels, live: Array) -> tuple[Array, list[tuple[Array, str]]]:
    """Shrinks the dead set until what goes is whole classes and whole slices, and no axis goes entirely.

    Args:
        labels: of the graph.
        live: which atoms stay for themselves.

    Returns:
        the dead atoms, and those that had to come back, with the reason.
    """
    classes = labels.classes()
    restored: list[tuple[Array, str]] = []
    tied = slices_by_cells(labels)
    while True:
        alive = np.zeros(labels.atom_count, dtype=bool)
        alive[classes[live]] = True
        dead = ~alive[classes]
        revived = [found for cells, slices in tied if (found := _not_sliceable(dead, cells, slices)) is not None]
        # Atoms beside slices live only by these, so what is dead as a whole is told apart at the end.
        revived = revived or [(cells.reshape(-1)[:1], ALL_DEAD) for cells, _ in tied if dead[cells].all()]
        if not revived:
            return dead, restored
        restored += revived
        live = ~dead
        for atoms, _ in revived:
            live[atoms] = True


def slices_by_cells(labels: Labels) -> list[tuple[Array, list[Slices]]]:
    """Returns every array of cells, once, with the atoms that go with slices of it.

    A factor passes many operators unchanged: it is one object, and appears once.
    """
    arrays = [factor for factors in labels.factors.values() for factor in factors]
    found: dict[int, tuple[Array, list[Slices]]] = {id(cells): (cells, []) for cells in arrays}
    for one in labels.slices:
        found.setdefault(id(one.cells), (one.cells, []))[1].append(one)
    return list(found.values())


def _not_sliceable(dead: Array, cells: Array, slices: list[Slices]) -> tuple[Array, str] | None:
    """Returns the atoms of or beside `cells` that must come back, and why; None if all that is dead can go."""
    axes, gone = coverage(cells), dead[cells]
    if len(axes) < 2 or not (gone.any() or slices):
        return None
    whole = {a: np.asarray(gone.all(axis=tuple(b for b in range(gone.ndim) if b != a))) for a in axes}
    for one in slices:
        whole[one.axis] = np.asarray(whole[one.axis] & dead[one.atoms])
    sliced = np.zeros(gone.shape, dtype=bool)
    for axis, goes in whole.items():
        sliced |= on_axis(goes, axis, gone.ndim)
    beside = [one.atoms[dead[one.atoms] & ~whole[one.axis]] for one in slices]
    stuck = np.concatenate([cells[gone & ~sliced], *beside])
    return (stuck, WHOLE_SLICES) if stuck.size else None
