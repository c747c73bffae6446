"""Value numbering of rows, and what likeness must not claim."""

import numpy as np
import pytest
from onnx import helper
from strategies import make_model

from compress.channels import rows as compared
from compress.channels.alike import likeness
from compress.channels.alike_elementwise import _sum
from compress.channels.multiples import normalised
from compress.channels.numbering import ONE, Numbering
from compress.channels.trace import trace
from compress.onnx_io.graph import channel_graph

F = np.float32


def known(nodes, constants, inputs, outputs):
    return likeness(trace(channel_graph(make_model(nodes, inputs, outputs, constants)), epsilon=2**-24))


def test_equal_rows_have_one_id_in_any_call_and_under_one_signature():
    numbers = Numbering(0.0)
    keys, rows = np.array([[1], [2], [1]]), np.array([[0.5, 1], [0.5, 1], [0.5, 1]])
    first = numbers.number("a", keys, rows)
    assert first[0] == first[2] != first[1]
    assert ONE not in first
    assert (numbers.number("a", keys[::-1], rows) == first[::-1]).all()
    assert not set(numbers.number("b", keys, rows)) & set(first)


def test_rows_that_grow_are_compared_with_those_that_they_reach_back_to():
    numbers = Numbering(0.0)
    first = numbers.number("a", np.array([[5, 1], [2, 6], [7, 7]]))
    assert (numbers.number("a", np.array([[2, 6], [7, 7]])) == first[1:]).all()
    later = numbers.number("a", np.array([[7, 6], [1, 8]]))
    assert not set(later) & set(first)
    assert (numbers.number("a", np.array([[1, 8], [5, 1], [9, 9]]))[:2] == [later[1], first[0]]).all()


def test_nothing_has_no_ids():
    numbers = Numbering(0.0)
    for keys in (np.zeros((0, 1), np.int64), np.array([[3]]), np.zeros((0, 1), np.int64), np.array([[3]])):
        assert numbers.number("a", keys).shape == (len(keys),)
    assert numbers.number("a", np.array([[3]])) == numbers.number("a", np.array([[3]]))


def test_rows_are_equal_within_the_tolerance_of_each_entry():
    numbers = Numbering(1e-6)
    row = np.array([1.0, 1e-3, 0.0])
    rows = row + np.array([[0, 0, 0], [5e-7, 0, 0], [0, 5e-7, 0], [0, 0, 1e-9]])
    strict = numbers.number("strict", np.zeros((4, 0)), rows)
    assert strict[0] == strict[1]
    assert len(set(strict)) == 3
    assert len(set(numbers.number("loose", np.zeros((4, 0)), rows, floor=1.0))) == 1


def test_keys_whose_marks_meet_are_told_apart(monkeypatch):
    monkeypatch.setattr(compared, "_factors", lambda count: np.zeros(count, np.uint64))
    found = Numbering(0.0).number("a", np.array([[1], [2], [1]]))
    assert found[0] == found[2] != found[1]


def test_rows_whose_projections_meet_are_told_apart():
    rows = np.random.default_rng(0).standard_normal((40, 3))
    direction = compared.direction(3)
    rows[:, 0] -= (rows @ direction) / direction[0]
    assert len(set(Numbering(1e-7).number("a", np.zeros((40, 0)), rows))) == 40


def test_a_row_is_divided_by_its_largest_entry_that_counts():
    rows, scales = normalised(np.array([[1.0, -4, 9], [0, 0, 3]]), leading=2)
    assert (scales == [-4, 0]).all()
    assert (rows == [[-0.25, 1, -2.25], [0, 0, 0]]).all()


def test_many_channels_are_numbered():
    gain = np.repeat(np.linspace(1, 100, 25_000), 2).astype(F).reshape(-1, 1, 1)
    weight = np.ones((50_000, 1, 1, 1), F)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Mul", ["c", "g"], ["m"]),
             helper.make_node("Sigmoid", ["m"], ["y"])]  # fmt: skip
    found = known(nodes, {"w": weight, "g": gain}, {"x": (1, 1, 2, 2)}, {"y": (1, 50_000, 2, 2)})
    assert len(np.unique(found.cells["c"].ids)) == 1
    assert len(np.unique(found.cells["y"].ids)) == 25_000


@pytest.mark.parametrize("size", ["N", 2])
def test_an_axis_of_symbolic_size_is_not_taken_apart(size):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Reshape", ["h", "s"], ["y"])]
    constants = {"w": np.eye(3, 4, dtype=F), "s": np.array([-1])}
    found = known(nodes, constants, {"x": (size, 3)}, {"y": (None,)})
    assert found.cells["h"].ids.shape == (1, 4)
    assert found.cells["y"].ids.size == (1 if size == "N" else 8)


