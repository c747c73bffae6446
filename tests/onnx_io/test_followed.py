"""Sizes that a graph computes through Where are known to shape inference at once."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper, shape_inference

from compress.onnx_io.followed import followed
from compress.onnx_io.graph import channel_graph


def test_values_are_followed_through_where() -> None:
    model = _model()
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = [one for node in model.graph.node for one in followed(node, constants)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    inferred = shape_inference.infer_shapes(model, data_prop=True)
    (found,) = (value for value in inferred.graph.value_info if value.name == "r")
    assert [dim.dim_value for dim in found.type.tensor_type.shape.dim] == [2, 4, 3]


def test_one_inference_suffices(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[ModelProto] = []
    infer = shape_inference.infer_shapes

    def counted(model: ModelProto, **settings: bool) -> ModelProto:
        rounds.append(model)
        return infer(model, **settings)

    monkeypatch.setattr(shape_inference, "infer_shapes", counted)
    assert channel_graph(_model()).shapes["r"] == (2, 4, 3)
    assert len(rounds) == 1


def test_other_nodes_stay() -> None:
    node = helper.make_node("Where", ["mask", "given", "sizes"], ["to"])
    fractions = {"mask": np.array([True, False]), "given": np.array([0.5, 1.5])}
    assert followed(node, {}) == [node] == followed(node, fractions)


def _model() -> ModelProto:
    """x[2, 3, 4] is reshaped to the sizes of x, the last two of which are given as [4, 3]."""
    graph = helper.make_graph(
        [
            helper.make_node("Shape", ["x"], ["sizes"]),
            helper.make_node("Where", ["mask", "given", "sizes"], ["to"]),
            helper.make_node("Reshape", ["x", "to"], ["r"]),
            helper.make_node("Relu", ["r"], ["y"]),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.array([False, True, True]), "mask"),
            numpy_helper.from_array(np.array([0, 4, 3]), "given"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
