"""Operators that ONNX Runtime writes into models: fused ones, and those on integers. Zeroed channels go there too."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from strategies import make_model

from compress.channels.trace import trace
from compress.onnx_io.cost import onnx_cost
from compress.onnx_io.graph import channel_graph
from compress.onnx_io.session import random_inputs, session
from compress.rewrite import rewrite
from compress.rewrite.explain import explain

F, I8, U8 = np.float32, np.int8, np.uint8
MS = "com.microsoft"
LEVELS = onnxruntime.GraphOptimizationLevel


def node(operator, inputs, outputs, **attributes):
    return helper.make_node(operator, inputs.split(" "), outputs.split(" "), name=outputs, **attributes)


def optimized(model, folder, level=LEVELS.ORT_ENABLE_EXTENDED):
    """Returns what ONNX Runtime saves of a model."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimized.onnx")


def operators(model):
    return {f"{n.domain}::{n.op_type}" if n.domain else n.op_type for n in model.graph.node}


def sizes(model):
    return {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}


def proven(model, tolerance=1e-5):
    result = rewrite(model)
    assert result.proven, result.notes
    assert not [note for note in result.notes if "left out" in note], result.notes
    feeds = random_inputs(model, 1, batch_size=2)
    outputs = [session(one.SerializeToString()).run(None, feeds) for one in (model, result.model)]
    for expected, found in zip(*outputs, strict=True):
        np.testing.assert_allclose(found, expected, atol=tolerance, rtol=tolerance)
    return result


def weights(seed, **shapes):
    generator = np.random.default_rng(seed)
    return {name: generator.standard_normal(shape).astype(F) / 4 for name, shape in shapes.items()}


def image_network(width=16, half=False):
    """Residual, depthwise, joined and gated layers and a classifier; every second channel is zero, or not there."""
    held = weights(0, a=(width, 3, 3, 3), ab=(width,), b=(width, 1, 3, 3), c=(width, width, 1, 1), d=(width,
        width, 3, 3),
                   e=(width, 2 * width, 1, 1), f=(width, width), fb=(width,), g=(5, width))  # fmt: skip
    for name, value in held.items():
        if name != "g":
            value[::2] = 0
    if half:
        held = {n: v if n == "g" else v[1::2] for n, v in held.items()}
        held = {n: v[:, 1::2] if n in "cdefg" else v for n, v in held.items()}
        width //= 2
    pads = {"pads": [1, 1, 1, 1]}
    nodes = [
        node("Conv", "in a ab", "x0", **pads), node("Relu", "x0", "x1"),
        node("Conv", "x1 b", "y0", group=width, **pads), node("LeakyRelu", "y0", "y1", alpha=0.2),
        node("Conv", "y1 c", "y2"), node("Add", "x1 y2", "z0"), node("Relu", "z0", "z1"),
        node("Conv", "z1 d", "u0", **pads), node("Clip", "u0 low high", "u1"),
        node("Concat", "z1 u1", "v0", axis=1), node("Conv", "v0 e", "v1"), node("Sigmoid", "v1", "v2"),
        node("GlobalAveragePool", "v2", "p"), node("Flatten", "p", "q"),
        node("Gemm", "q f fb", "r0", transB=1), node("Relu", "r0", "r1"), node("Gemm", "r1 g", "out", transB=1),
    ]  # fmt: skip
    held |= {"low": F(0), "high": F(6)}
    return make_model(nodes, {"in": ("N", 3, 8, 8)}, {"out": ("N", 5)}, held)


def test_a_network_that_the_runtime_has_fused_loses_its_zeroed_channels(tmp_path):
    fused = optimized(image_network(), tmp_path)
    assert {f"{MS}::FusedConv", f"{MS}::FusedGemm"} <= operators(fused)
    # A sigmoid of zero is a constant, which goes into the bias of the last layer.
    result = proven(fused)
    assert result.params_after <= onnx_cost(image_network(half=True)).parameters + 16
    assert operators(result.model) <= operators(fused)
    assert not onnx_cost(result.model).uncounted


