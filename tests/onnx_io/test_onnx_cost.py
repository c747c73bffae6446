from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.errors import ModelFileError
from compress.onnx_io.cost import onnx_cost
from compress.onnx_io.file import read_model
from compress.onnx_io.graph import channel_graph

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "models"


def model_of(nodes, inputs, outputs=("y",), weights=None, opset=18):
    opsets = {"": opset} | {node.domain: 1 for node in nodes if node.domain}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid(*item) for item in opsets.items()], ir_version=10
    )


def floats(*shape):
    return np.ones(shape, np.float32)


def image(*shape):
    return {"x": (TensorProto.FLOAT, list(shape))}


def node(kind, inputs, output="y", **attributes):
    return helper.make_node(kind, inputs, [output], name=kind.lower(), **attributes)


@pytest.mark.parametrize(
    ("nodes", "inputs", "weights", "macs", "parameters"),
    [
        # 10×10 outputs × 8 channels × (4/2 inputs × 3×3)
        ([node("Conv", ["x", "w", "b"], group=2)], image("N", 4, 12, 12), {"w": (8, 2, 3, 3), "b": (8,)}, 14400, 152),
        # depthwise: 10×10 × 4 × 9
        ([node("Conv", ["x", "w"], group=4)], image("N", 4, 12, 12), {"w": (4, 1, 3, 3)}, 3600, 36),
        # each of 5×5×4 inputs reaches 6 channels × 2×2
        ([node("ConvTranspose", ["x", "w"], strides=[2, 2])], image("N", 4, 5, 5), {"w": (4, 6, 2, 2)}, 2400, 96),
        ([node("Gemm", ["x", "w"])], image("N", 5), {"w": (5, 7)}, 35, 35),
        ([node("Gemm", ["x", "w"], transA=1)], image(5, 3), {"w": (5, 7)}, 105, 35),
        ([node("MatMul", ["x", "w"])], image("N", 6, 5), {"w": (5, 7)}, 210, 35),
        ([node("MatMul", ["x", "x"])], image("N", 5, 5), {}, 125, 0),
        # 6 steps × (4·3·5 + 4·3·3)
        (
            [node("LSTM", ["x", "w", "r"], hidden_size=3)],
            image(6, 1, 5),
            {"w": (1, 12, 5), "r": (1, 12, 3)},
            6 * 96,
            96,
        ),
        ([node("Einsum", ["x", "w"], equation="nij,kj->nik")], image("N", 6, 5), {"w": (7, 5)}, 210, 35),
        ([node("PRelu", ["x", "w"])], image("N", 4), {"w": (4,)}, 0, 4),
        # limits and single numbers are no parameters
        ([node("Clip", ["x", "w"])], image("N", 4), {"w": ()}, 0, 0),
        ([node("Mul", ["x", "w"])], image("N", 4), {"w": ()}, 0, 0),
        # a weight that two nodes read is stored once
        (
            [node("MatMul", ["x", "w"], "h"), node("MatMul", ["h", "w"])],
            image("N", 5),
            {"w": (5, 5)},
            50,
            25,
        ),
    ],
)
def test_figures_by_hand(nodes, inputs, weights, macs, parameters):
    cost = onnx_cost(model_of(nodes, inputs, weights={name: floats(*shape) for name, shape in weights.items()}))
    assert (cost.macs, cost.parameters, cost.uncounted) == (macs, parameters, ())


def quantized_matmul():
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["wd"], axis=1),
        helper.make_node("MatMul", ["xd", "wd"], ["h"]),
        helper.make_node("QuantizeLinear", ["h", "s", "z"], ["hq"]),
        helper.make_node("DequantizeLinear", ["hq", "s", "z"], ["y"]),
    ]
    weights = {
        "s": np.float32(0.1),
        "z": np.uint8(128),
        "w": np.ones((30, 50), np.int8),
        "sw": floats(50),
        "zw": np.zeros(50, np.int8),
    }
    return model_of(nodes, image("N", 30), weights={name: np.asarray(value) for name, value in weights.items()})


