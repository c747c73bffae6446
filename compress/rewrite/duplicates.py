"""Which channels are multiples of others, and why one that is not merged stays."""

from __future__ import annotations

import numpy as np

from compress.channels.alike import likeness
from compress.channels.graph import Array, Node
from compress.channels.kept import Kept
from compress.channels.merge import merging
from compress.channels.numbering import ONE
from compress.channels.readers import units
from compress.channels.trace import Trace
from compress.rewrite.blocked import Blocked, Reasons
from compress.rewrite.weighted import Weighted

_ELSEWHERE = ("", "a node needs it at its own position")


class Duplicates:
    """The duplicates of a graph.

    Args:
        known: what is known of the graph.
        kept: what of it stays.
    """

    def __init__(self, known: Trace, kept: Kept) -> None:
        self.known = known
        self.alike = likeness(known)
        self._found = merging(known, self.alike)
        self._classes = known.labels.classes()
        self._because = Reasons(known, kept)
        self._apart = self._told_apart()

    @property
    def gone(self) -> frozenset[int]:
        """The classes that a rewrite merges with others."""
        return self._found.gone

    def of(self, one: Weighted, among: Array) -> Array:
        """Returns which channels of an operator are multiples of an earlier one. Shape: (channels,), booleans.

        Args:
            one: the operator.
            among: which channels are looked at. Shape: (channels,).
        """
        cells, axis = self.alike.of(one.output).ids, one.axis
        repeated = np.zeros(len(among), dtype=bool)
        if cells.shape[axis] != len(among):
            return repeated
        ids = np.moveaxis(cells, axis, 0).reshape(len(among), -1)
        eligible = np.flatnonzero(among & (ids != ONE).any(axis=1))
        _, first = np.unique(ids[eligible], axis=0, return_index=True)
        repeated[np.delete(eligible, first)] = True
        return repeated

    def units(self, one: Weighted) -> Array:
        """Returns the class of each channel that an operator produces. Shape: (channels,)."""
        return np.asarray(self._classes[one.atoms])

    def kept(self, node: Node, units: Array) -> tuple[Blocked, ...]:
        """Returns why classes of a node's channels that are duplicates stay, those left out that go."""
        counts: dict[tuple[str, str], int] = {}
        for unit in units.tolist():
            if unit not in self.gone:
                reason = self._because.anyway(unit) or self._apart.get(unit, _ELSEWHERE)
                counts[reason] = counts.get(reason, 0) + 1
        return tuple(
            Blocked(node.outputs[0], keeper, node.operator, reason, count, kind="duplicate")
            for (keeper, reason), count in counts.items()
        )

    def _told_apart(self) -> dict[int, tuple[str, str]]:
        """Returns the classes that a weight reads where they are like no other channel: the node, and why."""
        merged = {reader.weight: reader.alike >= 0 for reader in self._found.readers}
        reasons: dict[int, tuple[str, str]] = {}
        for read in self.alike.reads:
            classes = units(self.known, read)
            if classes is None:
                continue
            apart = ~merged.get(read.weight, np.zeros(classes.shape, dtype=bool))
            for unit in classes[apart].tolist():
                reasons.setdefault(unit, (read.node.name, "what is read of it is no longer like another channel"))
        return reasons
