"""Value numbering of rows: rows that hold the same keys and, within a tolerance, the same numbers get the same id.

Rows are sorted by their keys and by one projection of their numbers, so only neighbours are compared: n rows cost
n log n.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Protocol

import numpy as np

from compress.channels.graph import Array

ONE = 0  # the id of the function that is 1 everywhere: what a constant is a multiple of
_ROUNDS = 16  # rows whose projections meet by chance are told apart so often; what is left then is taken as different
_CACHED = 2**18  # numbers that are looked at together
_GLANCED = 16  # numbers of a row, by which most rows are told apart without the others
_COMPARED = 2**12  # pairs of marks that are compared rather than sorted
_ROUNDING = 1e-12  # of the projection, relative to the sum of its terms


class Numbering:
    """Ids by content. The same signature, keys and numbers give the same id, in whichever call they come.

    Args:
        tolerance: how far numbers of equal rows may differ, relative to the larger of their magnitude and a floor.
    """

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self._next = ONE + 1
        self._seen: dict[Hashable, list[_Rows]] = {}

    def fresh(self) -> int:
        """Returns an id that nothing else has."""
        self._next += 1
        return self._next - 1

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
        numbers = _Projected(rows, self.tolerance, floor)
        new = _Rows(keys, numbers, np.arange(len(keys)), np.full(len(keys), -1), _marks(keys))
        seen = self._seen.setdefault((signature, keys.shape[1], rows.shape[1]), [])
        shared = [(part, _among(part.marks, new.marks)) for part in seen if part.meets(new)]
        parts = [part.at(among) for part, among in shared if among.any()]
        if not parts and _distinct(new.marks):
            # The usual case, for which no number is looked at.
            return self._all_new(new, seen)
        every = _joined([*parts, new]) if parts else new
        before = len(every.ids) - len(keys)
        leaders = _leaders(every, self.tolerance, floor)
        if not parts and (leaders == new.places).all():
            return self._all_new(new, seen)
        every.ids[leaders[:before]] = every.ids[:before]
        heads = np.unique(leaders[every.ids[leaders] < 0])
        every.ids[heads] = np.arange(self._next, self._next + heads.size)
        self._next += heads.size
        found = every.ids[leaders[before:]]
        if heads.size:
            new.ids[heads - before] = every.ids[heads]
            seen.append(new.at(heads - before))
        return np.asarray(found)

    def _all_new(self, rows: _Rows, seen: list[_Rows]) -> Array:
        """Gives each row an id of its own, and remembers them; returns the ids."""
        found = np.arange(self._next, self._next + len(rows.ids))
        self._next += len(found)
        rows.ids[:] = found
        seen.append(rows)
        return found


class Numbers(Protocol):
    """Rows of numbers that need not be in memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        """How many rows there are, and how many numbers in each."""

    def __getitem__(self, index: Any) -> Array:
        """Returns some as float64; `index` is a slice or an array of places, or such of rows and a slice of columns."""


