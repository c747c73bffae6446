"""Models in float16: rewritten as those in float32 are, and disproved where they compute something else."""

import numpy as np
import pytest
import topologies
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from compress.onnx_io.session import session
from compress.onnx_io.weights import Parted
from compress.rewrite import rewrite
from compress.rewrite.in_float32 import in_float32
from compress.rewrite.proof import prove

HALF = TensorProto.FLOAT16


@pytest.mark.parametrize(("value", "keep_io_types"), [("zero", True), ("constant", False)])
@pytest.mark.parametrize("name", ["mobile", "resnet", "transformer"])
def test_the_size_of_the_float32_network_is_reached(name, value, keep_io_types):
    _, model = topologies.masked(name, value, "unaligned")
    expected = rewrite(model).params_after
    half = convert_float_to_float16(model, keep_io_types=keep_io_types)
    result = rewrite(half)
    assert result.proven
    assert result.params_after == expected, result.notes
    images = np.random.default_rng(1).standard_normal((2, *topologies.input_shape(name)))
    feeds = {"input": images.astype(np.float32 if keep_io_types else np.float16)}
    before, after = (session(m.SerializeToString()).run(None, feeds)[0] for m in (half, result.model))
    np.testing.assert_allclose(after, before, atol=4e-3 * np.abs(before).max())


def layers(second):
    """y = Relu(x · A) · B in float16, with a Cast, a Constant and small weights of its own."""
    first = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float16)
    one = helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.ones(1, np.float16), "one"))
    nodes = [
        one,
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Cast", ["r"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["wide"], ["narrow"], to=HALF),
        helper.make_node("Mul", ["narrow", "one"], ["m"]),
        helper.make_node("MatMul", ["m", "b"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", HALF, ["N", 64])],
        [helper.make_tensor_value_info("y", HALF, ["N", 8])],
        [numpy_helper.from_array(first, "a"), numpy_helper.from_array(second, "b")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def weights():
    return np.random.default_rng(1).standard_normal((64, 8)).astype(np.float16)


def test_nothing_of_float16_is_left_in_float32():
    wide = in_float32(Parted(layers(weights()))).model()
    x = np.random.default_rng(2).standard_normal((3, 64)).astype(np.float16)
    expected = np.maximum(x.astype(np.float32) @ numpy_helper.to_array(wide.graph.initializer[0]), 0)
    expected = expected @ weights().astype(np.float32)
    (found,) = session(wide.SerializeToString()).run(None, {"x": x.astype(np.float32)})
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert in_float32(Parted(wide)) is None


@pytest.mark.parametrize("change", [0.01, 0.1])
def test_another_weight_is_disproved(change):
    other = weights()
    other[:, 3] *= np.float16(1 + change)
    assert prove(layers(weights()), layers(weights()), tolerance=1e-5).holds
    found = prove(layers(weights()), layers(other), tolerance=1e-5)
    assert not found.holds
    assert "output 'y' differs" in found.reason


def test_what_is_cast_like_an_unknown_tensor_gets_its_type():
    """A bound in float32, cast like an activation of float16, is folded in float16."""
    stored = {"a": weights(), "low": np.float32(0.0), "high": np.float32(6.0)}
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("CastLike", ["low", "h"], ["least"]),
        helper.make_node("CastLike", ["high", "h"], ["most"]),
        helper.make_node("Clip", ["h", "least", "most"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", HALF, ["N", 64])],
        [helper.make_tensor_value_info("y", HALF, ["N", 8])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()],
    )
    result = rewrite(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    assert result.proven
    assert [node.op_type for node in result.model.graph.node] == ["MatMul", "Clip"]
