"""Likeness through weighted sums of channels: convolutions and matrix products with constant weights."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from compress.channels.alike import Likeness
from compress.channels.alike_cells import Cells
from compress.channels.graph import Array
from compress.channels.numbering import ONE, first_largest, normalised, parts_of


@dataclass(frozen=True)
class _Products:
    """What each output of a weight reads of each function, and its bias: rows made when they are asked for.

    A weight may be most of the memory that there is; channels of one id are one channel, their columns added.

    Attributes:
        weight: shape (outputs, channels of a group, …), outputs in the order of their groups.
        bias: shape (outputs,).
        limit: entries of the weight up to this magnitude count as zero.
        scales: of the channels, in the order of their ids. Shape: (groups, channels of a group).
        order: which channel comes at which place, None where all stand in order. Shape: (groups, channels of a group).
        first: whether a channel is the first of its id; the others are added to it. None where all are. Same shape.
        divisors: what each row is divided by. Shape: (outputs,).
    """

    weight: Array
    bias: Array
    limit: float
    scales: Array
    order: Array | None
    first: Array | None
    divisors: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.weight), math.prod(self.weight.shape[1:]) + 1

    def __getitem__(self, index: Any) -> Array:
        rows, columns = index if isinstance(index, tuple) else (index, slice(None))
        made = self._stored(rows, columns) if self.plain else self._undivided(rows)[:, columns]
        return np.asarray(made / self.divisors[rows, None])

    @cached_property
    def plain(self) -> bool:
        """Whether each row is one of the weight as it stands, and the bias."""
        stands = self.order is None and self.weight.dtype.kind == "f" and self.weight.size > 0
        return stands and bool((self.scales == 1).all())

    def largest(self) -> Array:
        """Returns what each row is to be divided by; see `normalised`. Shape: (outputs,)."""
        found = np.zeros(len(self.weight))
        for part in parts_of(*self.shape):
            if not self.plain:
                found[part] = normalised(self._undivided(part), leading=-1)[1]
                continue
            stored = self.weight[part].reshape(len(found[part]), -1)
            size, index = np.abs(stored), np.arange(len(stored))
            place = first_largest(size, np.nextafter(self.limit, np.inf))
            found[part] = np.where(size[index, place] > self.limit, stored[index, place], 0)
        return found

    def _stored(self, rows: Any, columns: slice) -> Array:
        """Returns some numbers of some rows of the weight as it stands, and of the bias behind it."""
        taken, width = self.weight[rows], len(range(self.shape[1])[columns])
        taken = taken.reshape(len(taken), -1)[:, columns]
        made = np.empty((len(taken), width))
        terms = made[:, : taken.shape[1]]
        terms[:] = taken
        terms[np.abs(terms) <= self.limit] = 0
        if width > taken.shape[1]:
            made[:, -1] = self.bias[rows]
        return made

    def _undivided(self, index: Any) -> Array:
        """Returns some rows that are not divided by anything yet; see `Numbers`."""
        made = self._stored(index, slice(None))
        if self.plain:
            return made
        terms = made[:, :-1].reshape(len(made), self.scales.shape[1], -1)
        group = np.arange(len(self.weight))[index] // max(1, len(self.weight) // len(self.scales))
        if self.order is not None:
            terms[:] = np.take_along_axis(terms, self.order[group][:, :, None], axis=1)
        if (self.scales != 1).any():
            terms *= self.scales[group][:, :, None]
        if self.first is not None:
            for one in np.unique(group[~self.first[group].all(axis=1)]):
                mine, heads = np.flatnonzero(group == one), np.flatnonzero(self.first[one])
                sums = np.add.reduceat(terms[mine], heads, axis=1)
                terms[mine] = 0
                terms[mine[:, None], heads] = sums
        return made


def contracted(
    likeness: Likeness, signature: Hashable, columns: Cells, weight: Array, bias: Array, limit: float = 0.0
) -> Cells:
    """Returns the cells of what a weight makes of channels.

    Args:
        likeness: what is known so far.
        signature: the operator and its attributes.
        columns: the cells of the channels. Shape: (groups, channels of a group).
        weight: shape (outputs, channels of a group, …), outputs in the order of their groups.
        bias: shape (outputs,).
        limit: entries of the weight up to this magnitude count as zero.

    Returns:
        Cells of shape (outputs,).
    """
    groups, width = columns.ids.shape
    outputs = len(weight)
    ids, scales, order, first = columns.ids, columns.scales, None, None
    if not (ids[:, 1:] > ids[:, :-1]).all():
        order = ids.argsort(axis=1, kind="stable")
        ids, scales = (np.take_along_axis(part, order, axis=1) for part in (ids, scales))
        first = np.concatenate([np.ones((groups, 1), dtype=bool), ids[:, 1:] != ids[:, :-1]], axis=1)
    rows = _Products(weight, bias.astype(np.float64), limit, scales, order, first, np.ones(outputs))
    factors = rows.largest()
    if not (np.isfinite(factors).all() and np.isfinite(bias).all()):
        # Infinity is a multiple of itself, and yet what it makes of an input is not what a multiple would.
        return Cells(np.array([likeness.numbering.fresh() for _ in range(outputs)]), np.ones(outputs))
    constant = factors == 0
    rows.divisors[:] = np.where(constant, 1, factors)
    members = likeness.numbering.number(("columns", width), ids)
    keys = members.repeat(outputs // groups)[:, None]
    found = likeness.numbering.number(signature, keys, rows, floor=1.0)
    return Cells(np.where(constant, ONE, found), np.where(constant, bias, factors))
