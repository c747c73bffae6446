"""Dead layers become constants, and zero residual branches disappear."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.onnx_io.session import session
from compress.rewrite import rewrite

RANDOM = np.random.default_rng(0)


def residual(bias: float, *, outputs: int = 1):
    """conv → relu → x; x + conv2(relu(conv1(x))) with conv2 all zero but for its bias → conv."""
    weights = {
        "w0": RANDOM.standard_normal((4, 3, 3, 3)),
        "w1": RANDOM.standard_normal((6, 4, 3, 3)),
        "w2": np.zeros((4, 6, 3, 3)),
        "b2": np.full(4, bias),
        "w3": RANDOM.standard_normal((2, 4, 1, 1)),
    }
    nodes = [
        helper.make_node("Conv", ["input", "w0"], ["c0"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["x"]),
        helper.make_node("Conv", ["x", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["x", "c2"], ["sum"]),
        helper.make_node("Conv", ["sum", "w3"], ["output"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "residual",
        [value("input", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [value("output", TensorProto.FLOAT, ["N", 2, 8, 8]), value("sum", TensorProto.FLOAT, ["N", 4, 8, 8])][:outputs],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def operators(model):
    return [node.op_type for node in model.graph.node]


def run(model, images):
    return session(model.SerializeToString()).run(None, {"input": images})


def test_a_zero_branch_disappears_with_its_addition():
    result = rewrite(residual(0.0))
    assert result.proven
    assert operators(result.model) == ["Conv", "Relu", "Conv"]
    assert result.params_after == 4 * 3 * 9 + 2 * 4


def test_a_constant_branch_becomes_its_constant():
    model = residual(0.5)
    result = rewrite(model)
    assert result.proven
    assert operators(result.model).count("Conv") == 2
    images = RANDOM.standard_normal((2, 3, 8, 8)).astype(np.float32)
    for before, after in zip(run(model, images), run(result.model, images), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-5)


@pytest.mark.parametrize("bias", [0.0, 0.5])
def test_a_sum_that_is_an_output_keeps_its_name(bias):
    model = residual(bias, outputs=2)
    result = rewrite(model)
    assert result.proven
    assert [output.name for output in result.model.graph.output] == ["output", "sum"]
    assert operators(result.model).count("Conv") == 2
