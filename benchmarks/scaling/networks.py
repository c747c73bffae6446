"""Networks of any size for the scaling benchmark, built node by node with random weights.

Half of the channels of a *sparse* network are zero, those of residual sums alike; a *dense* network gives a rewriter
nothing to do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

Array = np.ndarray[Any, np.dtype[Any]]


class Builder:
    """Collects nodes and weights.

    Args:
        sparse: whether half of the channels of each layer are zero.
        seed: of the weights.
    """

    def __init__(self, *, sparse: bool, seed: int = 0) -> None:
        self.sparse = sparse
        self.generator = np.random.default_rng(seed)
        self.nodes: list[NodeProto] = []
        self.weights: list[Any] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node; returns the name of its output."""
        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=f"{name}_node", **attributes))
        return name

    def weight(self, values: Array) -> str:
        """Adds an initializer; returns its name."""
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def dead(self, channels: int) -> Array:
        """Returns which channels hold nothing: none of a dense network, half of a sparse one. Shape: (channels,)."""
        marked = np.zeros(channels, dtype=bool)
        if self.sparse and channels > 1:
            marked[self.generator.permutation(channels)[: channels // 2]] = True
        return marked

    def drawn(self, *shape: int, dead: Array | None = None) -> Array:
        """Draws a weight whose rows `dead` are zero."""
        values = self.generator.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(np.prod(shape[1:])))
        if dead is not None:
            values[dead] = 0
        return values

    def conv(self, x: str, inputs: int, outputs: int, size: int, dead: Array | None = None, **attributes: Any) -> str:
        """Adds a convolution, normalised: Conv, BatchNormalization."""
        dead = self.dead(outputs) if dead is None else dead
        attributes = {"kernel_shape": [size, size], "pads": [size // 2] * 4, **attributes}
        weight = self.weight(self.drawn(outputs, inputs, size, size, dead=dead))
        return self.norm(self.add("Conv", x, weight, **attributes), outputs, dead)

    def norm(self, x: str, channels: int, dead: Array) -> str:
        """Adds a normalisation whose scale and shift are zero at `dead`."""
        scale = np.where(dead, 0, self.generator.uniform(0.5, 1.5, channels)).astype(np.float32)
        shift = np.where(dead, 0, self.generator.standard_normal(channels)).astype(np.float32)
        mean = self.generator.standard_normal(channels).astype(np.float32)
        variance = self.generator.uniform(0.5, 1.5, channels).astype(np.float32)
        return self.add("BatchNormalization", x, *(self.weight(v) for v in (scale, shift, mean, variance)))

    def gemm(self, x: str, inputs: int, outputs: int, dead: Array | None = None) -> str:
        """Adds a matrix product with a bias."""
        dead = self.dead(outputs) if dead is None else dead
        weight = self.weight(self.drawn(outputs, inputs, dead=dead))
        bias = np.where(dead, 0, self.generator.standard_normal(outputs)).astype(np.float32)
        return self.add("Gemm", x, weight, self.weight(bias), transB=1)

    def model(self, shape: tuple[int, ...], output: str, classes: tuple[int, ...]) -> ModelProto:
        """Returns what has been built as a model with one input `x` and one output."""

        def value(name: str, sizes: tuple[int, ...]) -> ValueInfoProto:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)

        graph = helper.make_graph(self.nodes, "net", [value("x", shape)], [value(output, classes)], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def resnet50(*, sparse: bool, width: float = 1.0, side: int = 64) -> ModelProto:
    """Bottleneck residual network, 3 + 4 + 6 + 3 blocks; 25.6 M parameters at width 1."""
    net = Builder(sparse=sparse)

    def wide(channels: int) -> int:
        return max(1, round(channels * width))

    x = net.add("Relu", net.conv("x", 3, wide(64), 7, strides=[2, 2]))
    x = net.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = wide(64)
    for stage, depth in enumerate((3, 4, 6, 3)):
        inner, outer = wide(64 * 2**stage), wide(256 * 2**stage)
        dead = net.dead(outer)
        for block in range(depth):
            step = {"strides": [2, 2]} if stage and not block else {}
            y = net.add("Relu", net.conv(x, channels, inner, 1))
            y = net.add("Relu", net.conv(y, inner, inner, 3, **step))
            y = net.conv(y, inner, outer, 1, dead)
            shortcut = x if block else net.conv(x, channels, outer, 1, dead, **step)
            x, channels = net.add("Relu", net.add("Add", y, shortcut)), outer
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    x = net.gemm(x, channels, 1000, np.zeros(1000, dtype=bool))
    return net.model((1, 3, side, side), x, (1, 1000))


def densenet121(*, sparse: bool, growth: int = 32, side: int = 64) -> ModelProto:
    """Densely connected network, 6 + 12 + 24 + 16 layers; 8 M parameters at growth 32."""
    net = Builder(sparse=sparse)
    channels = 2 * growth
    x = net.add("Relu", net.conv("x", 3, channels, 7, strides=[2, 2]))
    x = net.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for stage, depth in enumerate((6, 12, 24, 16)):
        for _ in range(depth):
            y = net.add("Relu", net.norm(x, channels, np.zeros(channels, dtype=bool)))
            y = net.add("Relu", net.conv(y, channels, 4 * growth, 1))
            dead = net.dead(growth)
            weight = net.weight(net.drawn(growth, 4 * growth, 3, 3, dead=dead))
            x = net.add("Concat", x, net.add("Conv", y, weight, kernel_shape=[3, 3], pads=[1] * 4), axis=1)
            channels += growth
        x = net.add("Relu", net.norm(x, channels, np.zeros(channels, dtype=bool)))
        if stage < 3:
            weight = net.weight(net.drawn(channels // 2, channels, 1, 1, dead=net.dead(channels // 2)))
            x = net.add("AveragePool", net.add("Conv", x, weight), kernel_shape=[2, 2], strides=[2, 2])
            channels //= 2
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    x = net.gemm(x, channels, 1000, np.zeros(1000, dtype=bool))
    return net.model((1, 3, side, side), x, (1, 1000))


def chain(nodes: int, *, sparse: bool, channels: int = 8) -> ModelProto:
    """A network of about `nodes` nodes: residual blocks, and every fifth block a concatenation."""
    net = Builder(sparse=sparse)
    dead = net.dead(channels)
    x = net.add("Conv", "x", net.weight(net.drawn(channels, 3, 3, 3, dead=dead)), pads=[1] * 4)
    while len(net.nodes) < nodes - 3:
        weight = net.weight(net.drawn(channels, channels, 3, 3, dead=net.dead(channels)))
        y = net.add("Relu", net.add("Conv", x, weight, pads=[1] * 4))
        if len(net.nodes) % 5 == 0:
            joined = net.add("Concat", x, y, axis=1)
            y = net.add("Conv", joined, net.weight(net.drawn(channels, 2 * channels, 1, 1, dead=dead)))
        else:
            y = net.add("Conv", y, net.weight(net.drawn(channels, channels, 1, 1, dead=dead)))
        x = net.add("Relu", net.add("Add", net.add("Mul", y, net.weight(np.asarray(0.3, np.float32))), x))
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    return net.model((1, 3, 8, 8), net.gemm(x, channels, 10, np.zeros(10, dtype=bool)), (1, 10))


def wide(channels: int, *, sparse: bool, narrow: int = 64, layers: int = 2) -> ModelProto:
    """Matrix products whose inner axis has `channels` channels: 64 → channels → 64 → …."""
    net = Builder(sparse=sparse)
    x = "x"
    for _ in range(layers):
        x = net.add("Relu", net.gemm(x, narrow, channels))
        x = net.add("Relu", net.gemm(x, channels, narrow))
    return net.model((1, narrow), net.gemm(x, narrow, 10, np.zeros(10, dtype=bool)), (1, 10))


def depthwise(channels: int, *, sparse: bool, narrow: int = 64) -> ModelProto:
    """An inverted residual block whose inner axis has `channels` channels, each filtered by itself."""
    net = Builder(sparse=sparse)
    dead, out = net.dead(channels), net.dead(narrow)
    x = net.conv("x", 3, narrow, 3, out)
    y = net.add("Relu", net.conv(x, narrow, channels, 1, dead))
    weight = net.weight(net.drawn(channels, 1, 3, 3, dead=dead))
    y = net.add("Conv", y, weight, kernel_shape=[3, 3], pads=[1] * 4, group=channels)
    x = net.add("Add", net.conv(y, channels, narrow, 1, out), x)
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    return net.model((1, 3, 8, 8), net.gemm(x, narrow, 10, np.zeros(10, dtype=bool)), (1, 10))
