"""Labels, constants and needs of small graphs, against values worked out by hand."""

import numpy as np
import pytest
from onnx import helper
from strategies import make_model

from compress.channels.cost import CostModel
from compress.channels.groups import Groups
from compress.channels.rules import elementwise
from compress.channels.sweep import sweep
from compress.channels.trace import trace
from compress.onnx_io.cost import onnx_cost
from compress.onnx_io.graph import channel_graph

F = np.float32


def node(operator, inputs, outputs, **attributes):
    return helper.make_node(operator, inputs.split(" "), outputs.split(" "), **attributes)


def traced(nodes, constants, *, side=3, channels=1, fold=True, outputs=("out",), epsilon=0.0, opset=17):
    model = make_model(nodes, {"in": (1, channels, side, side)}, dict.fromkeys(outputs), constants, opset=opset)
    return trace(channel_graph(model), fold=fold, epsilon=epsilon)


def values(found, name):
    return found.values[name].reshape(-1).tolist() if name in found.values else None


DEAD = {"w0": F([[[[1]]], [[[0]]], [[[0]]]]), "b0": F([0, 2, 0])}  # channels: varies, 2, 0
FIRST = node("Conv", "in w0 b0", "x")
NAN = pytest.approx(float("nan"), nan_ok=True)


@pytest.mark.parametrize(
    ("operator", "attributes", "more", "expected"),
    [
        ("Relu", {}, {}, [NAN, 2, 0]),
        ("Neg", {}, {}, [NAN, -2, 0]),
        ("LeakyRelu", {"alpha": 0.5}, {}, [NAN, 2, 0]),
        ("Sigmoid", {}, {}, [NAN, pytest.approx(1 / (1 + np.exp(-2))), 0.5]),
        ("MaxPool", {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1]}, {}, [NAN, 2, 0]),
        ("AveragePool", {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1]}, {}, [NAN, 2, 0]),
        ("AveragePool", {"kernel_shape": [2, 2], "pads": [1] * 4, "count_include_pad": 1}, {}, [NAN, 0.5, 0]),
        ("AveragePool", {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER", "count_include_pad": 1}, {}, [NAN, 0.5, 0]),
        ("AveragePool", {"kernel_shape": [2, 2], "count_include_pad": 1}, {}, [NAN, 2, 0]),
        ("GlobalAveragePool", {}, {}, [NAN, 2, 0]),
        ("Add", {}, {"k": F([[[1]], [[1]], [[1]]])}, [NAN, 3, 1]),
        ("Mul", {}, {"k": F([[[0]], [[3]], [[1]]])}, [0, 6, 0]),
        ("Concat", {"axis": 1}, {"k": F(np.full((1, 1, 3, 3), 7))}, [NAN, 2, 0, 7]),
        ("BatchNormalization", {"epsilon": 0.0},
         {"s": F([0, 3, 1]), "b": F([5, 1, 0]), "m": F([0, 1, 0]), "v": F([1, 4, 1])}, [5, 2.5, 0]),
    ],
)  # fmt: skip
def test_constants_follow_the_operator(operator, attributes, more, expected):
    last = node(operator, " ".join(["x", *more]), "out", **attributes)
    found = traced([FIRST, last], DEAD | more)
    value = found.values["out"]
    assert value.take([0], 2).take([0], 3).reshape(-1).tolist() == expected


@pytest.mark.parametrize(
    ("operator", "more", "worked_out"),
    [
        ("Clip", {"low": F(0), "high": F(6)}, False),
        ("Mul", {"k": F([[[3]], [[1]], [[2]]])}, False),
        ("Mul", {"k": F([[[3]], [[0]], [[2]]])}, True),
        ("Pow", {"k": F(0)}, True),
    ],
)
def test_what_no_known_operand_decides_is_not_worked_out(operator, more, worked_out, monkeypatch):
    asked = []
    monkeypatch.setattr(elementwise, "combine", lambda node, trace, function: asked.append(node.operator))
    traced([node(operator, " ".join(["in", *more]), "out")], more)
    assert bool(asked) == worked_out


