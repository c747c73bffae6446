"""Rows of keys and numbers that may be compared, each with a sum of its numbers by which they are sorted.

Numbers need not be in memory; they are asked for a few at a time, and seldom all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Protocol

import numpy as np

from compress.channels.graph import Array

_CACHED = 2**18  # numbers that are looked at together
_GLANCED = 16  # numbers of a row, by which most rows are told apart without the others
_SHORT = 2**10  # rows up to this width share the directions of their projection
_ROUNDING = 1e-12  # of the projection, relative to the sum of its terms


class Numbers(Protocol):
    """Rows of numbers that need not be in memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        """How many rows there are, and how many numbers in each."""

    def __getitem__(self, index: Any) -> Array:
        """Returns some as float64.

        `index` is a slice or an array of places, or such of rows and what `glanced` returns for the columns.
        """


class Summed(Protocol):
    """Rows of numbers, and one sum for each by which they are sorted."""

    @property
    def shape(self) -> tuple[int, ...]:
        """How many rows there are, and how many numbers in each."""

    def __getitem__(self, index: Any) -> Array:
        """Returns some as float64; `index` is a slice or an array of places."""

    def sums(self, few: bool) -> tuple[Array, Array]:
        """Returns a weighted sum of each row, and how far those of equal rows may lie apart. Shapes: (n,).

        Args:
            few: whether only some of a row's numbers are summed: what differs there differs.
        """


@dataclass(frozen=True)
class Rows:
    """Rows to be compared.

    Attributes:
        keys: shape (n, m).
        numbers: of n rows.
        span: the least and the largest of the rows' largest keys, or a wider one.
        ids: -1 where a row has none yet. Shape: (n,).
    """

    keys: Array
    numbers: Summed
    span: tuple[int, int]
    ids: Array

    def at(self, places: Array) -> Rows:
        """Returns some of the rows."""
        return Rows(self.keys[places], _Picked(self.numbers, places), self.span, self.ids[places])

    def among(self, others: Rows) -> Rows:
        """Returns the rows whose keys could be among those of others."""
        marks = np.sort(others.marks)
        places = np.searchsorted(marks[:-1], self.marks)
        return self.at(np.flatnonzero(marks[places] == self.marks))

    @cached_property
    def marks(self) -> Array:
        """A number for each row: equal for equal keys, and hardly ever for others. Shape: (n,)."""
        width = self.keys.shape[1]
        return np.asarray(self.keys[:, 0] if width == 1 else self.keys.view(np.uint64) @ _factors(width))


@dataclass(frozen=True)
class Projected:
    """Numbers with their sums, found when they are asked for.

    Attributes:
        numbers: the rows.
        tolerance: how far numbers of equal rows may differ, relative to the larger of their magnitude and a floor.
        floor: shape scalar or (k,).
    """

    numbers: Numbers
    tolerance: float
    floor: Array | float

    @property
    def shape(self) -> tuple[int, ...]:
        """See `Summed.shape`."""
        return self.numbers.shape

    def __getitem__(self, index: Any) -> Array:
        """See `Numbers`."""
        return self.numbers[index]

    def sums(self, few: bool) -> tuple[Array, Array]:
        """See `Summed.sums`."""
        return self._sums_of_few if few else self._sums_of_all

    @cached_property
    def _sums_of_all(self) -> tuple[Array, Array]:
        return self._sums(None) if self.shape[1] > _GLANCED else self._sums_of_few

    @cached_property
    def _sums_of_few(self) -> tuple[Array, Array]:
        return self._sums(glanced(self.shape[1]))

    def _sums(self, few: slice | None) -> tuple[Array, Array]:
        count, width = self.shape
        along = direction(width if few is None else len(range(width)[few]))
        floor = self.floor[few] if few is not None and isinstance(self.floor, np.ndarray) else self.floor
        projected, apart = np.zeros(count), np.zeros(count)
        for part in parts_of(count, along.size):
            numbers = self.numbers[part] if few is None else self.numbers[part, few]
            projected[part] = numbers @ along
            apart[part] = np.maximum(np.abs(numbers), floor) @ along * (self.tolerance + _ROUNDING)
        return projected, apart


@dataclass(frozen=True)
class _Picked:
    """Some rows of others."""

    numbers: Summed
    places: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.places), self.numbers.shape[1]

    def __getitem__(self, index: Any) -> Array:
        return self.numbers[self.places[index]]

    def sums(self, few: bool) -> tuple[Array, Array]:
        """See `Summed.sums`."""
        projected, apart = self.numbers.sums(few)
        return projected[self.places], apart[self.places]


@dataclass(frozen=True)
class _Several:
    """The numbers of several runs of rows, one after the other."""

    runs: list[Rows]
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
                found[mine] = run.numbers[index[mine] - start]
        return found

    def sums(self, few: bool) -> tuple[Array, Array]:
        """See `Summed.sums`."""
        projected, apart = zip(*(run.numbers.sums(few) for run in self.runs), strict=True)
        return np.concatenate(projected), np.concatenate(apart)


def joined(runs: list[Rows]) -> Rows:
    """Returns runs of rows as one."""
    if len(runs) == 1:
        return runs[0]
    starts = np.cumsum([0, *(len(run.ids) for run in runs)])
    keys, ids = (np.concatenate([getattr(run, part) for run in runs]) for part in ("keys", "ids"))
    span = min(run.span[0] for run in runs), max(run.span[1] for run in runs)
    return Rows(keys, _Several(runs, starts), span, ids)


def glanced(width: int) -> slice:
    """Returns the columns of rows of a width by which most rows are told apart."""
    return slice(None, None, max(1, -(-width // _GLANCED)))


def parts_of(count: int, width: int) -> Iterator[slice]:
    """Yields runs of rows that fit into a cache, none if rows are empty."""
    step = max(1, _CACHED // max(1, width))
    return (slice(start, start + step) for start in range(0, count if width else 0, step))


def direction(width: int) -> Array:
    """Returns what numbers are multiplied by for a projection: from 0.5 to 1. Shape: (width,)."""
    return _directions(max(_SHORT, width))[:width]


@cache
def _directions(count: int) -> Array:
    return 0.5 + (_scattered(count) >> np.uint64(11)) * 2.0**-54


@cache
def _factors(count: int) -> Array:
    """Returns odd numbers, after a 1 that keeps an order of the first keys. Shape: (count,), uint64."""
    factors = _scattered(count) | np.uint64(1)
    factors[:1] = 1
    return factors


def _scattered(count: int) -> Array:
    """Returns numbers without a pattern, always the same ones. Shape: (count,), uint64.

    Loading numpy's generators would take as long as a small graph does.

    Source: Steele, Lea and Flood, Fast splittable pseudorandom number generators, 2014 (SplitMix64).
    """
    found = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        found ^= found >> np.uint64(shift)
        found *= np.uint64(factor)
    return found
