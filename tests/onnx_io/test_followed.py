"""Sizes that a graph computes through Where, Reshape, Expand and Tile are known to shape inference at once."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

from compress.channels.graph import Array
from compress.onnx_io.followed import followed
from compress.onnx_io.graph import channel_graph


def test_values_are_followed_through_where() -> None:
    model = _model()
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = list(followed(model.graph.node, constants, 17))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    inferred = shape_inference.infer_shapes(model, data_prop=True)
    (found,) = (value for value in inferred.graph.value_info if value.name == "r")
    assert [dim.dim_value for dim in found.type.tensor_type.shape.dim] == [2, 4, 3]


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[ModelProto]:
    """What shapes are inferred of."""
    seen: list[ModelProto] = []
    infer = shape_inference.infer_shapes

    def counted(model: ModelProto, **settings: bool) -> ModelProto:
        seen.append(model)
        return infer(model, **settings)

    monkeypatch.setattr(shape_inference, "infer_shapes", counted)
    return seen


def test_one_inference_suffices(rounds: list[ModelProto]) -> None:
    assert channel_graph(_model()).shapes["r"] == (2, 4, 3)
    assert len(rounds) == 1


@pytest.mark.parametrize("operator", ["Reshape", "Expand"])
@pytest.mark.parametrize("scalar", [False, True])
def test_one_inference_suffices_where_a_size_becomes_a_list(
    operator: str, scalar: bool, rounds: list[ModelProto]
) -> None:
    """x[2, 12] is reshaped to (2, 3, 4); 2 is a size of x, 3 and 4 are constants, one made a list as well."""
    one = np.array([-1 if operator == "Reshape" else 1])
    nodes = [
        helper.make_node("Shape", ["x"], ["size"], end=1),
        *([helper.make_node("Squeeze", ["size"], ["scalar"])] if scalar else []),
        helper.make_node(operator, ["scalar" if scalar else "size", "one"], ["first"]),
        helper.make_node(operator, ["three", "one"], ["second"]),
        helper.make_node("Concat", ["first", "second", "four"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["r"]),
        helper.make_node("Relu", ["r"], ["y"]),
    ]
    values = {"one": one, "three": np.array(3 if scalar else [3]), "four": np.array([4])}
    graph = channel_graph(_network(nodes, [2, 12], values))
    assert graph.shapes["r"] == (2, 3, 4)
    assert graph.constants["to"].tolist() == [2, 3, 4]
    assert len(rounds) == 1


def test_one_inference_suffices_where_a_tensor_is_repeated(rounds: list[ModelProto]) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Tile", ["x", "sizes"], ["r"]),
        helper.make_node("Relu", ["r"], ["y"]),
    ]
    graph = channel_graph(_network(nodes, [2, 3], {}))
    assert graph.shapes["r"] == graph.shapes["y"] == (4, 9)
    assert len(rounds) == 1


@pytest.mark.parametrize(("opset", "constants"), [(13, {}), (17, {"times": np.array([2, 1])})])
def test_repeats_that_inference_knows_or_could_not_follow_stay(opset: int, constants: dict[str, Array]) -> None:
    nodes = [helper.make_node("Tile", ["x", "times"], ["r"])]
    assert list(followed(nodes, constants, opset)) == nodes


def test_other_nodes_stay() -> None:
    node = helper.make_node("Where", ["mask", "given", "sizes"], ["to"])
    fractions = {"mask": np.array([True, False]), "given": np.array([0.5, 1.5])}
    assert list(followed([node], {}, 17)) == [node] == list(followed([node], fractions, 17))


@pytest.mark.parametrize(
    ("read", "to", "opset"), [("x", [-1], 17), ("size", [1, -1], 17), ("size", None, 17), ("size", [-1], 6)]
)
def test_other_reshapes_stay(read: str, to: list[int] | None, opset: int) -> None:
    """What is no size has any number of axes, and sums do not broadcast in early versions."""
    nodes = [helper.make_node("Shape", ["x"], ["size"]), helper.make_node("Reshape", [read, "to"], ["r"])]
    assert list(followed(nodes, {} if to is None else {"to": np.array(to)}, opset)) == nodes


def _model() -> ModelProto:
    """x[2, 3, 4] is reshaped to the sizes of x, the last two of which are given as [4, 3]."""
    nodes = [
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Where", ["mask", "given", "sizes"], ["to"]),
        helper.make_node("Reshape", ["x", "to"], ["r"]),
        helper.make_node("Relu", ["r"], ["y"]),
    ]
    return _network(nodes, [2, 3, 4], {"mask": np.array([False, True, True]), "given": np.array([0, 4, 3])})


def _network(nodes: list[NodeProto], shape: list[int], constants: dict[str, Array]) -> ModelProto:
    """x is of that shape, y of any."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