@pytest.mark.parametrize(
    ("pads", "expected"),
    [([0] * 4, [6 * 9 + 1] * 2), ([1] * 4, [6 * 4 + 1, 6 * 9 + 1])],
)
def test_a_convolution_of_constants_is_one_and_padding_shows_it(pads, expected):
    w = np.zeros((3, 3, 3, 3), F)
    w[0, 0], w[1, 1], w[2, 2] = 1, 3, 5  # reads what varies; reads 2: 3·2·9 + 1; reads 0
    found = traced([FIRST, node("Conv", "x w b", "out", pads=pads)], DEAD | {"w": w, "b": F([0, 1, 4])}, side=5)
    value = np.broadcast_to(found.values["out"], found.graph.shapes["out"])[0]
    assert [value[1, 0, 0], value[1, 1, 1]] == expected
    assert np.isnan(value[0]).all()
    assert (value[2] == 4).all()


def test_a_depthwise_convolution_keeps_channels_apart():
    w = np.full((3, 1, 1, 1), 3, F)
    found = traced([FIRST, node("Conv", "x w", "out", group=3)], DEAD | {"w": w})
    assert values(found, "out") == [NAN, 6, 0]


def test_gemm_scales_product_and_bias():
    nodes = [FIRST, node("GlobalMaxPool", "x", "p"), node("Flatten", "p", "f"),
             node("Gemm", "f w b", "out", alpha=0.5, beta=3.0, transB=1)]  # fmt: skip
    found = traced(nodes, DEAD | {"w": F([[1, 0, 0], [0, 4, 9]]), "b": F([1, 2])})
    assert values(found, "out") == [NAN, 0.5 * 8 + 6]


def tied(found, *positions):
    classes = found.labels.classes()
    return [
        int(classes[next(f for f in found.labels.of(name) if f.shape[axis] > 1).reshape(-1)[index]])
        for name, axis, index in positions
    ]


def weights(*shapes):
    generator = np.random.default_rng(0)
    return {f"w{index}": generator.standard_normal(shape).astype(F) for index, shape in enumerate(shapes)}


def test_a_sum_ties_its_producers_and_its_consumer():
    nodes = [node("Conv", "in w0", "a"), node("Conv", "in w1", "b"), node("Add", "a b", "s"),
             node("Conv", "s w2", "out")]  # fmt: skip
    found = traced(nodes, weights((3, 1, 1, 1), (3, 1, 1, 1), (2, 3, 1, 1)))
    first, second = (tied(found, ("w0", 0, i), ("w1", 0, i), ("w2", 1, i)) for i in (0, 1))
    assert len(set(first)) == len(set(second)) == 1
    assert first != second


def test_a_sum_loses_the_intersection_never_the_union():
    constants = weights((4, 1, 1, 1), (4, 1, 1, 1), (2, 4, 1, 1))
    constants["w0"][[0, 1]] = 0
    constants["w1"][[1, 2]] = 0
    nodes = [node("Conv", "in w0", "a"), node("Conv", "in w1", "b"), node("Add", "a b", "s"),
             node("Conv", "s w2", "out")]  # fmt: skip
    kept = sweep(traced(nodes, constants))
    assert [kept.mask(name, axis).tolist() for name, axis in (("w0", 0), ("w1", 0), ("w2", 1))] == [
        [True, False, True, True]
    ] * 3


def test_channels_that_only_feed_each_other_go():
    """A residual stream whose channel 2 is read by its block alone, which writes back to channel 2 alone."""
    constants = weights((3, 1, 1, 1), (2, 3, 1, 1), (3, 2, 1, 1), (2, 3, 1, 1))
    constants["w1"][0, 2] = 0  # block unit 0 reads the others, unit 1 reads all
    constants["w2"][:, 1] = [[[0]], [[0]], [[1]]]  # unit 1 writes channel 2 only
    constants["w3"][:, 2] = 0  # nothing outside reads channel 2
    nodes = [node("Conv", "in w0", "x"), node("Conv", "x w1", "h"), node("Relu", "h", "r"), node("Conv", "r w2", "d"),
             node("Add", "x d", "s"), node("Conv", "s w3", "out")]  # fmt: skip
    kept = sweep(traced(nodes, constants))
    assert kept.mask("w0", 0).tolist() == [True, True, False]
    assert kept.mask("w1", 0).tolist() == [True, False]


def test_an_axis_keeps_one_position():
    constants = weights((3, 1, 1, 1), (2, 3, 1, 1))
    constants["w1"][:] = 0
    kept = sweep(traced([node("Conv", "in w0", "x"), node("Conv", "x w1", "out")], constants))
    assert (kept.count("x", 1), kept.count("out", 1)) == (1, 2)
    assert {restored.reason for restored in kept.restored} == {"a tensor keeps at least one channel"}


