import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import networks  # noqa: F401 - registers the profile

from compress.channels.cells import only_axis, project, regroup, same, shrink

STABLE = settings(settings.get_profile("stable"), max_examples=200)


@st.composite
def reshapes(draw):
    """Draws two shapes of equal size, and a cell array that covers some axes of the first."""
    factors = draw(st.lists(st.sampled_from([1, 2, 2, 3, 5]), min_size=0, max_size=5))

    def grouping():
        order, cuts = list(factors), sorted(draw(st.lists(st.integers(0, len(factors)), max_size=3)))
        parts = [order[a:b] for a, b in zip([0, *cuts], [*cuts, len(order)], strict=True)]
        return tuple(int(np.prod(part)) for part in parts)

    before, after = grouping(), grouping()
    covered = [draw(st.booleans()) for _ in before]
    cells = np.random.default_rng(draw(st.integers(0, 99))).integers(
        0, 3, [n if c else 1 for n, c in zip(before, covered, strict=True)]
    )
    return before, after, cells


@STABLE
@given(reshapes())
def test_regroup_is_reshape_of_the_whole(case):
    before, after, cells = case
    moved = regroup(cells, before, after)
    assert moved.ndim == len(after)
    assert (np.broadcast_to(moved, after) == np.broadcast_to(cells, before).reshape(after)).all()


@STABLE
@given(reshapes())
def test_regroup_covers_no_axis_without_need(case):
    before, after, cells = case
    moved = regroup(np.zeros_like(cells), before, after)
    if before != after:
        matched = [size for size, other in zip(before, after, strict=False) if size == other]
        assert moved.size <= max(1, int(np.prod(matched or [1])), cells.size)
    assert moved.max(initial=0) == 0


def test_regroup_takes_axes_of_size_zero():
    assert regroup(np.ones((1, 1)), (0, 3), (3, 0)).shape == (3, 0)


@pytest.mark.parametrize(
    ("cells", "shape", "expected"),
    [
        (np.array([[True, False], [False, False]]), (1, 2), [[True, False]]),
        (np.array([[True, False], [False, False]]), (2, 1), [[True], [False]]),
        (np.array([[False, True], [False, False]]), (2,), [False, True]),
        (np.array([[False, True]]), (), True),
    ],
)
def test_project_sums_over_what_was_broadcast(cells, shape, expected):
    assert np.array_equal(project(cells, shape), expected)


def test_shrink_gives_size_one_to_axes_without_change():
    cells = np.array([[1.0, np.nan], [1.0, np.nan]])
    assert np.array_equal(shrink(cells, (0, 1)), [[1.0, np.nan]], equal_nan=True)


def test_same_takes_nan_as_equal_and_only_nan():
    assert same(np.array([np.nan, 1]), np.array([np.nan, 1]))
    assert not same(np.array([np.nan, 1]), np.array([0, 1]))


def test_only_axis_asks_all_other_axes():
    cells = np.zeros((2, 3, 2), bool)
    cells[1, 2, 0] = True
    assert only_axis(cells, 1, 3).tolist() == [False, False, True]
    assert only_axis(np.ones((1, 1), bool), 1, 4).tolist() == [True] * 4
