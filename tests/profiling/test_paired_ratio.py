import numpy as np
import pytest

from compress.profiling.statistics import FEWEST, paired_ratio, percentiles, verdict


def test_drift_of_the_machine_cancels():
    drift = np.linspace(1, 3, 20)
    found = paired_ratio(80 * drift, 100 * drift)
    assert (found.ratio, found.low, found.high) == pytest.approx((0.8, 0.8, 0.8))
    assert found.verdict == "faster"


def test_one_disturbed_block_changes_nothing():
    minima = np.full(20, 80.0)
    minima[3] = 8000
    assert paired_ratio(minima, np.full(20, 100.0)).ratio == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.8, 0.99, "faster"),
        (0.8, 1.0, "no difference measured"),
        (0.99, 1.01, "no difference measured"),
        (1.0, 1.2, "no difference measured"),
        (1.01, 1.2, "slower"),
    ],
)
def test_an_interval_that_holds_1_concludes_nothing(low, high, expected):
    assert verdict(low, high) == expected


@pytest.mark.parametrize(("count", "left"), [(6, 0), (8, 0), (9, 1), (10, 1), (11, 1), (12, 2), (20, 5), (30, 9)])
def test_the_interval_by_hand(count, left):
    """From tables of the sign test: of ten values the second least and the second largest, 97.9 %."""
    minima = np.random.default_rng(0).permutation(np.arange(1.0, count + 1))
    found = paired_ratio(minima, np.ones(count))
    assert (found.low, found.high) == (1 + left, count - left)
    assert found.ratio == (count + 1) / 2


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        found = paired_ratio(90 * generator.lognormal(0, 0.02, 20), 100 * generator.lognormal(0, 0.02, 20))
        inside += found.low <= 0.9 <= found.high
    assert 180 <= inside <= 200


@pytest.mark.parametrize("few", range(1, FEWEST))
def test_few_blocks_conclude_nothing(few):
    assert paired_ratio(np.full(few, 1.0), np.full(few, 9.0)).verdict == "no difference measured"
    assert paired_ratio(np.full(20, 1.0), np.full(20, 9.0), few).verdict == "no difference measured"
    assert paired_ratio(np.full(20, 1.0), np.full(20, 9.0), FEWEST).verdict == "faster"


def test_what_a_process_was_dealt_is_no_difference():
    """Ten processes of ten rounds, each of which favours one of two equal models by about 1 %."""
    generator = np.random.default_rng(0)
    wrong = {None: 0, 10: 0}
    for _ in range(200):
        dealt = np.repeat(generator.lognormal(0, 0.01, 10), 10) * generator.lognormal(0, 0.001, 100)
        for processes in wrong:
            found = paired_ratio(100 * dealt, np.full(100, 100.0), processes)
            wrong[processes] += found.verdict != "no difference measured"
    assert wrong[10] <= 10
    assert wrong[None] >= 60


@pytest.mark.parametrize("shapes", [((3,), (4,)), ((0,), (0,)), ((2, 2), (2, 2))])
def test_unpaired_times_are_a_programming_error(shapes):
    with pytest.raises(ValueError, match="paired"):
        paired_ratio(np.ones(shapes[0]), np.ones(shapes[1]))


def test_percentiles_by_hand():
    assert percentiles(np.arange(101).reshape(1, 101)) == (50, 90, 99)
