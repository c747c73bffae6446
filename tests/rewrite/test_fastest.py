"""The choice among measured models: what may be said of pairs, by hand-made latencies."""

from dataclasses import dataclass

import numpy as np
import pytest

from compress.profiling.statistics import paired_ratio
from compress.rewrite.fastest import LOSS, Found, smallest_as_fast

PROCESSES = 10


@dataclass(frozen=True)
class Given:
    """An interval."""

    ratio: float
    low: float
    high: float


def over_one(*rows):
    """Pairs of models of which only the intervals over one of them, whose row is 1, are given."""
    known = [Given(*row) if isinstance(row, tuple) else Given(row, row, row) for row in rows]

    def pairs(one, other):
        if one == other:
            return Given(1, 1, 1)
        a, b = known[one], known[other]
        return Given(a.ratio / b.ratio, a.low / b.high, a.high / b.low)

    return pairs


def timed(noise, *medians):
    """Pairs of models by made-up times: two rounds in each of ten processes, every one off by up to `noise`.

    What a process is dealt moves all its rounds, and rounds move all models alike, by up to a half.
    """
    random = np.random.default_rng(0)
    rounds = 1 + random.random(2 * PROCESSES) / 2
    errors = [np.repeat(1 + noise * random.uniform(-1, 1, PROCESSES), 2) for _ in medians]
    times = [median * rounds * error for median, error in zip(medians, errors, strict=True)]
    return lambda one, other: paired_ratio(times[one], times[other], PROCESSES)


# none, 4, 8, 16, all over 16, as a busy machine gave them; the intervals of 4 and all are as wide as that of 8.
BUSY = ((1.057, 0.996, 1.089), (0.994, 0.970, 1.015), (0.980, 0.947, 0.994), 1.0, (1.026, 0.995, 1.050))


def test_an_interval_that_touches_one_is_not_as_fast():
    found = smallest_as_fast(5, over_one(*BUSY))
    # 8 is shown to be faster than 16. Nothing is shown to be as fast as 8.
    assert (found.reference, found.chosen) == (2, 2)
    # none over 8 lies within 1.002–1.150, 4 within 0.976–1.072: neither is told from a loss of 2 %.
    assert found.perhaps_as_fast == (0, 1)
    assert not found.settled


def test_what_is_told_apart_is_settled():
    assert smallest_as_fast(5, timed(0.001, 1.057, 0.994, 0.980, 1.000, 1.026)) == Found(2, 1)
    assert smallest_as_fast(5, timed(0.001, 1.057, 1.010, 0.980, 1.000, 1.026)) == Found(2, 2)
    assert smallest_as_fast(5, timed(0.001, 0.99, 0.994, 0.980, 1.000, 1.026)) == Found(2, 0)


def test_a_busy_machine_takes_nothing_for_granted():
    found = smallest_as_fast(5, timed(0.2, 1.057, 0.994, 0.980, 1.000, 1.026))
    assert not found.settled
    assert all(found.chosen <= found.reference for _ in found.perhaps_as_fast)
    # Whatever was drawn, what is chosen is the reference or shown to be as fast.
    for noise in (0.01, 0.03, 0.1, 0.3):
        pairs = timed(noise, 1.057, 0.994, 0.980, 1.000, 1.026)
        found = smallest_as_fast(5, pairs)
        assert found.chosen == found.reference or pairs(found.chosen, found.reference).high <= 1 + LOSS
        assert not any(pairs(other, found.reference).high < 1 for other in range(5))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (((1.0, 1.0, 1.0),), Found(0, 0)),
        # The upper end of what it may lose counts, and may be the loss itself.
        (((1.01, 1.0, 1.02), 1.0), Found(1, 0)),
        (((1.01, 1.0, 1.021), 1.0), Found(1, 1, perhaps_as_fast=(0,))),
        (((1.03, 1.021, 1.04), 1.0), Found(1, 1)),
        # A larger one is not taken, but may be faster.
        ((1.0, (1.01, 0.97, 1.05)), Found(0, 0, perhaps_faster=(1,))),
        ((1.0, (1.01, 0.99, 1.05)), Found(0, 0)),
        # Equal ones: the smallest.
        ((1.0, 1.0, 1.0), Found(0, 0)),
        # The second is not the least by its ratio, but the third, which is, was told from it by nothing.
        ((1.5, 1.0, (0.99, 0.5, 2.0)), Found(2, 2, perhaps_as_fast=(0, 1))),
    ],
)
def test_the_rule(rows, expected):
    assert smallest_as_fast(len(rows), over_one(*rows)) == expected


def test_who_is_least_over_all_gives_way_to_one_that_is_shown_to_be_faster():
    ratios = {(0, 1): (1.005, 1.001, 1.009), (0, 2): (0.5, 0.4, 0.6), (1, 2): (0.9, 0.8, 1.0)}

    def pairs(one, other):
        if one == other:
            return Given(1, 1, 1)
        if (one, other) in ratios:
            return Given(*ratios[one, other])
        ratio, low, high = ratios[other, one]
        return Given(1 / ratio, 1 / high, 1 / low)

    # 0 has the least latency over all three, but 1 is shown to be faster than 0.
    assert smallest_as_fast(3, pairs) == Found(1, 0)


def test_a_circle_ends():
    def pairs(one, other):
        ratio = (1, 0.9, 1.1)[(other - one) % 3]
        return Given(ratio, ratio, ratio)

    found = smallest_as_fast(3, pairs)
    assert found.reference in range(3)
    assert not found.settled
