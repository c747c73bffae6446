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
from compress.channels.factors import every
from compress.channels.graph import Array
from compress.channels.multiples import first_largest
from compress.channels.numbering import ONE, Numbering
from compress.channels.rows import glanced, parts_of


@dataclass(frozen=True)
class _Terms:
    """What each output of a weight reads of each function, and its bias: rows made when they are asked for.

    A weight may be most of the memory that there is; channels of one id are one channel, their columns added.

    Attributes:
        weight: shape (outputs, channels of a group, …), outputs in the order of their groups.
        bias: shape (outputs,), float64.
        limit: entries of the weight up to this magnitude count as zero.
        scales: of the channels, in the order of their ids. Shape: (groups, channels of a group).
        order: which channel comes at which place, None where all stand in order. Shape: (groups, channels of a group).
        first: whether a channel is the first of its id; the others are added to it. None where all are. Same shape.
    """

    weight: Array
    bias: Array
    limit: float
    scales: Array
    order: Array | None
    first: Array | None

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return len(self.weight), 1 + math.prod(self.weight.shape[1:])

    def __getitem__(self, index: Any) -> Array:
        """Returns the bias and the terms of some rows; `index` is a slice or an array of places."""
        return np.asarray(np.concatenate([self.bias[index, None], self._terms(index)], axis=1))

    def _terms(self, index: Any) -> Array:
        terms = self.weight[index].astype(np.float64, order="C")
        size = np.abs(terms)
        if size.min(initial=np.inf) <= self.limit:
            terms[size <= self.limit] = 0
        self._combine(terms.reshape(len(terms), self.scales.shape[1], math.prod(terms.shape[2:])), index)
        return np.asarray(terms.reshape(len(terms), -1))

    def _combine(self, terms: Array, index: Any) -> None:
        """Multiplies terms by the scales of their channels, and adds up those of one id. Shape: (rows, channels, …)."""
        mine = slice(None) if len(self.scales) == 1 else self._groups(index)
        if self.order is not None:
            terms[:] = np.take_along_axis(terms, self.order[mine][:, :, None], axis=1)
        terms *= self.scales[mine][:, :, None]
        if self.first is not None:
            group = self._groups(index)
            for one in np.unique(group[~self.first[group].all(axis=1)]):
                rows, heads = np.flatnonzero(group == one), np.flatnonzero(self.first[one])
                sums = np.add.reduceat(terms[rows], heads, axis=1)
                terms[rows] = 0
                terms[rows[:, None], heads] = sums

    def _groups(self, index: Any) -> Array:
        """Returns the group of each of some rows."""
        return np.asarray(np.arange(len(self.weight))[index] // max(1, len(self.weight) // len(self.scales)))

    def survey(self) -> tuple[Array, Array]:
        """Returns the largest term of each row, and what there is of it at a glance; see `glanced`.

        Shapes: (outputs,), (outputs, columns).
        """
        few = glanced(self.shape[1])
        largest, glances = np.zeros(len(self.weight)), np.zeros((len(self.weight), len(range(self.shape[1])[few])))
        glances[:, 0] = self.bias
        for part in parts_of(*self.shape):
            terms = self._terms(part)
            if terms.size:
                largest[part] = terms[np.arange(len(terms)), first_largest(np.abs(terms))]
                glances[part, 1:] = terms[:, few.step - 1 :: few.step]
        return largest, glances


@dataclass(frozen=True)
class _Products:
    """Rows of terms, each divided by a number of its own; see `Numbers`.

    Attributes:
        terms: the rows.
        glances: of the terms; see `_Terms.survey`.
        divisors: shape (outputs,).
    """

    terms: _Terms
    glances: Array
    divisors: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.terms.shape

    def __getitem__(self, index: Any) -> Array:
        rows, made = (index[0], self.glances[index[0]]) if isinstance(index, tuple) else (index, self.terms[index])
        return np.asarray(made / self.divisors[rows, None])


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
    groups, outputs = len(columns.ids), len(weight)
    ids, scales, order, first = columns.ids, columns.scales, None, None
    if not every(ids[:, 1:] > ids[:, :-1]):
        order = ids.argsort(axis=1, kind="stable")
        ids, scales = (np.take_along_axis(part, order, axis=1) for part in (ids, scales))
        first = np.concatenate([np.ones((groups, 1), dtype=bool), ids[:, 1:] != ids[:, :-1]], axis=1)
    terms = _Terms(weight, bias.astype(np.float64), limit, scales, order, first)
    factors, glances = terms.survey()
    if not (every(np.isfinite(factors)) and every(np.isfinite(bias))):
        # Infinity is a multiple of itself, and yet what it makes of an input is not what a multiple would.
        return Cells(np.array([likeness.numbering.fresh() for _ in range(outputs)]), np.ones(outputs))
    constant = factors == 0
    rows = _Products(terms, glances, np.where(constant, 1, factors))
    keys = _members(likeness.numbering, ids).repeat(outputs // groups)[:, None]
    found = likeness.numbering.number(signature, keys, rows, floor=1.0)
    return Cells(np.where(constant, ONE, found), np.where(constant, bias, factors))


def _members(numbering: Numbering, ids: Array) -> Array:
    """Returns an id for what each group reads. Shapes: (groups, channels of a group) → (groups,)."""
    if ids.shape[1] == 1:
        return np.asarray(ids[:, 0])
    return np.array([numbering.exactly(("columns", row.tobytes())) for row in ids], dtype=np.int64)