def test_a_residual_sum_inside_of_a_fused_convolution(tmp_path):
    held = weights(1, a=(8, 3, 1, 1), b=(8, 8, 3, 3), bb=(8,), c=(40, 8, 1, 1))
    for name in ("a", "b", "bb"):
        held[name][:4] = 0
    nodes = [node("Conv", "in a", "x"), node("FusedConv", "x b bb x", "y", activation="Relu", pads=[1] * 4, domain=MS),
             node("Conv", "y c", "out")]  # fmt: skip
    model = make_model(nodes, {"in": (1, 3, 4, 4)}, {"out": (1, 40, 4, 4)}, held, extra_opsets=[MS])
    assert [sizes(proven(model).model)[name] for name in "abc"] == [(4, 3, 1, 1), (4, 4, 3, 3), (40, 4, 1, 1)]


def test_a_constant_moves_into_the_bias_of_a_fused_convolution():
    held = weights(2, a=(6, 3, 1, 1), ab=(6,), b=(30, 6, 1, 1))
    held["a"][:3], held["ab"][:3] = 0, 2
    for last in ("y b", "y b "):
        nodes = [node("Conv", "in a ab", "y"), node("FusedConv", last, "out", activation="Relu", domain=MS)]
        model = make_model(nodes, {"in": (1, 3, 4, 4)}, {"out": (1, 30, 4, 4)}, held, extra_opsets=[MS])
        found = proven(model).model
        assert sizes(found)["b"] == (30, 3, 1, 1)
        assert found.graph.node[-1].op_type == "FusedConv"


def block(width=8, hidden=24):
    """Returns a feed-forward block as the runtime fuses it: half of its hidden units are zero."""
    held = weights(3, u=(width, hidden), ub=(hidden,), d=(hidden, width), g=(width,), s=(width,))
    held["u"][:, ::2] = held["ub"][::2] = 0
    return held


@pytest.mark.parametrize("gelu", ["BiasGelu", "FastGelu"])
def test_hidden_units_of_a_fused_feed_forward_block_go(gelu):
    nodes = [node("MatMul", "in u", "h"), node(gelu, "h ub", "k", domain=MS), node("MatMul", "k d", "m"),
             node("SkipLayerNormalization", "m in g s", "n   rest", domain=MS), node("Add", "n rest",
                 "out")]  # fmt: skip
    model = make_model(nodes, {"in": (1, 4, 8)}, {"out": (1, 4, 8)}, block(), extra_opsets=[MS])
    found = sizes(proven(model).model)
    assert [found[name] for name in ("u", "ub", "d")] == [(8, 12), (12,), (12, 8)]


def packed_attention(heads=4, width=16):
    """Heads 0 and 2 have values of zero."""
    held = weights(4, w=(8, 3 * width), b=(3 * width,), o=(width, 8))
    for head in (0, 2):
        columns = 2 * width + head * width // heads + np.arange(width // heads)
        held["w"][:, columns] = held["b"][columns] = 0
    return held


@pytest.mark.parametrize("packed", [True, False])
def test_whole_heads_of_an_attention_go(packed):
    held = packed_attention()
    if packed:
        nodes = [node("Attention", "in w b", "y", num_heads=4, domain=MS)]
    else:
        held |= {f"w{i}": held["w"][:, 16 * i : 16 * i + 16].copy() for i in range(3)}
        del held["w"]
        nodes = [*(node("MatMul", f"in w{i}", f"p{i}") for i in range(3)),
                 node("MultiHeadAttention", "p0 p1 p2 b", "y", num_heads=4, domain=MS)]  # fmt: skip
    model = make_model(
        [*nodes, node("MatMul", "y o", "out")], {"in": (1, 5, 8)}, {"out": (1, 5, 8)}, held, extra_opsets=[MS]
    )
    result = proven(model)
    found = sizes(result.model)
    assert found["o"] == (8, 8)
    assert found["b"] == (24,)
    assert [shape for name, shape in found.items() if name[0] == "w"] == ([(8, 24)] if packed else [(8, 8)] * 3)
    attention = next(n for n in result.model.graph.node if "Attention" in n.op_type)
    assert {a.name: a.i for a in attention.attribute}["num_heads"] == 2