def test_a_slice_of_one_keeps_it():
    constants = weights((3, 1, 1, 1), (1, 1, 1, 1)) | {"s": np.array([1]), "e": np.array([2]), "ax": np.array([1])}
    constants["w1"][:] = 0
    nodes = [node("Conv", "in w0", "x"), node("Slice", "x s e ax", "y"), node("Conv", "y w1", "out")]
    assert sweep(traced(nodes, constants)).mask("x", 1).tolist() == [False, True, False]


def test_only_whole_slices_go_where_two_axes_carry_channels():
    """x (4) viewed as 2 × 2, transposed and flattened: the columns of the product read (0,0), (1,0), (0,1), (1,1)."""
    shuffle = [node("Conv", "in w0", "x"), node("GlobalMaxPool", "x", "p"), node("Reshape", "p s", "g"),
               node("Transpose", "g", "t", perm=[0, 2, 1]), node("Reshape", "t f", "z"),
               node("MatMul", "z w1", "out")]  # fmt: skip
    shapes = {"s": np.array([0, 2, 2]), "f": np.array([0, 4])}
    for zero, mask in (([0], [True] * 4), ([0, 2], [False, False, True, True]), ([0, 1], [False, True, False, True])):
        constants = weights((4, 1, 1, 1), (4, 2))
        constants["w1"][zero] = 0
        assert sweep(traced(shuffle, constants | shapes)).mask("w0", 0).tolist() == mask, zero


def test_constants_that_no_bias_can_stand_for_stay():
    """A known value that differs over space is not one number."""
    constants = {**DEAD, "k": np.arange(27, dtype=F).reshape(1, 3, 3, 3), "w": np.ones((1, 3, 1, 1), F)}
    nodes = [FIRST, node("Add", "x k", "s"), node("Conv", "s w", "out")]
    assert sweep(traced(nodes, constants)).mask("x", 1).tolist() == [True] * 3


@pytest.mark.parametrize(
    ("pads", "side", "kept"), [([0] * 4, 1, [True, False, False]), ([1] * 4, 3, [True, True, False])]
)
def test_zero_padding_keeps_constants_other_than_zero(pads, side, kept):
    constants = DEAD | {"w": np.ones((1, 3, side, side), F)}
    found = sweep(traced([FIRST, node("Conv", "x w", "out", pads=pads)], constants))
    assert found.mask("x", 1).tolist() == kept


def test_without_folding_a_constant_is_needed():
    nodes = [FIRST, node("Conv", "x w", "out")]
    found = sweep(traced(nodes, DEAD | {"w": np.ones((1, 3, 1, 1), F)}, fold=False))
    assert found.mask("x", 1).tolist() == [True, True, False]


def test_tiny_weights_are_zero_only_with_epsilon():
    constants = weights((2, 1, 1, 1), (1, 2, 1, 1))
    constants["w1"][0, :, 0, 0] = [1, 1e-10]
    nodes = [node("Conv", "in w0", "x"), node("Conv", "x w1", "out")]
    assert sweep(traced(nodes, constants)).mask("x", 1).tolist() == [True, True]
    assert sweep(traced(nodes, constants, epsilon=2**-24)).mask("x", 1).tolist() == [True, False]


def test_infinite_weights_give_no_scale():
    found = traced([node("Conv", "in w0", "out")], {"w0": F([[[[np.inf]]], [[[1]]]])}, epsilon=2**-24)
    assert found.nonzero("w0").all()


def test_further_outputs_without_a_rule_pin_what_they_touch():
    constants = weights((3, 1, 1, 1), (2, 3, 1, 1))
    constants["w1"][:, 1] = 0
    nodes = [node("Conv", "in w0", "x"), node("Dropout", "x", "y mask"), node("Conv", "y w1", "out")]
    assert sweep(traced(nodes, constants)).mask("x", 1).tolist() == [True, False, True]
    nodes.append(node("Not", "mask", "unmasked"))
    pinned = traced(nodes, constants, outputs=("out",))
    assert sweep(pinned).mask("x", 1).all()
    assert any("no rule for its output" in pin.reason for pin in pinned.labels.pins)


