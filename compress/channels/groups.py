"""Channel groups: the units that pruning chooses from, as positions of named parameters.

A *unit* is the smallest set of positions that can go together: one channel, in every parameter that it passes. The
units that are produced side by side form a *group*; a share to prune is counted in groups.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from compress.channels.factors import STAYS, coverage
from compress.channels.graph import Array
from compress.channels.kept import Kept
from compress.channels.labels import Labels
from compress.channels.sweep import keep_only
from compress.channels.trace import Trace


@dataclass(frozen=True)
class Member:
    """One axis of one parameter that a group passes.

    Attributes:
        parameter: its name.
        axis: the axis.
        role: how it is used there: ``out`` (rows of a weight that produce the channels), ``in`` (columns that read
            them), ``scale``, ``shift``, ``mean``, ``variance``, or ``other``.
        unit: for each position of the axis, the number of its unit within the group; -1: of no unit of this group.
    """

    parameter: str
    axis: int
    role: str
    unit: Array


@dataclass(frozen=True)
class ChannelGroup:
    """Units that are produced side by side.

    Attributes:
        name: of the first parameter that produces them, without its last part.
        size: how many units.
        members: every axis of every parameter that they pass.
    """

    name: str
    size: int
    members: tuple[Member, ...]

    @property
    def producers(self) -> list[Member]:
        """The weights whose rows produce the units: more than one where a sum couples layers."""
        return [member for member in self.members if member.role == "out" and (member.unit >= 0).any()]


class Groups:
    """All groups of a network, and what a choice of units amounts to.

    Args:
        trace: of the network's graph.
        parameters: the names that count as parameters; other constants are part of the graph.

    Attributes:
        unit_of_atom: for each atom of the labels its unit, by a number of its own; 0: cannot go.
        roots: for each group these numbers of its units.
    """

    def __init__(self, trace: Trace, parameters: Collection[str]) -> None:
        self.trace = trace
        self.parameters = tuple(name for name in parameters if name in trace.graph.constants)
        self.unit_of_atom = _units(trace.labels)
        self.groups = tuple(self._find())
        self.offsets = np.concatenate([[0], np.cumsum([group.size for group in self.groups])]).astype(int)

    @property
    def size(self) -> int:
        """How many units there are in all groups."""
        return int(self.offsets[-1])

    def kept(self, keep: Array) -> Kept:
        """Returns what remains of every tensor if the units marked in `keep` (all groups in turn) remain."""
        unit = np.full(self.unit_of_atom.max(initial=0) + 1, True)
        for group, start in zip(self.roots, self.offsets[:-1], strict=True):
            unit[group] = keep[start : start + group.size]
        return keep_only(self.trace, unit[self.unit_of_atom])

    def split(self, values: Array) -> list[Array]:
        """Cuts an array over all units into one array a group."""
        return [values[a:b] for a, b in pairwise(self.offsets)]

    def _find(self) -> list[ChannelGroup]:
        labels = self.trace.labels
        axes = []
        for name in self.parameters:
            for factor in labels.of(name):
                if len(coverage(factor)) == 1:
                    axis = coverage(factor)[0]
                    axes.append((name, axis, self.unit_of_atom[factor.reshape(-1)]))
        produced = [(name, axis, unit) for name, axis, unit in axes if labels.roles.get((name, axis)) == "out"]
        self.roots: list[Array] = []
        found = []
        for family in _families([unit for _, _, unit in produced]):
            first = next(name for name, _, unit in produced if np.isin(unit, family).any())
            position = {int(unit): index for index, unit in enumerate(family)}
            members = tuple(
                Member(name, axis, labels.roles.get((name, axis), "other"), local)
                for name, axis, unit in axes
                if ((local := np.array([position.get(int(u), -1) for u in unit])) >= 0).any()
            )
            self.roots.append(family)
            found.append(ChannelGroup(first.rpartition(".")[0] or first, len(family), members))
        return found


def _units(labels: Labels) -> Array:
    """Returns the unit of each atom: its class, or 0 where it cannot go.

    Where a tensor carries channels over several axes (heads × dimensions), only whole slices can go: all atoms of a
    slice along its first axis are one unit.
    """
    ties = [factor for factors in labels.factors.values() for factor in factors if len(coverage(factor)) > 1]
    classes = labels.classes(extra=[(f, f.take([0], axis=a)) for f in ties for a in coverage(f)[1:]])
    pinned = np.zeros(labels.atom_count, dtype=bool)
    pinned[STAYS] = True
    for pin in labels.pins:
        pinned[pin.atoms] = True
    stuck = np.zeros(labels.atom_count, dtype=bool)
    stuck[classes[pinned]] = True
    return np.where(stuck[classes], STAYS, classes)


def _families(axes: list[Array]) -> list[Array]:
    """Joins units that are produced by one weight; returns the units of each family, ascending."""
    parent: dict[int, int] = {}

    def root(unit: int) -> int:
        while parent[unit] != unit:
            unit = parent[unit]
        return unit

    for units in axes:
        free = [int(unit) for unit in np.unique(units) if unit != STAYS]
        for unit in free:
            parent.setdefault(unit, unit)
        for unit in free[1:]:
            first, second = sorted((root(free[0]), root(unit)))
            parent[second] = first
    families: dict[int, list[int]] = {}
    for unit in sorted(parent):
        families.setdefault(root(unit), []).append(unit)
    return [np.asarray(family) for family in families.values()]
