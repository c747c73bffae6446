"""A small model that every runtime knows how to run: it shows whether a device works."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def small_model() -> onnx.ModelProto:
    """Returns a convolution, a depthwise one, a pool and a classifier: [1, 3, 16, 16] → [1, 10]."""
    generator = np.random.default_rng(0)
    shapes = {"dense": (16, 3, 3, 3), "depthwise": (16, 1, 3, 3), "classes": (16, 10)}
    weights = [
        numpy_helper.from_array((generator.standard_normal(shape) / 4).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "dense"], ["a"], "dense", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "depthwise"], ["c"], "depthwise", pads=[1, 1, 1, 1], group=16),
        helper.make_node("GlobalAveragePool", ["c"], ["d"], "pool"),
        helper.make_node("Flatten", ["d"], ["e"], "flatten"),
        helper.make_node("MatMul", ["e", "classes"], ["y"], "classifier"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
