"""What every tensor looks like once some channels have gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from compress.channels.factors import coverage, some
from compress.channels.graph import Array, Graph, Node, Shape
from compress.channels.rules.base import NodeEdit
from compress.channels.trace import Trace


@dataclass(frozen=True)
class Restored:
    """Atoms that nothing needs and that stay all the same.

    Attributes:
        atoms: the atoms.
        reason: why.
        tensor: a tensor that holds them, where the reason was found.
    """

    atoms: Array
    reason: str
    tensor: str


class Kept:
    """The positions of each tensor that remain.

    Args:
        trace: what is known of the graph.
        dead: for each atom, whether it goes.
        restored: what nothing needs and stays all the same.
    """

    def __init__(self, trace: Trace, dead: Array, restored: Sequence[Restored] = ()) -> None:
        self.trace = trace
        self.dead = dead
        self.restored = tuple(restored)
        self._masks: dict[tuple[str, int], Array] = {}
        self._axes: dict[str, dict[int, Array]] = {}
        self._left: dict[int, dict[int, Array]] = {}
        self._edits: dict[Node, NodeEdit | None] = {}

    def mask(self, name: str, axis: int) -> Array:
        """Returns which positions of an axis remain, not to be changed. Shape: (size of the axis,)."""
        shape = self.trace.graph.shapes[name]
        axis %= len(shape)
        if (name, axis) not in self._masks:
            keep = np.zeros(shape[axis], dtype=bool)
            keep[self.axes(name).get(axis, slice(None))] = True
            keep.flags.writeable = False
            self._masks[(name, axis)] = keep
        return self._masks[(name, axis)]

    def count(self, name: str, axis: int) -> int:
        """Returns how many positions of an axis remain."""
        return self.shape(name)[axis]

    def first(self, name: str, axis: int, positions: Array) -> int | None:
        """Returns the first of some positions that remains, or None."""
        remaining = positions[self.mask(name, axis)[positions]]
        return int(remaining[0]) if remaining.size else None

    def shape(self, name: str) -> Shape:
        """Returns a tensor's shape once the others are gone."""
        left = list(self.trace.graph.shapes[name])
        for axis, index in self.axes(name).items():
            left[axis] = index.size
        return tuple(left)

    @cached_property
    def sized(self) -> Graph:
        """The graph before, with the shapes that its tensors have once the others are gone."""
        graph = self.trace.graph
        left = {name: self.shape(name) for name in graph.shapes if self.changed(name)}
        return replace(graph, shapes={**graph.shapes, **left})

    def changed(self, name: str) -> bool:
        """Tells whether a tensor loses anything."""
        return name in self._losses

    @cached_property
    def _losses(self) -> dict[str, list[Array]]:
        """The factors of each tensor that lose something, for tensors that do."""
        factors = self.trace.labels.factors
        # Many operators hand on the very same factor.
        parts = list({id(factor): factor for found in factors.values() for factor in found}.values())
        if not some(self.dead) or not parts:
            return {}
        starts = np.cumsum([0, *(part.size for part in parts[:-1])])
        gone = np.logical_or.reduceat(self.dead[np.concatenate([part.reshape(-1) for part in parts])], starts)
        lossy = {id(part) for part, goes in zip(parts, gone.tolist(), strict=True) if goes}
        lose = {name: [factor for factor in found if id(factor) in lossy] for name, found in factors.items()}
        return {name: found for name, found in lose.items() if found}

    def axes(self, name: str) -> dict[int, Array]:
        """Returns, for each axis that loses positions, the indices of those that remain; not to be changed."""
        found = self._axes.get(name)
        if found is None:
            found = {}
            for factor in self._losses.get(name, ()):
                for axis, index in self.left(factor).items():
                    # What several factors cover stays where all of them let it stay.
                    found[axis] = np.intersect1d(found[axis], index) if axis in found else index
            found = self._axes[name] = dict(sorted(found.items()))
        return found

    def left(self, factor: Array) -> dict[int, Array]:
        """Returns, for each axis along which a factor loses positions, the indices of those that remain."""
        found = self._left.get(id(factor))
        if found is None:
            found, goes, axes = {}, self.dead[factor], coverage(factor)
            for axis in axes:
                whole = goes if len(axes) == 1 else goes.all(axis=tuple([other for other in axes if other != axis]))
                index = (~whole.reshape(-1)).nonzero()[0]
                if index.size < factor.shape[axis]:
                    found[axis] = index
            self._left[id(factor)] = found
        return found

    def edit(self, node: Node) -> NodeEdit | None:
        """Returns what changes in a node beside the sizes of its tensors; None if nothing does."""
        if node not in self._edits:
            self._edits[node] = self.trace.rule(node).resize(node, self.trace, self)
        return self._edits[node]

    def override(self, node: Node, index: int, where: Array, values: Array) -> NodeEdit | None:
        """Returns the edit that sets some entries of an integer input, be it a constant or computed."""
        if not where.any():
            return None
        constant = self.trace.constant(node.input(index))
        if constant is None:
            return NodeEdit(overrides={index: (where, values)})
        new = np.where(where, values, constant.reshape(-1))
        return None if (new == constant.reshape(-1)).all() else NodeEdit(inputs={index: new.astype(np.int64)})
