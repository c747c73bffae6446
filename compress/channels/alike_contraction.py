"""Likeness through weighted sums of channels: convolutions and matrix products with constant weights."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from compress.channels.alike import Likeness
from compress.channels.alike_cells import Cells
from compress.channels.graph import Array
from compress.channels.numbering import ONE, normalised, parts_of


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
        return np.asarray(self.undivided(index) / self.divisors[index, None])

    def undivided(self, index: Any) -> Array:
        """Returns some rows that are not divided by anything yet; see `Numbers`."""
        taken = self.weight[index]
        made = np.empty((len(taken), self.shape[1]))
        made[:, :-1], made[:, -1] = taken.reshape(len(taken), -1), self.bias[index]
        terms = made[:, :-1].reshape(len(taken), self.scales.shape[1], -1)
        terms[np.abs(terms) <= self.limit] = 0
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
    factors = np.zeros(outputs)
    parts = list(parts_of(*rows.shape))
    for part in parts:
        shares, factors[part] = normalised(rows.undivided(part), leading=-1)
    constant = factors == 0
    rows.divisors[:] = np.where(constant, 1, factors)
    members = likeness.numbering.number(("columns", width), ids)
    keys = members.repeat(outputs // groups)[:, None]
    # What fits into a cache is there already.
    found = likeness.numbering.number(signature, keys, shares if len(parts) == 1 else rows, floor=1.0)
    return Cells(np.where(constant, ONE, found), np.where(constant, bias, factors))
