"""What repetitions say: a mean, and how far the true one may be from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_LEVEL = 0.95


@dataclass(frozen=True)
class Mean:
    """The mean of some figures.

    Attributes:
        value: the mean.
        half_width: half of the 95 % interval's width; None where one figure alone says nothing of it.
        count: how many figures.
    """

    value: float
    half_width: float | None
    count: int


def mean(figures: Sequence[float]) -> Mean:
    """Returns x̄ ± t · s / √n, with Student's t of n − 1 degrees of freedom.

    Args:
        figures: at least one; of repetitions that differ by chance alone.

    Source: Student, "The probable error of a mean", Biometrika 6, 1908.
    """
    count = len(figures)
    value = math.fsum(figures) / count
    if count < 2:
        return Mean(value, None, count)
    from scipy.special import stdtrit

    deviation = math.sqrt(math.fsum((figure - value) ** 2 for figure in figures) / (count - 1))
    quantile = float(stdtrit(count - 1, (1 + _LEVEL) / 2))
    return Mean(value, quantile * deviation / math.sqrt(count), count)