def test_a_head_whose_values_are_zero_in_part_stays():
    held = packed_attention()
    held["w"][0, 32] = 1
    nodes = [node("Attention", "in w b", "y", num_heads=4, domain=MS), node("MatMul", "y o", "out")]
    model = make_model(nodes, {"in": (1, 5, 8)}, {"out": (1, 5, 8)}, held, extra_opsets=[MS])
    assert sizes(proven(model).model)["w"] == (8, 36)


def test_packed_channels_stay_and_their_operators_are_named(tmp_path):
    model = optimized(image_network(), tmp_path, LEVELS.ORT_ENABLE_ALL)
    foreign = {name for name in operators(model) if name.startswith("com.microsoft.nchwc")}
    if not foreign:
        pytest.skip("this machine's kernels pack no channels")
    assert rewrite(model).proven
    assert foreign <= explain(model).unknown.keys()


def integer_network(kind=U8, zero=5, weight_zero=0):
    """Conv → Conv + skip → pooling → Gemm on integers; every second channel is zero, which is a level of its own."""
    generator = np.random.default_rng(5)
    w = {"a": (16, 3, 3, 3), "b": (16, 16, 3, 3), "f": (20, 16), "g": (5, 20)}
    held = {name: generator.integers(-60, 60, shape).astype(I8) for name, shape in w.items()}
    held |= {f"{name}b": generator.integers(-99, 99, shape[0]).astype(np.int32) for name, shape in w.items()}
    for name in ("a", "b", "f"):
        held[name][::2], held[f"{name}b"][::2] = weight_zero, 0
    held |= {"s": F(0.05), "z": kind(zero), "fs": F(0.01), "fz": I8(weight_zero)}
    for name in "ab":
        held |= {f"{name}s": generator.uniform(0.01, 0.02, 16).astype(F), f"{name}z": np.full(16, weight_zero, I8)}
    nodes = [
        node("QuantizeLinear", "in s z", "q"),
        node("QLinearConv", "q s z a as az s z ab", "x", pads=[1] * 4),
        node("QLinearConv", "x s z b bs bz s z bb", "y", pads=[1] * 4),
        node("QLinearAdd", "x s z y s z s z", "t", domain=MS),
        node("QLinearLeakyRelu", "t s z s z", "u", alpha=0.1, domain=MS),
        node("QLinearGlobalAveragePool", "u s z s z", "p", channels_last=0, domain=MS),
        node("Flatten", "p", "k"),
        node("QGemm", "k s z f fs fz fb s z", "l", transB=1, domain=MS),
        node("QGemm", "l s z g fs fz gb s z", "m", transB=1, domain=MS),
        node("DequantizeLinear", "m s z", "out"),
    ]
    return make_model(nodes, {"in": (1, 3, 6, 6)}, {"out": (1, 5)}, held, extra_opsets=[MS])


@pytest.mark.parametrize(("kind", "zero"), [(U8, 0), (U8, 5), (I8, -4)])
@pytest.mark.parametrize("weight_zero", [0, 3])
def test_dead_channels_of_an_integer_network_go_with_their_scales(kind, zero, weight_zero):
    result = proven(integer_network(kind, zero, weight_zero), tolerance=0)
    found = sizes(result.model)
    assert result.max_abs_diff == 0
    assert [found[name] for name in ("a", "b", "f", "g")] == [(8, 3, 3, 3), (8, 8, 3, 3), (10, 8), (5, 10)]
    assert [found[name] for name in ("as", "az", "ab", "bs", "bz", "bb", "fb")] == [(8,)] * 6 + [(10,)]