def test_quantized_weights_count_and_scales_do_not():
    cost = onnx_cost(quantized_matmul())
    assert (cost.parameters, cost.macs) == (1500, 1500)
    assert cost.operators == {"DequantizeLinear": 3, "MatMul": 1, "QuantizeLinear": 2}
    # uint8 input and product, then the float32 output beside the product
    assert cost.peak_activation_bytes == 50 + 200


def test_a_quantized_value_never_takes_the_memory_of_a_wide_one():
    model = quantized_matmul()
    # Another product after the first, so that the wide value is an intermediate one: 30 → 50 → 1.
    del model.graph.node[-1]
    model.graph.node.extend(
        [
            helper.make_node("DequantizeLinear", ["hq", "s", "z"], ["hd"]),
            helper.make_node("MatMul", ["hd", "w2"], ["y"]),
        ]
    )
    model.graph.initializer.append(numpy_helper.from_array(floats(50, 1), "w2"))
    # The largest sum is the float32 input beside its uint8 copy; at the product it is 30 + 50.
    assert onnx_cost(model).peak_activation_bytes == 120 + 30
    wide = onnx_cost(model, batch_size=4)
    assert wide.peak_activation_bytes == 4 * 150


def test_a_batch_multiplies_macs_and_memory():
    nodes = [node("MatMul", ["x", "w"])]
    one, four = (onnx_cost(model_of(nodes, image("N", 5), weights={"w": floats(5, 7)}), n) for n in (1, 4))
    assert (four.macs, four.peak_activation_bytes) == (4 * one.macs, 4 * one.peak_activation_bytes)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([node("Relu", ["x"])], 800),  # the output is the caller's
        ([node("Relu", ["x"], "a"), node("Relu", ["a"], "b"), node("Relu", ["b"])], 800),  # a and b share
        ([node("Neg", ["x"], "a"), node("Add", ["a", "x"])], 1200),  # x is read again: a needs its own buffer
        # a is x, so b may not overwrite it
        ([node("Flatten", ["x"], "a"), node("Relu", ["x"], "b"), node("Add", ["a", "b"])], 1200),
        ([node("Concat", ["x", "x"], "a", axis=1), node("ReduceMax", ["a"])], 1200),
    ],
)
def test_peak_by_hand(nodes, expected):
    model = model_of(nodes, image("N", 100))
    assert onnx_cost(model).peak_activation_bytes == expected


@pytest.mark.parametrize("opset", [9, 11, 13, 18])
def test_shapes_that_the_graph_computes_are_followed(opset):
    axes = {"axes": [0]} if opset < 13 else {}
    more = ["zero"] if opset >= 13 else []
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "first"], ["n"]),
        helper.make_node("Unsqueeze", ["n", *more], ["u"], **axes),
        helper.make_node("Concat", ["u", "rest"], ["t"], axis=0),
        helper.make_node("Reshape", ["x", "t"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["y"]),
    ]
    weights = {
        "first": np.array(0),
        "zero": np.array([0]),
        "rest": np.array([6, -1]),
        "w": floats(2, 3),
    }
    cost = onnx_cost(model_of(nodes, image("N", 3, 4), weights=weights, opset=opset))
    assert (cost.macs, cost.uncounted, cost.parameters) == (36, (), 6)


def test_a_size_that_is_taken_with_bounds_is_followed():
    # As exporters write a flattening: the first size of what comes in, and all the rest in one.
    nodes = [
        helper.make_node("Shape", ["x"], ["n"], start=0, end=1),
        helper.make_node("Concat", ["n", "rest"], ["t"], axis=0),
        helper.make_node("Reshape", ["x", "t"], ["r"]),
        helper.make_node("Gemm", ["r", "w"], ["y"]),
    ]
    model = model_of(nodes, image("N", 3, 4), weights={"rest": np.array([-1]), "w": floats(12, 5)}, opset=18)
    for batch in (1, 2):
        cost = onnx_cost(model, batch)
        assert (cost.macs, cost.uncounted) == (60 * batch, ())
        assert cost.peak_activation_bytes == (12 + 5) * 4 * batch


