"""What rows are divided by, so that those which are multiples of one another become equal."""

from __future__ import annotations

import numpy as np

from compress.channels.graph import Array
from compress.channels.rows import parts_of


def normalised(rows: Array, leading: int | None = None) -> tuple[Array, Array]:
    """Divides each row by its largest entry, sign included.

    Args:
        rows: shape (n, k), float64.
        leading: how many entries of a row are looked at, the first ones; all if None.

    Returns:
        the rows and what they were divided by, 0 (and a row of zeros there) where all that is looked at is 0.
    """
    scales, shares = np.zeros(len(rows)), np.zeros_like(rows)
    for part in parts_of(*rows.shape):
        magnitude = np.abs(rows[part, :leading])
        if not magnitude.size:
            continue
        found = rows[part][np.arange(len(magnitude)), first_largest(magnitude)]
        scales[part] = found
        nothing = found == 0
        np.divide(rows[part], np.where(nothing, 1, found)[:, None], out=shares[part])
        if nothing.any():
            shares[part][nothing] = 0
    return shares, scales


def first_largest(sizes: Array) -> Array:
    """Returns the place of the largest entry of each row. Shapes: (n, k) → (n,).

    Of entries that rounding could exchange it is the first, so that multiples are divided by the same one.
    """
    return np.asarray((sizes >= sizes.max(axis=1, keepdims=True) * (1 - 1e-6)).argmax(axis=1))
