import json

import numpy as np
import pytest

from compress.channels.plan import Plan
from compress.errors import ModelFileError


def test_json_round_trip():
    plan = Plan({"a.weight": {0: (0, 2), 1: (1,)}}, "ab12")
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_apply_takes_positions_and_leaves_other_arrays_alone():
    plan = Plan({"w": {0: (0, 2), 1: (1,)}})
    assert plan.apply("w", np.arange(6).reshape(3, 2)).tolist() == [[1], [5]]
    assert plan.apply("v", np.arange(3)).tolist() == [0, 1, 2]


def test_then_counts_in_what_the_first_leaves():
    both = Plan({"w": {0: (1, 3, 4)}}, "ab").then(Plan({"w": {0: (0, 2), 1: (0,)}, "v": {0: (1,)}}))
    assert both == Plan({"w": {0: (1, 4), 1: (0,)}, "v": {0: (1,)}}, "ab")


def test_then_refuses_what_the_first_does_not_leave():
    with pytest.raises(ModelFileError, match=r"position 3 of 2 on axis 0"):
        Plan({"w": {0: (1, 3)}}).then(Plan({"w": {0: (3,)}}))


@pytest.mark.parametrize("keep", [{0: (3,)}, {2: (0,)}])
def test_apply_refuses_positions_that_are_not_there(keep):
    with pytest.raises(ModelFileError, match="does not fit parameter 'w'"):
        Plan({"w": keep}).apply("w", np.zeros((3, 2)))


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"keep": []},
        {"keep": {"w": [0]}},
        {"keep": {"w": {"x": [0]}}},
        {"keep": {"w": {"-1": [0]}}},
        {"keep": {"w": {"0": [1, 0]}}},
        {"keep": {"w": {"0": [1, 1]}}},
        {"keep": {"w": {"0": [-1]}}},
        {"keep": {"w": {"0": []}}},
        {"keep": {"w": {"0": "01"}}},
        {"keep": {"w": {"0": [0.5]}}},
        {"keep": {"w": {"0": None}}},
    ],
)
def test_a_malformed_plan_is_one_line(value):
    with pytest.raises(ModelFileError, match=r"^not a plan") as caught:
        Plan.from_dict(value)
    assert "\n" not in str(caught.value)
