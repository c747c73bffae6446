"""Sparse positions as distances: few bits each, and fillers where a gap is longer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.errors import ModelFileError


def gaps_of(positions: NDArray[Any], bits: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Returns the steps from one nonzero to the next.

    A step is the number of zeros that are passed over, in 0 … 2^bits − 1. A longer gap is cut by fillers: a step of
    2^bits − 1 zeros onto one more zero, which is stored as if it were a weight.

    Args:
        positions: of the nonzeros, ascending. Shape: (n,).
        bits: of a step.

    Returns:
        The steps, shape (entries,), and which of them end at a filler.

    Source: S. Han, H. Mao, W. Dally, "Deep Compression", 2016, section 2 and figure 2. The paper stores the difference
        of two positions, which is never 0; here one less, so that `bits` bits reach one position further.
    """
    positions = positions.astype(np.int64)
    gaps = np.diff(positions, prepend=-1) - 1
    fillers = gaps >> bits
    steps = np.full(int(fillers.sum()) + len(gaps), (1 << bits) - 1, dtype=np.int64)
    ends = np.cumsum(fillers + 1) - 1
    steps[ends] = gaps & (1 << bits) - 1
    filler = np.ones(len(steps), dtype=bool)
    filler[ends] = False
    return steps, filler


def positions_of(steps: NDArray[np.int64], elements: int) -> NDArray[np.int64]:
    """Returns where the entries lie, fillers included.

    Raises:
        ModelFileError: if they lead beyond `elements`.
    """
    positions = np.cumsum(steps + 1) - 1
    if len(positions) and positions[-1] >= elements:
        raise ModelFileError(
            "packed weights lie outside their tensor", got=int(positions[-1]), next_step="get the file again"
        )
    return positions
