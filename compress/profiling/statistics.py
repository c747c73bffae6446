"""Figures from times: percentiles, and a ratio of two models with an interval.

The ratio is the median over rounds of (least time of a block of one model) / (least time of the other's block in the
same round): of the estimators tried, the one that repeats best from process to process, on a quiet machine and on a
busy one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Verdict = Literal["faster", "slower", "no difference measured"]

# With five pairs or fewer not even the range of all ratios holds the median in 95 of 100 cases: 1 - 2^(1 - n).
FEWEST_PAIRS = 6
_RESAMPLES = 4000


@dataclass(frozen=True)
class Ratio:
    """Latency of a model over the latency of another.

    Attributes:
        ratio: < 1 is faster than the other.
        low: lower end of the 95 % interval.
        high: upper end.
        verdict: what the interval allows to say.
    """

    ratio: float
    low: float
    high: float
    verdict: Verdict


def paired_ratio(minima: np.ndarray, other_minima: np.ndarray, seed: int = 0) -> Ratio:
    """Compares two models by the least times of blocks that were taken in turn.

    median(minima_b / other_minima_b), with a bootstrap percentile interval over the rounds b.

    Args:
        minima: [blocks], any unit, > 0.
        other_minima: [blocks] of the model compared to, same rounds.
        seed: of the resampling.

    Returns:
        Ratio and interval. Of fewer than `FEWEST_PAIRS` rounds no difference is ever concluded; the interval then
        is the range of the ratios.

    Raises:
        ValueError: if the shapes differ or are empty.

    Source:
        B. Efron, Bootstrap methods: another look at the jackknife, 1979.
    """
    if minima.shape != other_minima.shape or minima.ndim != 1 or minima.size == 0:
        raise ValueError(f"paired block minima of shapes {minima.shape} and {other_minima.shape}")
    ratios = minima / other_minima
    if ratios.size < FEWEST_PAIRS:
        low, high = float(ratios.min()), float(ratios.max())
        return Ratio(float(np.median(ratios)), low, high, "no difference measured")
    chosen = np.random.default_rng(seed).integers(0, ratios.size, (_RESAMPLES, ratios.size))
    low, high = (float(end) for end in np.percentile(np.median(ratios[chosen], axis=1), [2.5, 97.5]))
    return Ratio(float(np.median(ratios)), low, high, verdict(low, high))


def verdict(low: float, high: float) -> Verdict:
    """Returns what an interval of a latency ratio allows to say."""
    if high < 1:
        return "faster"
    return "slower" if low > 1 else "no difference measured"


def percentiles(times: np.ndarray) -> tuple[float, float, float]:
    """Returns the 50th, 90th and 99th percentile of `times` (any shape), linearly interpolated."""
    p50, p90, p99 = (float(value) for value in np.percentile(times, [50, 90, 99]))
    return p50, p90, p99
