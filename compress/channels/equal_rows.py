"""Which rows are equal: their keys exactly, their numbers within a tolerance.

Rows are sorted by their keys and by one projection of their numbers, so only neighbours are compared: n rows cost
n log n.
"""

from __future__ import annotations

import numpy as np

from compress.channels.factors import every
from compress.channels.graph import Array
from compress.channels.rows import Rows, parts_of

_ROUNDS = 16  # rows whose projections meet by chance are told apart so often; what is left then is taken as different


def leaders(rows: Rows, tolerance: float, floor: Array | float) -> Array | None:
    """Returns for each row the one that stands for it: of the same keys, equal within the tolerance. Shape: (n,).

    None if each stands for itself.
    """
    marks = np.sort(rows.marks)
    if every(marks[1:] != marks[:-1]):
        return None
    runs = _runs(rows)
    if runs is None:
        return None
    order, run = runs
    keys, numbers, found = rows.keys, rows.numbers, np.arange(len(order))
    pending = np.flatnonzero((np.bincount(run) > 1)[run])
    for _ in range(_ROUNDS):
        if not pending.size:
            break
        _, first, inverse = np.unique(run[pending], return_index=True, return_inverse=True)
        mine, head = order[pending], order[pending[first]][inverse.reshape(-1)]
        same = (keys[mine] == keys[head]).all(axis=1)
        for part in parts_of(len(mine), numbers.shape[1]):
            other = numbers[head[part]]
            near = np.abs(numbers[mine[part]] - other) <= tolerance * np.maximum(np.abs(other), floor)
            same[part] &= near.all(axis=1)
        found[mine[same]] = head[same]
        pending = pending[~same]
    return found


def _runs(rows: Rows) -> tuple[Array, Array] | None:
    """Returns an order of rows, and which of these stand in one run: equal rows do, and few others. Shapes: (n,).

    None if no two rows stand in one run.
    """
    for few in (True, False):
        projected, apart = rows.numbers.sums(few)
        order = projected.argsort()
        order = order[rows.marks[order].argsort(kind="stable")]
        marks, projected = rows.marks[order], projected[order]
        gaps = (projected[1:] - projected[:-1] > apart[order][1:]) | (marks[1:] != marks[:-1])
        if every(gaps):
            return None
        run = np.concatenate([[0], np.cumsum(gaps)])
        # In so short a run every row can be compared with every other one.
        if np.bincount(run).max() <= _ROUNDS:
            break
    return order, run