def test_groups_count_and_cost_by_hand():
    """Depthwise in the middle: w0 rows, w1 rows and w2 columns are one group of three units."""
    nodes = [node("Conv", "in w0", "x"), node("Conv", "x w1", "d", group=3), node("Conv", "d w2", "out")]
    model = make_model(nodes, {"in": (1, 1, 4, 4)}, {"out": (1, 2, 4, 4)},
                       weights((3, 1, 1, 1), (3, 1, 1, 1), (2, 3, 1, 1)))  # fmt: skip
    groups = Groups(trace(channel_graph(model)), ["w0", "w1", "w2"])
    assert [(group.size, [(m.parameter, m.axis, m.role) for m in group.members]) for group in groups.groups] == [
        (3, [("w0", 0, "out"), ("w1", 0, "out"), ("w2", 1, "in")])
    ]
    cost = CostModel(groups)
    assert (cost.everything().parameters, cost.everything().macs) == (12, 12 * 16)
    assert cost.everything().macs == onnx_cost(model).macs
    smaller = cost(np.array([True, False, True]))
    assert (smaller.parameters, smaller.macs) == (2 + 2 + 4, 8 * 16)
    kept = groups.kept(np.array([True, False, True]))
    assert [kept.count(*place) for place in (("w0", 0), ("w1", 0), ("w2", 1))] == [2, 2, 2]


def test_flatten_gives_each_channel_all_of_its_positions():
    nodes = [node("Conv", "in w0", "x"), node("Flatten", "x", "f"), node("MatMul", "f w1", "out")]
    groups = Groups(traced(nodes, weights((2, 1, 1, 1), (18, 3))), ["w0", "w1"])
    assert groups.groups[0].members[1].unit.tolist() == [0] * 9 + [1] * 9


def test_a_padded_shortcut_ties_the_middle_and_frees_the_ends():
    constants = weights((2, 1, 1, 1), (4, 2, 1, 1), (1, 4, 1, 1)) | {"p": np.array([0, 1, 0, 0, 0, 1, 0, 0])}
    nodes = [node("Conv", "in w0", "x"), node("Pad", "x p", "short"), node("Conv", "x w1", "d"),
             node("Add", "short d", "s"), node("Conv", "s w2", "out")]  # fmt: skip
    groups = Groups(traced(nodes, constants), ["w0", "w1", "w2"])
    members = {(m.parameter, m.axis): m.unit.tolist() for m in groups.groups[0].members}
    assert members[("w1", 0)] == members[("w2", 1)] == [2, 0, 1, 3]
    assert members[("w0", 0)] == members[("w1", 1)] == [0, 1]


def test_a_single_channel_that_is_padded_to_three_is_needed_once():
    constants = weights((1, 1, 1, 1), (2, 3, 1, 1)) | {"p": np.array([0, 1, 0, 0, 0, 1, 0, 0])}
    nodes = [node("Conv", "in w0", "x"), node("Pad", "x p", "y"), node("Conv", "y w1", "out")]
    assert traced(nodes, constants).needs["x"].shape == (1, 1, 1, 1)


def test_weights_that_the_graph_makes_itself_are_known_in_full():
    constants = {"s": np.array([4, 1, 3, 3]), "b": F([1, 2, 3, 4])}
    nodes = [node("ConstantOfShape", "s", "w"), node("Conv", "in w b", "out")]
    model = make_model(nodes, {"in": (1, 1, 3, 3)}, {"out": None}, constants)
    assert values(trace(channel_graph(model)), "out") == [1, 2, 3, 4]


def test_what_holds_for_an_example_size_alone_is_no_constant():
    nodes = [node("Shape", "in", "s"), node("ConstantOfShape", "s", "z"), node("Add", "in z", "out")]
    graphs = [channel_graph(make_model(nodes, {"in": (n, 2)}, {"out": (n, 2)}, {})) for n in ("N", 2)]
    assert ["z" in graph.constants for graph in graphs] == [False, True]


def test_the_sizes_that_a_tensor_is_made_of_are_all_needed():
    constants = {"s": np.array([4, 1, 3, 3]), "b": F([1, 2, 3, 4]), "w1": np.ones((2, 4, 1, 1), F)}
    nodes = [node("Shape", "in", "t"), node("Add", "s t", "u"), node("ConstantOfShape", "u", "w"),
             node("Conv", "in w1", "out")]  # fmt: skip
    model = make_model(nodes, {"in": ("N", 4, 3, 3)}, {"out": None}, constants)
    found = trace(channel_graph(model))
    assert sweep(found).mask("s", 0).all()
