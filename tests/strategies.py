"""Small random ONNX networks for property tests: layers as users stack them, with channels zeroed or made constant."""

from dataclasses import dataclass, field

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

# Derandomized: what passes once passes again, on every machine.
settings.register_profile(
    "stable", derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)

IR_VERSION = 8
SIDE = 6


def make_model(nodes, inputs, outputs, constants, *, opset=17, ir_version=IR_VERSION, extra_opsets=()):
    """Returns a model; `inputs` and `outputs` are name → shape, in float32; `constants` name → array."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in extra_opsets)]
    return helper.make_model(graph, ir_version=ir_version, opset_imports=imports)


@dataclass
class Builder:
    """A network under construction; `shape` is that of `last`, without the batch axis."""

    draw: st.DrawFn
    generator: np.random.Generator
    batch: object
    nodes: list = field(default_factory=list)
    constants: dict = field(default_factory=dict)
    last: str = "input"
    shape: tuple = (2, SIDE, SIDE)

    def chance(self, of=2):
        return self.draw(st.integers(0, of - 1)) == 0

    def constant(self, stem, value):
        name = f"{stem}.{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def node(self, operator, inputs, outputs=1, **attributes):
        names = [f"{operator.lower()}{len(self.nodes)}.{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, name=f"n{len(self.nodes)}", **attributes))
        return names[0] if outputs == 1 else names

    def then(self, operator, *inputs, shape=None, **attributes):
        self.last = self.node(operator, [self.last, *inputs], **attributes)
        self.shape = self.shape if shape is None else shape
        return self.last

    def weight(self, *shape):
        """Draws a weight: some rows and some columns are zero."""
        value = self.generator.standard_normal(shape).astype(np.float32) / np.sqrt(np.prod(shape[1:]), dtype=np.float32)
        value[self.generator.random(shape[0]) < self.draw(st.sampled_from([0, 0.5, 1]))] = 0
        if self.chance(3):
            value[:, self.generator.random(shape[1]) < 0.4] = 0
        return value

    def vector(self, size, zeros):
        value = self.generator.standard_normal(size).astype(np.float32)
        value[self.generator.random(size) < zeros] = 0
        return value


def convolution(b, outputs=None, side=None):
    channels, height, _ = b.shape
    groups = b.draw(st.sampled_from([1, 1, channels] + ([2] if channels % 2 == 0 else [])))
    outputs = outputs or groups * b.draw(st.integers(1, 5 if groups == 1 else 2))
    groups = groups if outputs % groups == 0 else 1
    kernel = b.draw(st.sampled_from([1, 3])) if height >= 3 else 1
    padding = 1 if kernel == 3 and (side == height or b.chance()) else 0
    kernel = 1 if side == height and not padding else kernel
    stride = 2 if side is None and b.chance(4) else 1
    after = (height + 2 * padding - kernel) // stride + 1
    inputs = [b.constant("weight", b.weight(outputs, channels // groups, kernel, kernel))]
    if b.chance():
        inputs.append(b.constant("bias", b.vector(outputs, 0.5)))
    pads, strides = [padding] * 4, [stride] * 2
    shape = (outputs, after, after)
    b.then("Conv", *inputs, shape=shape, group=groups, kernel_shape=[kernel] * 2, pads=pads, strides=strides)


def normalization(b):
    size = b.shape[0]
    scale, shift, mean = b.vector(size, 0.5), b.vector(size, 0.4), b.vector(size, 0.2)
    variance = b.generator.uniform(0.5, 2, size).astype(np.float32)
    names = zip(("scale", "shift", "mean", "variance"), (scale, shift, mean, variance), strict=True)
    b.then("BatchNormalization", *(b.constant(name, value) for name, value in names))


def activation(b):
    kind = b.draw(st.sampled_from(["Relu", "Sigmoid", "LeakyRelu", "Clip", "Clip", "Tanh"]))
    if kind == "Clip":
        high = b.constant("high", np.float32(1.0))
        b.then("Clip", "" if b.chance() else b.constant("low", np.float32(-0.5)), high)
    else:
        b.then(kind)


def residual(b):
    start, shape = b.last, b.shape
    convolution(b, outputs=shape[0], side=shape[1])
    if b.chance():
        normalization(b)
    if b.shape == shape:
        b.then("Add", start)


def concatenation(b):
    start, (channels, height, width) = b.last, b.shape
    convolution(b, side=height)
    if b.shape[1:] == (height, width):
        b.then("Concat", start, shape=(b.shape[0] + channels, height, width), axis=1)


def shuffle(b):
    channels, height, width = b.shape
    if channels % 2:
        return
    split = b.constant("split", np.array([0, 2, channels // 2, height, width], np.int64))
    b.then("Reshape", split)
    b.then("Transpose", perm=[0, 2, 1, 3, 4])
    b.then("Reshape", b.constant("joined", np.array([0, channels, height, width], np.int64)))


def split(b):
    channels, height, width = b.shape
    if channels < 2:
        return
    first = channels // 2
    if b.chance():
        bounds = [b.constant(stem, np.array([value], np.int64)) for stem, value in
                  (("starts", 1), ("ends", 2**31), ("axes", 1))]  # fmt: skip
        b.then("Slice", *bounds, shape=(channels - 1, height, width))
        return
    sizes = b.constant("sizes", np.array([first, channels - first], np.int64))
    parts = b.node("Split", [b.last, sizes], outputs=2, axis=1)
    b.last, b.shape = parts[0], (first, height, width)
    activation(b)
    b.then("Concat", parts[1], shape=(channels, height, width), axis=1)


def pooling(b):
    channels, height, _ = b.shape
    if height < 2:
        return
    kind = b.draw(st.sampled_from(["MaxPool", "AveragePool", "AveragePool"]))
    padded = b.chance()
    after = (height + 2 * padded - 2) // 2 + 1
    extra = {"count_include_pad": int(b.chance())} if kind == "AveragePool" else {}
    shape = (channels, after, after)
    b.then(kind, shape=shape, kernel_shape=[2, 2], strides=[2, 2], pads=[int(padded)] * 4, **extra)


def padding(b):
    channels, height, width = b.shape
    pads = b.constant("pads", np.array([0, 1, 0, 0, 0, 1, 0, 0], np.int64))
    inputs = [pads] + ([b.constant("fill", np.float32(0.5))] if b.chance() else [])
    b.then("Pad", *inputs, shape=(channels + 2, height, width))


def gate(b):
    start, shape = b.last, b.shape
    b.then("GlobalAveragePool", shape=(shape[0], 1, 1))
    convolution(b, outputs=shape[0], side=1)
    b.then("Sigmoid" if b.chance() else "Relu")
    b.last, b.shape = b.node("Mul", [start, b.last]), shape


LAYERS = (
    convolution,
    convolution,
    convolution,
    normalization,
    activation,
    residual,
    concatenation,
    shuffle,
    split,
    pooling,
    padding,
    gate,
)


def head(b):
    if b.chance():
        b.then("GlobalAveragePool", shape=(b.shape[0], 1, 1))
    size = int(np.prod(b.shape))
    if b.chance():
        b.then("Flatten", shape=(size,))
    else:
        b.then("Reshape", b.constant("flat", np.array([0, -1] if b.chance() else [-1, size], np.int64)), shape=(size,))
    if b.chance():
        b.then("Gemm", b.constant("rows", b.weight(3, size)), b.constant("bias", b.vector(3, 0.3)), transB=1)
    else:
        b.then("MatMul", b.constant("columns", np.ascontiguousarray(b.weight(3, size).T)))


@st.composite
def networks(draw) -> ModelProto:
    """Draws a network of two to eight layers and a head, float32, input ``input``, output ``output``."""
    batch = draw(st.sampled_from(["N", 2]))
    b = Builder(draw, np.random.default_rng(draw(st.integers(0, 2**16))), batch)
    convolution(b)
    for layer in draw(st.lists(st.sampled_from(LAYERS), min_size=1, max_size=7)):
        layer(b)
    if draw(st.integers(0, 4)):
        head(b)
    b.nodes[-1].output[0] = "output"
    shape = (3,) if b.nodes[-1].op_type in ("Gemm", "MatMul") else b.shape
    return make_model(b.nodes, {"input": (batch, 2, SIDE, SIDE)}, {"output": (batch, *shape)}, b.constants, opset=17)
