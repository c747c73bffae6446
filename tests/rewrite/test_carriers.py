"""Constants that zero padding shows: all of a site are borne by one channel, exactly."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.onnx_io.session import session
from compress.rewrite import rewrite

CHANNELS = 8
CONSTANT = [1, 3, 4, 6]


def model(readers=1, *, bias=(0.5, 2.0, 0.25, 1.0), stride=1):
    """conv1 with constant channels → relu → padded convolutions, added up."""
    random = np.random.default_rng(0)
    w1 = random.standard_normal((CHANNELS, 3, 1, 1)).astype(np.float32)
    b1 = random.standard_normal(CHANNELS).astype(np.float32)
    w1[CONSTANT], b1[CONSTANT] = 0, bias
    constants = {"w1": w1, "b1": b1}
    nodes = [
        helper.make_node("Conv", ["input", "w1", "b1"], ["c1"]),
        helper.make_node("Relu", ["c1"], ["r1"]),
    ]
    for reader in range(readers):
        weight = random.standard_normal((5, CHANNELS, 3, 3)).astype(np.float32)
        weight[:, CONSTANT[reader]] = 0  # each reads all but one of them
        constants[f"v{reader}"] = weight
        nodes.append(
            helper.make_node("Conv", ["r1", f"v{reader}"], [f"y{reader}"], pads=[1, 1, 1, 1], strides=[stride] * 2)
        )
    nodes.append(helper.make_node("Sum", [f"y{reader}" for reader in range(readers)], ["output"]))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "carriers",
        [value("input", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [value("output", TensorProto.FLOAT, ["N", "channels", "height", "width"])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def outputs(model):
    images = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    return session(model.SerializeToString()).run(None, {"input": images})[0]


def first_width(model):
    return next(t.dims[0] for t in model.graph.initializer if t.dims[1:] == [3, 1, 1])


@pytest.mark.parametrize("readers", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_one_constant_channel_bears_the_others(readers, stride):
    original = model(readers, stride=stride)
    result = rewrite(original)
    assert result.proven
    assert first_width(result.model) == CHANNELS - len(CONSTANT) + 1
    np.testing.assert_allclose(outputs(result.model), outputs(original), atol=1e-5)
    again = rewrite(result.model)
    assert again.params_after == result.params_after


def test_constants_that_the_activation_kills_need_no_carrier():
    result = rewrite(model(bias=(-0.5, -2.0, -0.25, -1.0)))
    assert first_width(result.model) == CHANNELS - len(CONSTANT)


def test_a_weight_that_two_sites_share_is_not_changed_for_both():
    random = np.random.default_rng(2)
    shared = random.standard_normal((CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
    original = model()
    graph = original.graph
    del graph.node[2:]
    graph.node.extend(
        [
            helper.make_node("Conv", ["r1", "shared"], ["s1"], pads=[1, 1, 1, 1]),
            helper.make_node("Conv", ["s1", "shared"], ["output"], pads=[1, 1, 1, 1]),
        ]
    )
    graph.initializer.append(numpy_helper.from_array(shared, "shared"))
    result = rewrite(original)
    assert result.proven
    np.testing.assert_allclose(outputs(result.model), outputs(original), atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_transposed_convolution_has_a_carrier_too(stride):
    original = model()
    weight = np.random.default_rng(3).standard_normal((CHANNELS, 5, 3, 3)).astype(np.float32)
    del original.graph.node[2:]
    original.graph.node.append(
        helper.make_node("ConvTranspose", ["r1", "up"], ["output"], strides=[stride] * 2, pads=[1] * 4)
    )
    original.graph.initializer.append(numpy_helper.from_array(weight, "up"))
    result = rewrite(original)
    assert result.proven
    assert first_width(result.model) == CHANNELS - len(CONSTANT) + 1
    np.testing.assert_allclose(outputs(result.model), outputs(original), atol=1e-5)


@pytest.mark.parametrize("shift", ["BatchNormalization", "Add"])
def test_a_gain_goes_into_a_shift_that_follows_and_costs_nothing(shift):
    original = model()
    random = np.random.default_rng(4)
    constants = {
        "w": random.standard_normal((5, CHANNELS, 1, 1)),
        "s": random.uniform(1, 2, 5),
        "b": np.ones((5, 1, 1)),
    }
    constants |= {"m": random.standard_normal(5), "v": random.uniform(1, 2, 5)}
    constants["t"] = random.standard_normal(5)
    inputs = ["y", "b"] if shift == "Add" else ["y", "s", "t", "m", "v"]
    del original.graph.node[2:]
    original.graph.node.extend(
        [helper.make_node("Conv", ["r1", "w"], ["y"]), helper.make_node(shift, inputs, ["output"])]
    )
    initializers = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()]
    original.graph.initializer.extend(i for i in initializers if i.name in ("w", *inputs))
    result = rewrite(original)
    assert result.proven
    assert [node.op_type for node in result.model.graph.node] == ["Conv", "Relu", "Conv", shift]
    assert result.params_after == result.params_before - len(CONSTANT) * (3 + 1 + 5)
    np.testing.assert_allclose(outputs(result.model), outputs(original), atol=1e-5)
