"""Axes of inputs that are left open: where the weights fit one size only, that one is written down."""

import numpy as np
import onnx
import pytest
from onnx import helper
from strategies import make_model

from compress.onnx_io.settled import settle_sizes


def node(operator, inputs, **attributes):
    return helper.make_node(operator, inputs, ["y"], **attributes)


def settled(nodes, constants, inputs, outputs=None):
    """Returns the sizes of all inputs, by name, once they are settled."""
    model = make_model(nodes, inputs, outputs or {"y": ("A", "B")}, constants, opset=18)
    settle_sizes(model)
    return {
        value.name: tuple(dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim)
        for value in (*model.graph.input, *model.graph.output)
    }


OPERATORS = {
    "Conv": (node("Conv", ["x", "w"]), (8, 3, 1, 1), ("n", 3, "h", "w")),
    "Conv of groups": (node("Conv", ["x", "w"], group=2), (8, 3, 1, 1), ("n", 6, "h", "w")),
    "ConvTranspose": (node("ConvTranspose", ["x", "w"], group=2), (8, 3, 1, 1), ("n", 8, "h", "w")),
    "MatMul": (node("MatMul", ["x", "w"]), (5, 7), ("n", "l", 5)),
    "MatMul with a vector": (node("MatMul", ["x", "w"]), (5,), ("n", 5)),
    "MatMul with batches": (node("MatMul", ["x", "w"]), (4, 5, 7), ("n", "b", "l", 5)),
    "Gemm": (node("Gemm", ["x", "w"]), (5, 7), ("n", 5)),
    "Gemm, B turned": (node("Gemm", ["x", "w"], transB=1), (5, 7), ("n", 7)),
    "Gemm, A turned": (node("Gemm", ["x", "w"], transA=1), (5, 7), ("k", "n")),
    "InstanceNormalization": (node("InstanceNormalization", ["x", "w", "w"]), (6,), ("n", 6, "l")),
    "LayerNormalization": (node("LayerNormalization", ["x", "w"]), (6,), ("n", "l", 6)),
    "LSTM": (node("LSTM", ["x", "w", "r"]), (1, 16, 5), ("t", "n", 5)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_a_weight_tells_the_size_of_what_it_is_multiplied_with(name):
    operator, shape, expected = OPERATORS[name]
    symbols = tuple(f"axis{axis}" for axis in range(len(expected)))
    constants = {"w": np.ones(shape, np.float32), "r": np.ones((1, 16, 4), np.float32)}
    found = settled([operator], constants, {"x": symbols})["x"]
    assert found == tuple(e if isinstance(e, int) else s for e, s in zip(expected, symbols, strict=True))


def test_it_is_followed_through_what_keeps_shapes_or_turns_them():
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", ["a", "scale"], ["b"]),
        helper.make_node("Transpose", ["b"], ["c"], perm=[0, 3, 1, 2]),
        helper.make_node("Transpose", ["v"], ["w"]),
        helper.make_node("Relu", ["w"], ["u"]),
        helper.make_node("Conv", ["c", "u"], ["y"]),
    ]
    constants = {"scale": np.float32(0.5), "v": np.ones((1, 1, 3, 8), np.float32)}
    assert settled(nodes, constants, {"x": ("n", "h", "w", "c")})["x"] == ("n", "h", "w", 3)


def test_what_is_broadcast_tells_nothing():
    """One channel suits a mean of three, too."""
    nodes = [helper.make_node("Sub", ["x", "mean"], ["a"]), helper.make_node("Conv", ["a", "w"], ["y"])]
    constants = {"mean": np.ones((1, 3, 1, 1), np.float32), "w": np.ones((8, 3, 1, 1), np.float32)}
    assert settled(nodes, constants, {"x": ("n", "c", "h", "w")})["x"] == ("n", "c", "h", "w")


def test_axes_of_one_name_have_one_size():
    nodes = [helper.make_node("MatMul", ["a", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])]
    constants = {"w": np.ones((5, 5), np.float32)}
    found = settled(nodes, constants, {"a": ("n", "d"), "b": ("n", "d")}, {"y": ("n", "d")})
    assert found == {"a": ("n", 5), "b": ("n", 5), "y": ("n", 5)}


def test_where_weights_contradict_each_other_the_axis_stays_open():
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("MatMul", ["x", "v"], ["y"])]
    constants = {"w": np.ones((5, 2), np.float32), "v": np.ones((6, 2), np.float32)}
    assert settled(nodes, constants, {"x": ("n", "d")})["x"] == ("n", "d")


def test_axes_without_a_name_are_settled_each_by_itself():
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "z"], ["y"])]
    constants = {"w": np.ones((5, 5), np.float32)}
    assert settled(nodes, constants, {"x": (None, None), "z": (None, None)})["x"] == ("", 5)


def test_weights_of_too_few_axes_tell_nothing():
    operators = (node("Conv", ["x", "w"]), node("LSTM", ["x", "w", "w"]), node("Gemm", ["x", "w"], transB=1))
    for operator in operators:
        assert settled([operator], {"w": np.ones(3, np.float32)}, {"x": ("a", "b", "c")})["x"] == ("a", "b", "c")


def test_a_scale_of_one_number_and_operators_of_other_domains_tell_nothing():
    scaled = [node("LayerNormalization", ["x", "w"])]
    assert settled(scaled, {"w": np.ones(1, np.float32)}, {"x": ("a", "b", "c")})["x"] == ("a", "b", "c")
    foreign = [node("MatMul", ["x", "w"], domain="local")]
    assert settled(foreign, {"w": np.ones((5, 7), np.float32)}, {"x": ("a", "b")})["x"] == ("a", "b")
