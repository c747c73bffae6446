"""Small sound models, one for each way in which channels travel, some with dead channels: what mutations start from."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

F, I64 = TensorProto.FLOAT, TensorProto.INT64


def model(nodes, inputs, outputs, weights, *, opset=18, functions=()):
    """Returns a model; inputs and outputs: name → shape of floats."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, F, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, F, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid("local", 1)] if functions else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=list(functions))


def node(operator, inputs, outputs, **attributes):
    return helper.make_node(
        operator, inputs.split(), outputs.split(), name=f"{operator}_{outputs.split()[0]}", **attributes
    )


def _weights(seed):
    generator = np.random.default_rng(seed)

    def draw(*shape, dead=0):
        value = generator.standard_normal(shape).astype(np.float32) / 4
        if dead:
            value[:dead] = 0
        return value

    return draw


def convolutions():
    draw = _weights(0)
    nodes = [
        node("Conv", "x w1 b1", "a", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "a s o m v", "b"),
        node("Relu", "b", "c"),
        node("Conv", "c w2", "d", group=1),
        node("GlobalAveragePool", "d", "e"),
        node("Flatten", "e", "f"),
        node("Gemm", "f w3 b3", "y", transB=1),
    ]
    weights = {"w1": draw(6, 3, 3, 3, dead=2), "b1": draw(6), "w2": draw(5, 6, 1, 1, dead=1), "w3": draw(4, 5)}
    weights |= {"b3": draw(4), "s": draw(6) ** 2, "o": draw(6), "m": draw(6), "v": draw(6) ** 2 + 0.1}
    return model(nodes, {"x": ["N", 3, 8, 8]}, {"y": ["N", 4]}, weights)


def residual():
    draw = _weights(1)
    nodes = [
        node("Conv", "x w0", "a", pads=[1, 1, 1, 1]),
        node("Relu", "a", "b"),
        node("Conv", "b w1 b1", "c", pads=[1, 1, 1, 1]),
        node("Add", "c b", "d"),
        node("Concat", "d b", "e", axis=1),
        node("Conv", "e w2", "f", group=2),
        node("ReduceMean", "f axes", "g", keepdims=0),
        node("MatMul", "g w3", "y"),
    ]
    weights = {"w0": draw(6, 3, 3, 3, dead=3), "w1": draw(6, 6, 3, 3, dead=4), "b1": draw(6), "w2": draw(8, 6, 1, 1)}
    weights |= {"axes": np.array([2, 3]), "w3": draw(8, 3)}
    weights["w2"][2:4] = 0
    return model(nodes, {"x": [1, 3, 6, 6]}, {"y": [1, 3]}, weights)


def shuffled():
    draw = _weights(2)
    nodes = [
        node("Conv", "x w0", "a"),
        node("Reshape", "a five", "b"),
        node("Transpose", "b", "c", perm=[0, 2, 1, 3, 4]),
        node("Reshape", "c four", "d"),
        node("Split", "d sizes", "e f", axis=1),
        node("Mul", "e f", "g"),
        node("Sigmoid", "g", "h"),
        node("Conv", "h w1", "y"),
    ]
    weights = {"w0": draw(8, 2, 1, 1), "five": np.array([0, 2, 4, 5, 5]), "four": np.array([0, -1, 5, 5])}
    weights |= {"sizes": np.array([4, 4]), "w1": draw(3, 4, 1, 1)}
    weights["w0"][[0, 1, 4, 5]] = 0
    return model(nodes, {"x": ["N", 2, 5, 5]}, {"y": ["N", 3, 5, 5]}, weights)


def attention():
    draw = _weights(3)
    nodes = [
        *(node("MatMul", f"x w{k}", f"{k}0") for k in "qkv"),
        *(node("Reshape", f"{k}0 heads", f"{k}1") for k in "qkv"),
        node("Transpose", "q1", "q2", perm=[0, 2, 1, 3]),
        node("Transpose", "k1", "k2", perm=[0, 2, 3, 1]),
        node("Transpose", "v1", "v2", perm=[0, 2, 1, 3]),
        node("MatMul", "q2 k2", "s"),
        node("Softmax", "s", "p", axis=-1),
        node("MatMul", "p v2", "o"),
        node("Transpose", "o", "o1", perm=[0, 2, 1, 3]),
        node("Reshape", "o1 flat", "o2"),
        node("LayerNormalization", "o2 g b", "n"),
        node("MatMul", "n wo", "y"),
    ]
    weights = {f"w{k}": draw(8, 8) for k in "qkvo"} | {"heads": np.array([0, 0, 2, 4]), "flat": np.array([0, 0, 8])}
    weights |= {"g": draw(8), "b": draw(8)}
    weights["wv"][:, :4] = 0
    return model(nodes, {"x": ["N", "T", 8]}, {"y": ["N", "T", 8]}, weights)


def recurrent():
    draw = _weights(4)
    nodes = [node("LSTM", "x w r b", "h", hidden_size=4), node("Squeeze", "h one", "s"), node("MatMul", "s wo", "y")]
    weights = {
        "w": draw(1, 16, 3),
        "r": draw(1, 16, 4),
        "b": draw(1, 32),
        "one": np.array([1]),
        "wo": draw(4, 2, dead=2),
    }
    return model(nodes, {"x": [5, 1, 3]}, {"y": [5, 1, 2]}, weights)


