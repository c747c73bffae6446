"""Rounding: what a layer keeps is a multiple, at the same outputs."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.onnx_io.session import session
from compress.recipe import RewriteSettings
from compress.rewrite import rewrite

CHANNELS, DEAD = 24, 11


def model():
    """conv → relu → conv2 + shortcut conv → conv: an inner layer and a sum of two, 11 of 24 dead in each."""
    random = np.random.default_rng(0)
    shapes = {"w0": (24, 3, 3, 3), "w1": (24, 24, 3, 3), "s": (24, 24, 1, 1), "w2": (4, 24, 1, 1)}
    weights = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    for name in ("w0", "w1", "s"):
        weights[name][:DEAD] = 0
    nodes = [
        helper.make_node("Conv", ["input", "w0"], ["c0"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["r0", "s"], ["c2"]),
        helper.make_node("Add", ["c1", "c2"], ["a"]),
        helper.make_node("Conv", ["a", "w2"], ["output"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "rounded",
        [value("input", TensorProto.FLOAT, ["N", 3, 6, 6])],
        [value("output", TensorProto.FLOAT, ["N", 4, 6, 6])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def widths(model):
    return {tensor.name: tensor.dims[0] for tensor in model.graph.initializer}


@pytest.mark.parametrize(("multiple", "kept"), [(1, 13), (2, 14), (8, 16), (13, 13), (16, 16), (20, 20), (32, 24)])
def test_each_layer_keeps_a_multiple_or_everything(multiple, kept):
    original, settings = model(), RewriteSettings(round_to=multiple)
    result = rewrite(original, settings)
    assert result.proven
    assert widths(result.model) == {"w0": kept, "w1": kept, "s": kept, "w2": 4}
    images = np.random.default_rng(1).standard_normal((2, 3, 6, 6)).astype(np.float32)
    before, after = (session(m.SerializeToString()).run(None, {"input": images})[0] for m in (original, result.model))
    np.testing.assert_allclose(after, before, atol=1e-4)
    assert widths(rewrite(result.model, settings).model) == widths(result.model)