def test_padding_shows_a_constant_that_is_not_the_zero_point():
    """Both channels of x are constants; y is one inside and another at the borders, so it is needed."""
    held = {"s": F(0.05), "z": U8(5), "k": np.array([[[[60]], [[90]]]], U8),
            "w": np.ones((3, 2, 1, 1), I8), "ws": F(0.02), "wz": I8(0)}  # fmt: skip
    held["n"] = np.full((1, 2, 1, 1), 5, U8)
    nodes = [node("QuantizeLinear", "in s z", "q"), node("QLinearMul", "q s z n s z s z", "zero", domain=MS),
             node("QLinearAdd", "k s z k s z s z", "c", domain=MS),
             node("QLinearAdd", "zero s z c s z s z", "x", domain=MS),
             node("QLinearConv", "x s z w ws wz s z", "y", pads=[1] * 4),
             node("DequantizeLinear", "y s z", "out")]  # fmt: skip
    model = make_model(nodes, {"in": (1, 2, 3, 3)}, {"out": (1, 3, 5, 5)}, held, extra_opsets=[MS])
    known = trace(channel_graph(model)).values
    assert known["x"][0, :, 0, 0].tolist() == [115, 175]
    assert "y" not in known
    assert proven(model, tolerance=0).max_abs_diff == 0


def test_a_row_that_is_zero_but_not_its_zero_point_stays():
    model = integer_network(weight_zero=3)
    for tensor in model.graph.initializer:
        if tensor.name == "a":
            rows = numpy_helper.to_array(tensor).copy()
            rows[0] = 0
            tensor.CopyFrom(numpy_helper.from_array(rows, "a"))
    assert sizes(proven(model, tolerance=0).model)["a"] == (9, 3, 3, 3)


def test_channels_that_a_dynamic_quantizer_has_seen_as_zero_go():
    held = weights(6, w=(6, 12), b=(12,)) | {
        "m": np.random.default_rng(0).integers(-90, 90, (12, 20)).astype(I8),
        "z": I8(0),
    }
    held["w"][:, ::2] = held["b"][::2] = 0
    nodes = [node("MatMul", "in w", "h"), node("Add", "h b", "k"), node("DynamicQuantizeLinear", "k", "a p q"),
             node("MatMulInteger", "a m q z", "i"), node("Cast", "i", "f", to=1), node("Mul", "f p",
                 "out")]  # fmt: skip
    model = make_model(nodes, {"in": (4, 6)}, {"out": (4, 20)}, held)
    assert sizes(proven(model).model)["m"] == (6, 20)


def test_a_constant_that_a_dynamic_quantizer_scales_by_stays():
    """Nothing reads it, but the scale of all others follows from it."""
    held = weights(6, w=(6, 12), b=(12,)) | {"m": np.ones((12, 20), I8), "z": I8(0)}
    held["w"][:, ::2], held["b"][::2], held["m"][::2] = 0, 9, 0
    nodes = [node("MatMul", "in w", "h"), node("Add", "h b", "k"), node("DynamicQuantizeLinear", "k", "a p q"),
             node("MatMulInteger", "a m q z", "i"), node("Cast", "i", "f", to=1), node("Mul", "f p",
                 "out")]  # fmt: skip
    assert sizes(proven(make_model(nodes, {"in": (4, 6)}, {"out": (4, 20)}, held)).model)["m"] == (12, 20)


def test_shapes_are_known_beyond_operators_of_another_domain(tmp_path):
    graph = channel_graph(optimized(image_network(), tmp_path))
    assert all(name in graph.shapes for one in graph.nodes for name in one.outputs)
    assert not trace(graph).unknown


@pytest.mark.parametrize("operator", ["FusedConv", "FusedGemm", "SkipLayerNormalization", "NhwcMaxPool", "MatMulNBits"])
def test_a_fused_operator_that_lacks_its_operands_is_left_as_it_is(operator):
    empty = helper.make_node(operator, [], ["out"], domain=MS)
    model = make_model([empty], {"in": (1, 3)}, {"out": (1, 3)}, {}, extra_opsets=[MS])
    assert [one.operator for one in channel_graph(model).nodes] == [operator]
    assert onnx_cost(model).macs == 0