def test_inputs_of_symbolic_sizes_are_not_like_constants_of_their_example_size():
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        helper.make_node("Mul", ["x", "zero"], ["z"]),
        helper.make_node("Add", ["p", "z"], ["wide"]),
        helper.make_node("Identity", ["p"], ["same"]),
    ]
    found = known(nodes, {"zero": F(0)}, {"x": ("N", 3, "H", "W")}, {"wide": (None,) * 4, "same": (None,) * 4})
    assert (found.cells["same"].ids == found.cells["p"].ids).all()
    assert (found.cells["wide"].ids != found.cells["p"].ids).all()


def test_products_of_integers_are_not_divided_as_numbers_with_a_fraction():
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=7),
        helper.make_node("Div", ["i", "two"], ["d"]),
        helper.make_node("Cast", ["d"], ["y"], to=1),
    ]
    found = known(nodes, {"two": np.array(2)}, {"x": ("N", 3)}, {"y": ("N", 3)})
    assert found.cells["d"].ids != found.cells["i"].ids


@pytest.mark.parametrize("count", [3, 40])
def test_rows_that_few_numbers_do_not_tell_apart_are_told_apart_by_the_others(count: int) -> None:
    rows = np.zeros((2 * count, 100))
    rows[:, 0] = 1
    # The last number is none of those that are summed first.
    rows[:, -1] = np.tile(np.arange(count), 2) / count
    ids = Numbering(1e-6).number("rows", np.zeros((2 * count, 1)), rows)
    assert len(set(ids[:count].tolist())) == count
    assert (ids[:count] == ids[count:]).all()


def test_outputs_of_a_weight_are_multiples_only_if_all_of_their_terms_and_the_bias_are():
    rng = np.random.default_rng(0)
    row = rng.standard_normal(50).astype(F)
    # A row that differs from another one in one place, whichever that is, or in the bias.
    weight = np.concatenate([row + np.eye(50, dtype=F), [row, 2 * row, -row, row]]).reshape(54, 50, 1, 1)
    bias = np.array([1.0] * 51 + [2, -1, 2], F)
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"])
    found = known([node], {"w": weight, "b": bias}, {"x": (1, 50, 2, 2)}, {"y": (1, 54, 2, 2)}).cells["y"]
    ids, scales = found.ids.reshape(-1), found.scales.reshape(-1)
    assert len(set(ids.tolist())) == 52
    assert ids[50] == ids[51] == ids[52] != ids[53]
    assert (scales[51:53] / scales[50] == [2, -1]).all()


def test_what_several_nodes_read_is_the_same_to_all_of_them():
    nodes = [helper.make_node("Gather", ["x", i], [y], axis=1) for i, y in (("i", "a"), ("i", "b"), ("j", "c"))]
    constants = {"i": np.array([1, 0]), "j": np.array([0, 1])}
    found = known(nodes, constants, {"x": (1, 3, 4)}, dict.fromkeys("abc", (1, 2, 4))).cells
    assert (found["a"].ids == found["b"].ids).all()
    assert (found["a"].ids != found["c"].ids).any()


def test_numbers_without_axes_have_likeness():
    nodes = [helper.make_node("Squeeze", ["x", "axes"], ["d"]), helper.make_node("Sigmoid", ["d"], ["y"]),
             helper.make_node("Sigmoid", ["d"], ["z"])]  # fmt: skip
    found = known(nodes, {"axes": np.array([0])}, {"x": (1,)}, {"y": (), "z": ()}).cells
    assert found["y"].ids == found["z"].ids != found["d"].ids


@pytest.mark.parametrize("whole", [[True, False, False], [False, True, False], [False, False, False]])
@pytest.mark.parametrize("place", [0, 1])
def test_one_term_beside_constants_is_the_sum_that_it_is_elsewhere(whole, place):
    found = known([helper.make_node("Relu", ["x"], ["y"])], {}, {"x": (1, 4)}, {"y": (1, 4)})
    ids, scales = np.zeros((3, 5), np.int64), np.zeros((3, 5))
    ids[place, :4], scales[place] = [5, 6, 7, 5], [2, -1, 0.5, 4, 3]
    scales[1 - place], scales[2] = [3, -2, 0, 6, 1], [0, 2, 0, 0, 1]
    # The last position is constant, so that all are looked at one by one.
    apart, factors = _sum(found, ids, scales, whole, ())
    alone, alone_factors = _sum(found, ids[:, :4], scales[:, :4], whole, ())
    assert (alone == apart[:4]).all()
    assert (alone_factors == factors[:4]).all()
    assert alone[0] == alone[3] != alone[1]
    assert (alone[1:3] == [6, 7]).tolist() == [whole[place]] * 2
