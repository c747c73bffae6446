"""Schedules: every one reaches the ratio; the equations by hand."""

import pytest

from compress.errors import RecipeError
from compress.prune.options import build
from compress.prune.schedules import schedules


@pytest.mark.parametrize("name", list(schedules))
@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.95])
def test_shares_rise_to_the_ratio(name, ratio):
    ratios = build(schedules, name, {}).ratios(ratio)
    assert ratios[-1] == pytest.approx(ratio)
    assert list(ratios) == sorted(ratios)
    assert all(0 <= share < 1 for share in ratios)


def test_one_shot_cuts_once():
    schedule = build(schedules, "one-shot", {})
    assert schedule.ratios(0.6) == (0.6,)
    assert schedule.epochs_between == 0


def test_iterative_goes_in_equal_steps():
    schedule = build(schedules, "iterative", {"rounds": 4, "epochs": 7})
    assert schedule.ratios(0.8) == pytest.approx((0.2, 0.4, 0.6, 0.8))
    assert schedule.epochs_between == 7


def test_one_round_is_not_iterative():
    with pytest.raises(RecipeError, match="rounds"):
        build(schedules, "iterative", {"rounds": 1})
