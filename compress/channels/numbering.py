"""Value numbering: rows of keys and numbers get ids, equal rows the same one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field

import numpy as np

from compress.channels.equal_rows import leaders
from compress.channels.factors import every
from compress.channels.graph import Array
from compress.channels.rows import Numbers, Projected, Rows, joined

ONE = 0  # the id of the function that is 1 everywhere: what a constant is a multiple of
_LIMITS = np.iinfo(np.int64)


@dataclass
class _Seen:
    """The rows of one signature that are like none before them.

    Attributes:
        runs: in the order in which they came.
        highest: the largest key of all.
    """

    runs: list[Rows] = field(default_factory=list)
    highest: int = _LIMITS.min

    def add(self, rows: Rows) -> None:
        """Remembers rows."""
        self.runs.append(rows)
        self.highest = max(self.highest, rows.span[1])

    def sharing(self, rows: Rows) -> Rows | None:
        """Returns the rows whose keys could be among those of others, None if there are none."""
        low, high = rows.span
        met = [run for run in self.runs if run.span[0] <= high and low <= run.span[1]]
        shared = joined(met).among(rows) if met else None
        return shared if shared is not None and shared.ids.size else None


class Numbering:
    """Ids by content. The same signature, keys and numbers give the same id, in whichever call they come.

    Args:
        tolerance: how far numbers of equal rows may differ, relative to the larger of their magnitude and a floor.
    """

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self._next = ONE + 1
        self._seen: defaultdict[Hashable, _Seen] = defaultdict(_Seen)
        self._exact: dict[Hashable, int] = {}

    def fresh(self) -> int:
        """Returns an id that nothing else has."""
        self._next += 1
        return self._next - 1

    def exactly(self, what: Hashable) -> int:
        """Returns the id of what is like nothing but its equals."""
        if what not in self._exact:
            self._exact[what] = self.fresh()
        return self._exact[what]

    def number(
        self, signature: Hashable, keys: Array, rows: Numbers | None = None, floor: Array | float = 0.0
    ) -> Array:
        """Returns an id for each row.

        Args:
            signature: what rows must share to be compared at all: the operator, its attributes.
            keys: must be equal exactly. Shape: (n, m), int64.
            rows: must be equal within the tolerance. Shape: (n, k), float64; asked for a few at a time.
            floor: numbers below it are compared as if they were as large. Shape: scalar or (k,).
        """
        keys = np.asarray(keys, dtype=np.int64)
        rows = np.zeros((len(keys), 0)) if rows is None else rows
        seen = self._seen[signature, keys.shape[1], rows.shape[1]]
        numbers = Projected(rows, self.tolerance, floor)
        tops = keys[:, 0] if keys.shape[1] == 1 else keys.max(axis=1, initial=_LIMITS.min)
        if tops.size and tops[0] > seen.highest and every(tops[1:] > tops[:-1]):
            # Ids only grow, and keys are ids: this is the usual case, in which nothing is compared.
            found = self._ids(len(keys))
            seen.add(Rows(keys, numbers, (int(tops[0]), int(tops[-1])), found))
            return found
        span = int(tops.min(initial=_LIMITS.max)), int(tops.max(initial=_LIMITS.min))
        return self._compared(Rows(keys, numbers, span, np.full(len(keys), -1)), seen, floor)

    def _compared(self, new: Rows, seen: _Seen, floor: Array | float) -> Array:
        """Returns an id for each new row, that of a row which was seen where there is an equal one."""
        shared = seen.sharing(new)
        both = new if shared is None else joined([shared, new])
        standing = leaders(both, self.tolerance, floor)
        if standing is None:
            new.ids[:] = self._ids(len(new.ids))
            seen.add(new)
            return new.ids
        before = len(both.ids) - len(new.ids)
        both.ids[standing[:before]] = both.ids[:before]
        heading = np.zeros(len(both.ids), dtype=bool)
        heading[standing] = True
        heads = np.flatnonzero(heading & (both.ids < 0))
        both.ids[heads] = self._ids(heads.size)
        if heads.size:
            new.ids[heads - before] = both.ids[heads]
            seen.add(new.at(heads - before))
        return np.asarray(both.ids[standing[before:]])

    def _ids(self, count: int) -> Array:
        """Returns ids that nothing else has. Shape: (count,)."""
        self._next += count
        return np.arange(self._next - count, self._next)