@dataclass(frozen=True)
class _Projected:
    """Numbers, and one sum for each of their rows by which they are sorted; see `Numbering`."""

    numbers: Numbers
    tolerance: float
    floor: Array | float

    @property
    def shape(self) -> tuple[int, ...]:
        return self.numbers.shape

    def __getitem__(self, index: Any) -> Array:
        return self.numbers[index]

    def sums(self, few: bool) -> tuple[Array, Array]:
        """Returns a weighted sum of each row, and how far those of equal rows may lie apart. Shapes: (n,).

        Args:
            few: whether only some of a row's numbers are summed: what differs there differs.
        """
        return self._sums_of_few if few else self._sums_of_all

    @cached_property
    def _sums_of_all(self) -> tuple[Array, Array]:
        return self._sums(slice(None), self.floor)

    @cached_property
    def _sums_of_few(self) -> tuple[Array, Array]:
        few = slice(None, None, max(1, -(-self.shape[1] // _GLANCED)))
        return self._sums(few, self.floor if np.ndim(self.floor) == 0 else np.asarray(self.floor)[few])

    def _sums(self, columns: slice, floor: Array | float) -> tuple[Array, Array]:
        count, width = self.shape
        direction = _direction(len(range(width)[columns]))
        projected, apart = np.zeros(count), np.zeros(count)
        for part in parts_of(count, width):
            numbers = self.numbers[part, columns]
            size = np.abs(numbers)
            projected[part] = numbers @ direction
            even = np.ndim(floor) == 0 and size.max() <= floor
            near = floor * direction.sum() if even else np.maximum(size, floor) @ direction
            apart[part] = self.tolerance * near + _ROUNDING * (size @ direction)
        return projected, apart


@dataclass(frozen=True)
class _Rows:
    """Rows to be compared, -1 where one has no id yet.

    Attributes:
        keys: shape (n, m).
        numbers: where their numbers are.
        places: of the rows among these. Shape: (n,).
        ids: shape (n,).
        marks: see `_marks`.
    """

    keys: Array
    numbers: _Projected | _Several
    places: Array
    ids: Array
    marks: Array

    def at(self, index: Array) -> _Rows:
        return _Rows(self.keys[index], self.numbers, self.places[index], self.ids[index], self.marks[index])

    def sums(self, few: bool) -> tuple[Array, Array]:
        """See `_Projected.sums`."""
        projected, apart = self.numbers.sums(few)
        return projected[self.places], apart[self.places]

    @cached_property
    def span(self) -> tuple[int, int]:
        """The least and the largest of the rows' largest keys: ids only grow, so old rows and new ones seldom meet."""
        if not self.keys.size:
            return 0, 0
        largest = self.keys.max(axis=1) if self.keys.shape[1] > 1 else self.keys
        return int(largest.min()), int(largest.max())

    def meets(self, other: _Rows) -> bool:
        """Tells whether a row of each could have the same keys."""
        return self.span[0] <= other.span[1] and other.span[0] <= self.span[1]


@dataclass(frozen=True)
class _Several:
    """The numbers of several runs of rows, one after the other."""

    runs: list[_Rows]
    starts: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return int(self.starts[-1]), self.runs[0].numbers.shape[1]

    def __getitem__(self, index: Any) -> Array:
        index = np.arange(self.starts[-1])[index]
        found = np.empty((len(index), self.shape[1]))
        for run, start, stop in zip(self.runs, self.starts[:-1], self.starts[1:], strict=True):
            mine = (index >= start) & (index < stop)
            if mine.any():
                found[mine] = run.numbers[run.places[index[mine] - start]]
        return found

    def sums(self, few: bool) -> tuple[Array, Array]:
        """See `_Projected.sums`."""
        projected, apart = zip(*(run.sums(few) for run in self.runs), strict=True)
        return np.concatenate(projected), np.concatenate(apart)


def _joined(runs: list[_Rows]) -> _Rows:
    """Returns runs of rows as one."""
    starts = np.cumsum([0, *(len(run.ids) for run in runs)])
    keys, ids, marks = (np.concatenate([getattr(run, part) for run in runs]) for part in ("keys", "ids", "marks"))
    return _Rows(keys, _Several(runs, starts), np.arange(starts[-1]), ids, marks)


def _marks(keys: Array) -> Array:
    """Returns a number for each row: equal for equal keys, and hardly ever for others. Shapes: (n, m) → (n,)."""
    return np.asarray(keys[:, 0] if keys.shape[1] == 1 else keys.view(np.uint64) @ _factors(keys.shape[1]))


def _distinct(marks: Array) -> bool:
    """Tells whether no two marks are equal."""
    if (marks[1:] > marks[:-1]).all():
        return True
    ordered = np.sort(marks)
    return bool((ordered[1:] != ordered[:-1]).all())


def _among(marks: Array, others: Array) -> Array:
    """Tells which marks are among others. Shapes: (n,), (m,) → (n,), booleans."""
    if marks.size * others.size > _COMPARED:
        return np.isin(marks, others)
    return np.asarray((marks[:, None] == others).any(axis=1))


def normalised(rows: Array, leading: int | None = None) -> tuple[Array, Array]:
    """Divides each row by its largest entry, sign included.

    Args:
        rows: shape (n, k), float64.
        leading: how many entries of a row are looked at, the first ones; all if None.

    Returns:
        the rows and what they were divided by, 0 (and a row of zeros there) where all that is looked at is 0.
    """
    scales, shares = np.zeros(len(rows)), np.zeros(rows.shape)
    for part in parts_of(*rows.shape):
        magnitude = np.abs(rows[part, :leading])
        if not magnitude.size:
            continue
        largest, index = first_largest(magnitude), np.arange(len(magnitude))
        found = np.where(magnitude[index, largest] > 0, rows[part][index, largest], 0)
        scales[part] = found
        nothing = found == 0
        np.divide(rows[part], np.where(nothing, 1, found)[:, None], out=shares[part])
        shares[part][nothing] = 0
    return shares, scales


def first_largest(sizes: Array, least: float = 0.0) -> Array:
    """Returns the place of the largest entry of each row; 0 where none reaches `least`. Shapes: (n, k) → (n,).

    Of entries that rounding could exchange it is the first, so that multiples are divided by the same one.
    """
    largest = sizes.max(axis=1, keepdims=True).astype(np.float64)
    return np.asarray((sizes >= np.maximum(largest * (1 - 1e-6), least)).argmax(axis=1))


def parts_of(count: int, width: int) -> Iterator[slice]:
    """Yields runs of rows that fit into a cache, none if rows are empty."""
    step = max(1, _CACHED // max(1, width))
    return (slice(start, start + step) for start in range(0, count if width else 0, step))


@cache
def _direction(width: int) -> Array:
    """Returns what numbers are multiplied by for a projection. Shape: (width,)."""
    return np.random.default_rng(width).uniform(0.5, 1.0, width)


@cache
def _factors(count: int) -> Array:
    """Returns odd numbers drawn once. Shape: (count,), uint64."""
    return np.random.default_rng(0).integers(1, 2**63, count, dtype=np.uint64) | np.uint64(1)


def _runs(rows: _Rows) -> tuple[Array, Array]:
    """Returns an order of rows, and which of these stand in one run: equal rows do, and few others. Shapes: (n,)."""
    for few in (True, False):
        projected, apart = rows.sums(few)
        order = np.lexsort((projected, rows.marks))
        marks, projected = rows.marks[order], projected[order]
        gaps = (projected[1:] - projected[:-1] > apart[order][1:]) | (marks[1:] != marks[:-1])
        run = np.concatenate([[0], np.cumsum(gaps)])
        # In so short a run every row can be compared with every other one.
        if gaps.all() or np.bincount(run).max() <= _ROUNDS:
            break
    return order, run


def _leaders(rows: _Rows, tolerance: float, floor: Array | float) -> Array:
    """Returns for each row the one that stands for it: of the same keys, equal within the tolerance. Shape: (n,)."""
    keys, numbers = rows.keys, rows.numbers
    count, width = numbers.shape
    leaders = np.arange(count)
    order, run = _runs(rows)
    if run[-1] == count - 1:
        return leaders
    pending = np.flatnonzero((np.bincount(run) > 1)[run])
    for _ in range(_ROUNDS):
        if not pending.size:
            break
        _, first, inverse = np.unique(run[pending], return_index=True, return_inverse=True)
        mine, head = order[pending], order[pending[first]][inverse.reshape(-1)]
        same = (keys[mine] == keys[head]).all(axis=1)
        for part in parts_of(len(mine), width):
            other = numbers[head[part]]
            near = np.abs(numbers[mine[part]] - other) <= tolerance * np.maximum(np.abs(other), floor)
            same[part] &= near.all(axis=1)
        leaders[mine[same]] = head[same]
        pending = pending[~same]
    return leaders
