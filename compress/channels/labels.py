"""Labels: which positions of which tensors stand or fall together.

A tensor starts with one factor for each of its axes (weights), or none (graph inputs); shape operators are applied to
the factors themselves. Atoms that must go together are *unified*; connected components are the *classes*.

Where channels are spread over several axes (heads × dimensions, groups × channels of a group), only whole slices can
go. Atoms that go exactly where such a slice goes are tied to it as `Slices`: they say nothing of its single cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compress.channels.components import smallest_tied
from compress.channels.factors import (
    STAYS,
    Factors,
    as_factors,
    ascending,
    coverage,
    covered,
    every,
    longer,
    on_axis,
    some,
)
from compress.channels.graph import Array, Graph, Node


@dataclass(frozen=True)
class Pin:
    """Why atoms must stay, some of them named repeatedly: the node that says so, and its reason."""

    atoms: Array
    node: str
    reason: str


@dataclass(frozen=True)
class Slices:
    """Atoms each of which goes exactly where a whole slice of cells goes.

    Attributes:
        cells: atoms that cover two axes or more.
        axis: across which the slices lie.
        atoms: one for each slice.
        weight: name of a weight W[rows, slices, …] whose rows fall into as many blocks as `cells` has rows, each block
            reading its own row: cells can change places along `axis`, in each row differently. ``""``: they cannot.
    """

    cells: Array
    axis: int
    atoms: Array
    weight: str = ""


class Labels:
    """The factors of every tensor of a graph, and what ties their atoms together.

    Args:
        graph: the graph.
        spread: whether slices of channels that are spread over several axes may go where an operator works on one of
            these axes. If not, they all stay there: a module that names its groups and heads could not follow.
    """

    def __init__(self, graph: Graph, *, spread: bool = False) -> None:
        self.graph = graph
        self.spread = spread
        self.factors: dict[str, Factors] = {}
        self.roles: dict[tuple[str, int], str] = {}
        self.reuse: dict[str, int] = {}
        self.pins: list[Pin] = []
        self.slices: list[Slices] = []
        self.asked: set[str] = set()
        self._edges: list[tuple[Array, Array]] = []
        self._count = 1
        self._distinct: dict[int, bool] = {}
        self._classes = (0, 0, np.zeros(0, dtype=np.int64))  # of so many atoms and edges

    @property
    def atom_count(self) -> int:
        """How many atoms there are, the one that stays included."""
        return self._count

    def fresh(self, size: int) -> Array:
        """Returns `size` new atoms."""
        atoms = np.arange(self._count, self._count + size)
        self._count += size
        return atoms

    def of(self, name: str) -> Factors:
        """Returns a tensor's factors; a constant seen for the first time gets one for each of its axes."""
        self.asked.add(name)
        found = self.factors.get(name)
        if found is None:
            shape = self.graph.shapes.get(name, ()) if name in self.graph.constants else ()
            found = tuple([on_axis(self.fresh(shape[axis]), axis, len(shape)) for axis in longer(shape)])
            self.factors[name] = found
        return found

    def distinct(self, factor: Array) -> bool:
        """Tells whether no atom occurs twice in a factor of a tensor."""
        found = self._distinct.get(id(factor))
        if found is None:
            atoms = factor.reshape(-1)
            found = self._distinct[id(factor)] = ascending(atoms) or np.unique(atoms).size == atoms.size
        return found

    def tied_as(self, classes: Array, graph: Graph) -> Labels:
        """Returns labels without factors over the same atoms, tied as `classes` says. Shape: (atoms,)."""
        found = Labels(graph, spread=self.spread)
        found._count = self._count
        found._edges.append((np.arange(self._count), classes))
        return found

    def producing_axes(self) -> dict[str, int]:
        """Returns, for each weight that produces channels, the axis that does."""
        found: dict[str, int] = {}
        for (name, axis), role in self.roles.items():
            if role == "out":
                found.setdefault(name, axis)
        return found

    def axis(self, name: str, axis: int, node: Node, role: str | None = None) -> Array:
        """Returns the atoms along one axis, as a 1-D array; zeros where nothing can go.

        A factor that covers this axis together with others loses whole slices of this axis, or nothing.
        """
        shape = self.graph.shapes[name]
        axis %= len(shape)
        if role is not None:
            self.roles[(name, axis)] = role
        found: Array | None = None
        for factor in self.of(name):
            axes = coverage(factor)
            if axis not in axes:
                continue
            if len(axes) == 1:
                own = factor.reshape(-1)
                self.unify(found, own, node)
            else:
                reason = "its channels are spread over several axes here"
                own = self.sliced(factor, axis, node, reason)
                self.hold(factor, tuple(a for a in axes if a != axis), node, reason)
                if not self.spread:
                    continue
                self.unify(found, own, node)
            found = own if found is None else found
        return np.zeros(shape[axis], dtype=np.int64) if found is None else found

    def pin_axes(self, name: str, axes: tuple[int, ...], node: Node, reason: str) -> None:
        """Pins every factor of a tensor that covers one of `axes`."""
        for factor in self.of(name):
            if not covered(factor).isdisjoint(axes):
                self.pin(factor, node, reason)

    def sliced(self, cells: Array, axis: int, node: Node, reason: str) -> Array:
        """Returns atoms that go with the slices of `cells` along an axis; if these may not go, zeros, and a pin."""
        if coverage(cells) == (axis,):
            return cells.reshape(-1)
        if not self.spread:
            self.pin(cells, node, reason)
            return np.zeros(cells.shape[axis], dtype=np.int64)
        atoms = self.fresh(cells.shape[axis])
        self.tie_slices(cells, axis, atoms, node)
        return atoms

    def tie_slices(self, cells: Array, axis: int, atoms: Array, node: Node, weight: str = "") -> None:
        """Makes each of `atoms` go where the slice of `cells` along an axis goes; see `Slices`."""
        if self.spread and len(coverage(cells)) > 1:
            self.slices.append(Slices(cells, axis, atoms, weight))
        else:
            self.unify(cells, on_axis(atoms, axis, cells.ndim), node)

    def hold(self, cells: Array, axes: tuple[int, ...], node: Node, reason: str) -> None:
        """Makes all positions of some axes stay; along the others, slices of `cells` may still go."""
        held = set(coverage(cells)) & set(axes)
        if held and (not self.spread or held == set(coverage(cells))):
            self.pin(cells, node, reason)
            return
        for axis in sorted(held):
            self.tie_slices(cells, axis, np.zeros(cells.shape[axis], dtype=np.int64), node)

    def reduced(self, factor: Array, axes: tuple[int, ...], node: Node, reason: str) -> Factors:
        """Returns the factors, of unchanged rank, that remain of one where `axes` are summed over.

        Args:
            factor: of the tensor that is reduced; it covers one of the axes at least.
            axes: that are reduced.
            node: the operator.
            reason: for a pin, where slices may not go.
        """
        others = [axis for axis in coverage(factor) if axis not in axes]
        atoms = [(axis, self.sliced(factor, axis, node, reason)) for axis in others]
        return as_factors(*(on_axis(found, axis, factor.ndim) for axis, found in atoms))

    def pin(self, atoms: Array, node: Node, reason: str) -> None:
        """Makes atoms stay."""
        found = atoms.reshape(-1)
        if not every(found):
            found = found[found != STAYS]
        self.pins.append(Pin(found, node.name, reason))

    def unify(self, first: Array | None, second: Array | None, node: Node) -> None:
        """Makes atoms of two arrays of one (broadcast) shape go together; one beside atom 0 stays."""
        if first is None or second is None:
            return
        if first.shape != second.shape:
            first, second = np.broadcast_arrays(first, second)
        a, b = first.reshape(-1), second.reshape(-1)
        if not (every(a) and every(b)):
            for mine, other in ((a, b), (b, a)):
                beside = mine[(other == STAYS) & (mine != STAYS)]
                if beside.size:
                    self.pin(beside, node, "combined with values whose channels cannot go")
            both = (a != STAYS) & (b != STAYS)
            a, b = a[both], b[both]
        apart = a != b
        if every(apart):
            self._edges.append((a, b))
        elif some(apart):
            self._edges.append((a[apart], b[apart]))

    def classes(self, extra: Sequence[tuple[Array, Array]] = ()) -> Array:
        """Returns the class of each atom: the smallest atom that it is tied to.

        Args:
            extra: pairs of arrays of one (broadcast) shape whose atoms are tied as well, this once.
        """
        if not extra and self._classes[:2] == (self._count, len(self._edges)):
            return self._classes[2]
        beside = [tuple(x.reshape(-1) for x in np.broadcast_arrays(*pair)) for pair in extra]
        found = smallest_tied(self._count, [*self._edges, *beside])
        if not extra:
            found.flags.writeable = False
            self._classes = self._count, len(self._edges), found
        return found