def test_a_graph_that_is_known_already_gives_the_same_cost():
    nodes = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Reshape", ["h", "s"], ["y"])]
    nodes.insert(0, node("MatMul", ["x", "w"], "h"))
    for shape in (("N", 6, 5), (2, 6, 5), (2, "M", 5)):
        model = model_of(nodes, image(*shape), weights={"w": floats(5, 5)})
        for batch in (1, 3):
            assert onnx_cost(model, batch, graph=channel_graph(model)) == onnx_cost(model, batch)


def test_what_has_no_rule_is_named():
    nodes = [helper.make_node("Twist", ["x"], ["t"], name="odd", domain="my"), node("MatMul", ["t", "w"])]
    cost = onnx_cost(model_of(nodes, image("N", 5), weights={"w": floats(5, 5)}))
    assert cost.uncounted == ("my.Twist 'odd': no rule", "MatMul 'matmul': shape of 't' is unknown")
    assert cost.peak_activation_bytes is None
    assert cost.macs == 0
    assert cost.operators == {"MatMul": 1, "my.Twist": 1}


def test_a_loop_over_products_is_not_guessed():
    body = helper.make_graph(
        [helper.make_node("MatMul", ["h", "w"], ["o"]), helper.make_node("Identity", ["c"], ["d"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("h", TensorProto.FLOAT, [1, 5]),
        ],
        [
            helper.make_tensor_value_info("d", TensorProto.BOOL, []),
            helper.make_tensor_value_info("o", TensorProto.FLOAT, [1, 5]),
        ],
    )
    nodes = [helper.make_node("Loop", ["m", "t", "x"], ["y"], name="again", body=body)]
    weights = {"m": np.array(3), "t": np.array(True), "w": floats(5, 5)}
    cost = onnx_cost(model_of(nodes, image(1, 5), weights=weights))
    assert cost.uncounted == ("Loop 'again': how often its body runs is unknown",)
    assert cost.parameters == 25
    assert cost.operators == {"Identity": 1, "Loop": 1, "MatMul": 1}


def test_a_request_for_absurd_memory_is_not_followed():
    nodes = [
        helper.make_node("ConstantOfShape", ["big"], ["c"]),
        helper.make_node("Shape", ["c"], ["s"]),
        helper.make_node("Reshape", ["x", "s"], ["r"]),
        node("MatMul", ["r", "w"]),
    ]
    cost = onnx_cost(model_of(nodes, image("N", 5), weights={"big": np.array([2**40]), "w": floats(5, 5)}))
    assert cost.parameters == 25


def test_shapes_that_contradict_each_other_are_not_counted():
    model = model_of([node("MatMul", ["x", "w"])], image("N", 5), weights={"w": floats(4, 5)})
    assert onnx_cost(model).uncounted == ("MatMul 'matmul': shape of 'y' is unknown",)


def test_a_model_without_opset_is_an_error():
    model = model_of([node("Relu", ["x"])], image("N", 5))
    del model.opset_import[:]
    with pytest.raises(ModelFileError, match="shapes contradict") as error:
        onnx_cost(model)
    assert "\n" not in str(error.value)


def test_the_model_is_not_changed():
    model = quantized_matmul()
    held = model.SerializeToString()
    onnx_cost(model)
    assert model.SerializeToString() == held


def test_published_networks_have_their_published_figures():
    if not SHARED.is_dir():
        pytest.skip("needs ../shared/models")
    small, large = (onnx_cost(read_model(SHARED / f"EXPORTED_akamaster_resnet{n}_cifar10.onnx")) for n in (20, 56))
    # 0.27 M and 0.85 M parameters, 41 M and 127 M with the shortcuts: He et al. 2016, table 6, and option A.
    assert (small.parameters, small.macs) == (269034, 40551040)
    assert (large.parameters, large.macs) == (850986, 125485696)
