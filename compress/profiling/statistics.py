"""Figures from times: percentiles, and a ratio of two models with an interval.

The ratio is the median of (least time of a block of one model) / (least time of the other's block in the same round),
the rounds being spread over fresh processes: of the estimators tried, the one that repeats best, on a quiet machine and
on a busy one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

Verdict = Literal["faster", "slower", "fewer instructions", "more instructions", "no difference measured", "a bound"]

# With five independent ones or fewer not even their range holds the median in 95 of 100 cases: 1 - 2^(1 - n).
FEWEST = 6
_CONFIDENCE = 0.95
# Counts of the same file in two processes agree within this share (benchmarks/profiling/repeatability.json).
COUNT_NOISE = 0.001
# By so much did times of one file differ within an hour on one machine, with nothing else changed.
DRIFT = 0.07


@dataclass(frozen=True)
class Ratio:
    """Cost of a model over the cost of another.

    Attributes:
        ratio: < 1 is less than the other.
        low: lower end of the interval: 95 % for times, the known error otherwise.
        high: upper end.
        verdict: what the interval allows to say.
    """

    ratio: float
    low: float
    high: float
    verdict: Verdict


def paired_ratio(minima: np.ndarray, other_minima: np.ndarray, processes: int | None = None) -> Ratio:
    """Compares two models by the least times of blocks that were taken in turn.

    The median over processes of each one's median over its rounds b of minima_b / other_minima_b. The interval runs
    from the k-th least of the processes' to the k-th largest, with the largest k for which the median of a process lies
    outside in 5 of 100 cases or fewer, 2·P(Binomial(n, ½) < k) ≤ 0.05, whatever their distribution.

    Args:
        minima: [blocks], any unit, > 0.
        other_minima: [blocks] of the model compared to, same rounds.
        processes: n, that the rounds were spread over, as `numpy.array_split` does; None: one a round.

    Returns:
        Ratio and interval. Of fewer than `FEWEST` processes no difference is ever concluded; the interval then is the
        range of their ratios.

    Raises:
        ValueError: if the shapes differ or are empty.

    Source:
        W. R. Thompson, On confidence ranges for the median and other expectation distributions for populations of
        unknown distribution form, 1936. Rounds of one process are not independent: where things lie in memory favours
        one model for as long as it lives. A bootstrap over ten processes claimed a difference between equal files in
        more than one case of ten.
    """
    if minima.shape != other_minima.shape or minima.ndim != 1 or minima.size == 0:
        raise ValueError(f"paired block minima of shapes {minima.shape} and {other_minima.shape}")
    rounds = np.array_split(minima / other_minima, min(processes or minima.size, minima.size))
    ratios = sorted(float(np.median(of_one)) for of_one in rounds)
    middle = float(np.median(ratios))
    if len(ratios) < FEWEST:
        return Ratio(middle, ratios[0], ratios[-1], "no difference measured")
    outside = _outside(len(ratios))
    low, high = ratios[outside], ratios[-1 - outside]
    return Ratio(middle, low, high, verdict(low, high))


def _outside(count: int) -> int:
    """Returns how many of the least, and of the largest, of so many values may be left out of the median's interval."""
    left, chance = 0, 2.0 * 0.5**count
    while (chance := chance + 2.0 * math.comb(count, left + 1) * 0.5**count) <= 1 - _CONFIDENCE:
        left += 1
    return left


def counted_ratio(count: float, other: float) -> Ratio:
    """Compares two counts of instructions: their only noise is `COUNT_NOISE`, and they are not time."""
    ratio = count / other
    low, high = ratio * (1 - COUNT_NOISE), ratio * (1 + COUNT_NOISE)
    if count == other:
        return Ratio(1.0, 1.0, 1.0, "no difference measured")
    said: Verdict = "fewer instructions" if high < 1 else "more instructions" if low > 1 else "no difference measured"
    return Ratio(ratio, low, high, said)


def distant_ratio(minimum: float, other: float) -> Ratio:
    """Compares times of two runs apart: less than `DRIFT` is nothing, whatever each of them repeats to."""
    low, high = minimum / other * (1 - DRIFT), minimum / other * (1 + DRIFT)
    return Ratio(minimum / other, low, high, verdict(low, high))


def bounded_ratio(cost: float, other: float, error: float) -> Ratio:
    """Compares two estimates, each off by a factor of up to ``1 + error`` either way; nothing is concluded."""
    factor = 1 + error
    return Ratio(cost / other, cost / other / factor**2, cost / other * factor**2, "a bound")


def verdict(low: float, high: float) -> Verdict:
    """Returns what an interval of a latency ratio allows to say."""
    if high < 1:
        return "faster"
    return "slower" if low > 1 else "no difference measured"


def percentiles(times: np.ndarray) -> tuple[float, float, float]:
    """Returns the 50th, 90th and 99th percentile of `times` (any shape), linearly interpolated."""
    p50, p90, p99 = (float(value) for value in np.percentile(times, [50, 90, 99]))
    return p50, p90, p99
