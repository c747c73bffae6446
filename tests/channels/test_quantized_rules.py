"""Quantized networks: values are the runtime's, and channels go through QuantizeLinear and DequantizeLinear."""

import numpy as np
import pytest
from onnx import helper, numpy_helper
from strategies import make_model

from compress.channels.trace import trace
from compress.onnx_io.graph import channel_graph
from compress.onnx_io.session import session
from compress.rewrite import rewrite

F = np.float32
CHANNELS = 8


def node(operator, inputs, outputs, **attributes):
    return helper.make_node(operator, inputs.split(" "), outputs.split(" "), **attributes)


def constants_of(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def operators(model):
    return sorted(n.op_type for n in model.graph.node)


def convolution(generator, outputs, inputs, dead, *, axis=None):
    """Returns an int8 weight with zero rows, its scale and zero point, and an int32 bias with its scale."""
    weight = generator.integers(-127, 128, (outputs, inputs, 3, 3)).astype(np.int8)
    bias = generator.integers(-500, 500, outputs).astype(np.int32)
    weight[dead], bias[dead] = 0, 0
    size = () if axis is None else outputs
    scale = np.asarray(generator.uniform(0.002, 0.01, size), F)
    return {"w": weight, "ws": scale, "wz": np.zeros(size, np.int8), "b": bias, "bs": (scale * F(0.05)).astype(F)}


def network(*, axis, zero=0, kind=np.uint8):
    """Returns Q → DQ → Conv → Relu → Q → DQ → Conv → Q → DQ; half of the channels between the convolutions are zero."""
    generator = np.random.default_rng(0)
    dead = np.arange(CHANNELS) % 2 == 0
    constants = {"s": F(0.05), "z": kind(zero)}
    for index, (outputs, inputs, gone) in enumerate([(CHANNELS, 3, dead), (40, CHANNELS, np.zeros(40, bool))]):
        made = convolution(generator, outputs, inputs, gone, axis=axis)
        constants |= {f"{name}{index}": value for name, value in made.items()}
    along = {} if axis is None else {"axis": 0}
    nodes = [node("QuantizeLinear", "x s z", "xq"), node("DequantizeLinear", "xq s z", "d0")]
    for index in (0, 1):
        nodes += [
            node("DequantizeLinear", f"w{index} ws{index} wz{index}", f"W{index}", **along),
            node("DequantizeLinear", f"b{index} bs{index}", f"B{index}", **along),
            node("Conv", f"d{index} W{index} B{index}", f"c{index}", pads=[1, 1, 1, 1]),
            node("Relu", f"c{index}", f"r{index}"),
            node("QuantizeLinear", f"r{index} s z", f"q{index}"),
            node("DequantizeLinear", f"q{index} s z", f"d{index + 1}"),
        ]
    return make_model(nodes, {"x": (1, 3, 6, 6)}, {"d2": (1, 40, 6, 6)}, constants)


@pytest.mark.parametrize("axis", [0, None])
@pytest.mark.parametrize(("zero", "kind"), [(0, np.uint8), (7, np.uint8), (-3, np.int8)])
def test_zero_rows_of_a_quantized_convolution_go_with_their_scales_and_biases(zero, kind, axis):
    before = network(axis=axis, zero=zero, kind=kind)
    result = rewrite(before)
    found = constants_of(result.model)
    half = CHANNELS // 2
    assert result.proven
    assert result.max_abs_diff == 0
    assert found["w0"].shape == (half, 3, 3, 3)
    assert found["b0"].shape == (half,)
    assert [found[name].shape for name in ("ws0", "wz0", "bs0")] == [() if axis is None else (half,)] * 3
    assert found["w1"].shape == (40, half, 3, 3)
    assert found["w1"].dtype == np.int8
    assert result.channels_removed == half
    assert operators(result.model) == operators(before)


def test_a_constant_channel_stays_so_that_the_layer_stays_in_integers():
    before = network(axis=0)
    for tensor in before.graph.initializer:
        if tensor.name == "b0":
            bias = numpy_helper.to_array(tensor).copy()
            bias[::2] = 9000
            tensor.CopyFrom(numpy_helper.from_array(bias, "b0"))
    result = rewrite(before)
    assert result.proven
    assert len(constants_of(result.model)["w0"]) == CHANNELS
    assert operators(result.model) == operators(before)


def test_values_round_halves_to_even_and_saturate():
    x = F([[0.5, 1.5, 2.5, -0.5, -1.5, 1000, -1000, 0.49999997]])
    model = make_model(
        [
            node("QuantizeLinear", "w one z", "q"),
            node("DequantizeLinear", "q third z", "d"),
            node("Add", "d x", "y"),
            node("Cast", "q", "p", to=1),
        ],
        {"x": (1, 8)},
        {"y": (1, 8), "p": (1, 8)},
        {"w": x, "one": F(1), "z": np.int8(3), "third": F(1 / 3)},
    )
    known = trace(channel_graph(model)).values
    sums, integers = session(model.SerializeToString()).run(None, {"x": np.zeros((1, 8), F)})
    assert integers.tolist() == [[3, 5, 5, 3, 1, 127, -128, 3]]
    assert np.array_equal(known["q"], integers)
    assert known["q"].dtype == np.int8
    assert np.array_equal(known["d"], sums)


def test_a_quantizer_makes_small_constants_zero():
    model = make_model(
        [
            node("Mul", "x gain", "m"),
            node("Add", "m shift", "a"),
            node("QuantizeLinear", "a s z", "q"),
            node("DequantizeLinear", "q s z", "y"),
        ],
        {"x": (1, 4)},
        {"y": (1, 4)},
        {"gain": F([0, 1, 0, 0]), "shift": F([0.04, 0, 0.06, -3]), "s": F(0.1), "z": np.uint8(0)},
    )
    value = trace(channel_graph(model)).values["y"].reshape(-1)
    assert np.array_equal(value, [0, np.nan, np.nan, 0], equal_nan=True)


def test_a_scale_for_each_block_stays_as_it_is():
    model = make_model(
        [node("DequantizeLinear", "w s", "W", axis=0, block_size=2), node("MatMul", "x W", "y")],
        {"x": (1, 4)},
        {"y": (1, 6)},
        {"w": np.zeros((4, 6), np.int8), "s": np.ones((2, 6), F)},
        opset=21,
        ir_version=10,
    )
    found = trace(channel_graph(model))
    assert "W" not in found.values
    assert any("each block" in pin.reason for pin in found.labels.pins)
    assert rewrite(model).proven


def test_a_matrix_product_reads_its_quantized_weight():
    generator = np.random.default_rng(1)
    first, second = (generator.integers(-127, 128, shape).astype(np.int8) for shape in ((40, 60), (60, 30)))
    first[:, :20] = 0
    model = make_model(
        [
            node("DequantizeLinear", "w0 s0 z0", "W0", axis=1),
            node("MatMul", "x W0", "h"),
            node("QuantizeLinear", "h s1 z1", "q"),
            node("DequantizeLinear", "q s1 z1", "r"),
            node("DequantizeLinear", "w1 s1 z1", "W1"),
            node("MatMul", "r W1", "y"),
        ],
        {"x": (2, 40)},
        {"y": (2, 30)},
        {"w0": first, "s0": generator.uniform(0.001, 0.01, 60).astype(F), "z0": np.zeros(60, np.int8),
         "w1": second, "s1": F(0.01), "z1": np.int8(0)},
    )  # fmt: skip
    result = rewrite(model)
    assert result.proven
    found = constants_of(result.model)
    assert [found[name].shape for name in ("w0", "s0", "z0", "w1")] == [(40, 40), (40,), (40,), (40, 30)]