def quantized():
    draw = _weights(5)
    nodes = [
        node("QuantizeLinear", "x s z", "xq"),
        node("DequantizeLinear", "xq s z", "xd"),
        node("DequantizeLinear", "wq ws wz", "wd", axis=0),
        node("Conv", "xd wd b", "c"),
        node("Relu", "c", "r"),
        node("QuantizeLinear", "r s z", "rq"),
        node("DequantizeLinear", "rq s z", "rd"),
        node("Conv", "rd w2", "y"),
    ]
    weights = {"s": np.float32(0.05), "z": np.uint8(128), "wq": np.arange(-12, 12, dtype=np.int8).reshape(4, 6, 1, 1)}
    weights |= {"ws": np.full(4, 0.1, np.float32), "wz": np.zeros(4, np.int8), "b": draw(4), "w2": draw(2, 4, 1, 1)}
    weights["wq"][1:3] = 0
    weights["b"][1:3] = 0
    return model(nodes, {"x": [1, 6, 4, 4]}, {"y": [1, 2, 4, 4]}, weights)


def branches():
    draw = _weights(6)
    then = helper.make_graph([node("Relu", "a", "t")], "then", [], [helper.make_tensor_value_info("t", F, None)])
    other = helper.make_graph([node("Neg", "a", "e")], "else", [], [helper.make_tensor_value_info("e", F, None)])
    nodes = [
        node("MatMul", "x w0", "a"),
        node("ReduceSum", "a", "s", keepdims=0),
        node("Greater", "s zero", "c"),
        helper.make_node("If", ["c"], ["i"], name="if", then_branch=then, else_branch=other),
        node("MatMul", "i w1", "y"),
    ]
    weights = {"w0": draw(4, 6), "zero": np.float32(0), "w1": draw(6, 2, dead=3)}
    weights["w0"][:, :2] = 0
    return model(nodes, {"x": ["N", 4]}, {"y": ["N", 2]}, weights)


def functions():
    draw = _weights(7)
    body = [node("MatMul", "p q", "m"), node("Relu", "m", "r")]
    layer = helper.make_function("local", "Layer", ["p", "q"], ["r"], body, [helper.make_opsetid("", 18)])
    nodes = [
        helper.make_node("Layer", ["x", "w0"], ["a"], name="first", domain="local"),
        helper.make_node("Layer", ["a", "w1"], ["y"], name="second", domain="local"),
    ]
    weights = {"w0": draw(4, 6), "w1": draw(6, 2)}
    weights["w0"][:, :2] = 0
    return model(nodes, {"x": ["N", 4]}, {"y": ["N", 2]}, weights, functions=[layer])


def shapes_computed():
    draw = _weights(8)
    nodes = [
        node("Conv", "x w0", "a"),
        node("Shape", "a", "s"),
        node("Gather", "s zero", "n"),
        node("Unsqueeze", "n axes", "n1"),
        node("Concat", "n1 minus", "t", axis=0),
        node("Reshape", "a t", "f"),
        node("ConstantOfShape", "t2", "k", value=numpy_helper.from_array(np.ones(1, np.float32))),
        node("Expand", "k five", "k1"),
        node("Mul", "f k1", "g"),
        node("Gemm", "g w1", "h"),
        node("Pad", "h pads", "i"),
        node("Slice", "i starts ends", "y"),
    ]
    weights = {"w0": draw(4, 2, 3, 3, dead=1), "zero": np.int64(0), "axes": np.array([0]), "minus": np.array([-1])}
    weights |= {"t2": np.array([1, 1]), "five": np.array([1, 36]), "w1": draw(36, 3), "pads": np.array([0, 1, 0, 1])}
    weights |= {"starts": np.array([0, 1]), "ends": np.array([9, 4])}
    return model(nodes, {"x": ["N", 2, 5, 5]}, {"y": ["N", "M"]}, weights)


def upsampled():
    draw = _weights(9)
    nodes = [
        node("Conv", "x w0", "a"),
        node("Clip", "a low high", "b"),
        node("Resize", "b roi scales", "c", mode="nearest"),
        node("ConvTranspose", "c w1", "d", strides=[2, 2]),
        node("DepthToSpace", "d", "e", blocksize=2),
        node("Conv", "e w2", "y"),
    ]
    weights = {"w0": draw(4, 2, 1, 1, dead=2), "low": np.float32(0), "high": np.float32(6), "w2": draw(2, 2, 3, 3)}
    weights |= {"roi": np.zeros(0, np.float32), "scales": np.array([1, 1, 2, 2], np.float32), "w1": draw(4, 8, 2, 2)}
    return model(nodes, {"x": [1, 2, 4, 4]}, {"y": [1, 2, 30, 30]}, weights)


SEEDS = {
    seed.__name__: seed
    for seed in (
        attention,
        branches,
        convolutions,
        functions,
        quantized,
        recurrent,
        residual,
        shapes_computed,
        shuffled,
        upsampled,
    )
}


def check_seeds():
    """Raises if a seed is not a sound model."""
    for seed in SEEDS.values():
        onnx.checker.check_model(seed(), full_check=True)
