"""Labels: which positions of which tensors stand or fall together.

A *factor* of a tensor is an integer array of the tensor's rank. Axes that it covers have their full size, the others
size 1; its entries are *atoms*. A position of the tensor goes if the atom of any of its factors there goes. A tensor
starts with one factor for each of its axes (weights), or none (graph inputs); shape operators are applied to the
factors themselves. An axis that no factor covers can lose nothing.

Atoms that must go together are *unified*; connected components are the *classes*. Atom 0 is the one that always stays.

Where channels are spread over several axes (heads × dimensions, groups × channels of a group), only whole slices can
go. Atoms that go exactly where such a slice goes are tied to it as `Slices`: they say nothing of its single cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import numpy as np

from compress.channels.graph import Array, Graph, Node, Shape

STAYS = 0
Factors = tuple[Array, ...]


@dataclass(frozen=True)
class Pin:
    """Why atoms must stay: the node that says so, and its reason."""

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
            found = tuple([on_axis(self.fresh(shape[axis]), axis, len(shape)) for axis in _longer(shape)])
            self.factors[name] = found
        return found

    def distinct(self, factor: Array) -> bool:
        """Tells whether no atom occurs twice in a factor of a tensor."""
        found = self._distinct.get(id(factor))
        if found is None:
            atoms = factor.reshape(-1)
            found = self._distinct[id(factor)] = _ascend(atoms) or np.unique(atoms).size == atoms.size
        return found

    def hand_back(self) -> None:
        """Says of stored weights what operators have said of tensors computed from them: transposed, sliced, cast."""
        computed = dict.fromkeys(name for name, _ in self.roles if name not in self.graph.constants)
        if not computed:
            return
        # Every axis of a constant has atoms of its own.
        axes = [(n, coverage(f)[0], f) for n in self.graph.constants for f in self.of(n) if len(coverage(f)) == 1]
        owner = np.full(self._count, -1)
        for index, (_, _, factor) in enumerate(axes):
            owner[factor.reshape(-1)] = index
        owner[STAYS] = -1
        for name in computed:
            stored: dict[str, None] = {}
            for factor in self.of(name):
                for index in np.unique(owner[factor.reshape(-1)]):
                    source, own, _ = axes[index]
                    role = self.roles.get((name, coverage(factor)[0])) if len(coverage(factor)) == 1 else None
                    if index >= 0 and role is not None:
                        self.roles.setdefault((source, own), role)
                    if index >= 0:
                        stored[source] = None
            for source in stored if name in self.reuse else ():
                share = np.prod(self.graph.shapes[name]) / np.prod(self.graph.shapes[source])
                self.reuse[source] = self.reuse.get(source, 0) + round(self.reuse[name] * min(1.0, share))

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
        self.pins.append(Pin(found if _ascend(found) else np.unique(found), node.name, reason))

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
        if some(apart):
            self._edges.append((a, b) if every(apart) else (a[apart], b[apart]))

    def unify_elementwise(self, names: list[str], rank: int, node: Node) -> Factors:
        """Ties the operands of a broadcasting operator; returns the factors of its result of `rank` axes."""
        return self.unify_operands([(self.of(name), self.graph.shapes[name]) for name in names], rank, node)

    def unify_operands(self, operands: list[tuple[Factors, Shape]], rank: int, node: Node) -> Factors:
        """Ties tensors, given as (factors, shape), that are combined position by position after broadcasting."""
        longer = [_set_of_longer(_padded(shape, rank)) for _, shape in operands]
        padded = [[factor.reshape(_padded(factor.shape, rank)) for factor in factors] for factors, _ in operands]
        for (i, mine), (j, theirs) in permutations(enumerate(padded), 2):
            for factor in mine:
                shared = covered(factor) & longer[j]
                covering = [other for other in theirs if not shared.isdisjoint(covered(other))]
                bare = shared.difference(*[covered(other) for other in covering])
                if bare:
                    self.hold(factor, tuple(bare), node, "combined with a tensor whose channels cannot go")
                for other in covering if i < j else ():
                    self._tie(factor, other, node)
        return _largest(padded)

    def _tie(self, first: Array, second: Array, node: Node) -> None:
        """Ties two factors that are combined: cell by cell, or slice by slice where one covers a single axis."""
        wide, narrow = (second, first) if len(coverage(first)) < len(coverage(second)) else (first, second)
        if len(coverage(narrow)) == 1 < len(coverage(wide)):
            self.tie_slices(wide, coverage(narrow)[0], narrow.reshape(-1), node)
        else:
            self.unify(first, second, node)

    def classes(self, extra: Sequence[tuple[Array, Array]] = ()) -> Array:
        """Returns the class of each atom: the smallest atom that it is tied to.

        Args:
            extra: pairs of arrays of one (broadcast) shape whose atoms are tied as well, this once.
        """
        if not extra and self._classes[:2] == (self._count, len(self._edges)):
            return self._classes[2]
        found = self._tied(extra)
        if not extra:
            found.flags.writeable = False
            self._classes = self._count, len(self._edges), found
        return found

    def _tied(self, extra: Sequence[tuple[Array, Array]]) -> Array:
        parent = np.arange(self._count)
        edges = self._edges + [tuple(x.reshape(-1) for x in np.broadcast_arrays(*pair)) for pair in extra]
        if not edges:
            return parent
        a = np.concatenate([edge[0] for edge in edges])
        b = np.concatenate([edge[1] for edge in edges])
        # Hooking and pointer jumping, vectorised: each round links every root to the smallest root beside it.
        while True:
            while True:
                jumped = parent[parent]
                if (jumped == parent).all():
                    break
                parent = jumped
            roots_a, roots_b = parent[a], parent[b]
            apart = roots_a != roots_b
            if not apart.any():
                return parent
            a, b = roots_a[apart], roots_b[apart]
            np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))


def coverage(factor: Array) -> tuple[int, ...]:
    """Returns the axes that a factor covers."""
    return _longer(factor.shape)


def covered(factor: Array) -> frozenset[int]:
    """Returns the axes that a factor covers, as a set."""
    return _set_of_longer(factor.shape)


@lru_cache(maxsize=1024)
def _set_of_longer(shape: Shape) -> frozenset[int]:
    return frozenset(_longer(shape))


@lru_cache(maxsize=1024)
def _longer(shape: Shape) -> tuple[int, ...]:
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


@lru_cache(maxsize=1024)
def _only(axis: int, size: int, rank: int) -> Shape:
    shape = [1] * rank
    shape[axis % rank] = size
    return tuple(shape)


def _padded(shape: Shape, rank: int) -> Shape:
    return (1,) * (rank - len(shape)) + shape


def _ascend(atoms: Array) -> bool:
    """Tells whether atoms stand in their order, none of them twice: most are new ones."""
    return every(atoms[1:] > atoms[:-1])


def _largest(operands: list[list[Array]]) -> Factors:
    """Drops factors that cover no more axes than one of another operand: they have been unified with it."""
    found = [(index, factor) for index, factors in enumerate(operands) for factor in factors if covered(factor)]
    kept: list[tuple[int, Array]] = []
    for index, factor in sorted(found, key=lambda pair: -len(coverage(pair[1]))):
        if not any(index != other and covered(factor) <= covered(larger) for other, larger in kept):
            kept.append((index, factor))
    return tuple([factor for _, factor in kept])
