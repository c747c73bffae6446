"""Small networks that show what a convolution costs over the number of its channels."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

Element = Literal["float32", "int8"]
# Kind of convolution and which of its channels; see `compress.targets.known_steps.kind`.
SITES = (("dense", "in"), ("dense", "out"), ("pointwise", "in"), ("pointwise", "out"), ("depthwise", "out"))
_SIDE = 28
_PARTNER = 32
_SCALE = 0.05


def probe_model(kind: str, role: str, width: int, element: Element) -> onnx.ModelProto:
    """Returns a network whose cost depends on one width.

    Args:
        kind: ``dense`` (3×3), ``pointwise`` (1×1) or ``depthwise`` (3×3, between two 1×1).
        role: ``in``: a second convolution of the kind reads the channels; ``out``: nothing but a pool does, or, of a
            depthwise one, what has to produce and to read them.
        width: how many channels.
        element: int8 has 8-bit weights and activations, as `quantize` writes them.

    Returns:
        [1, 32, 28, 28] → [1, channels, 1, 1].
    """
    kernel = 3 if kind == "dense" else 1
    build = _Builder(element)
    value = build.activation("x")
    value = build.convolution(value, (width, _PARTNER, kernel, kernel))
    if kind == "depthwise":
        value = build.convolution(value, (width, 1, 3, 3), groups=width)
    if kind == "depthwise" or role == "in":
        value = build.convolution(value, (_PARTNER, width, kernel, kernel))
    return build.model(value)


class _Builder:
    def __init__(self, element: Element) -> None:
        self.element = element
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.generator = np.random.default_rng(0)

    def constant(self, name: str, array: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], f"{operator}{len(self.nodes)}", **attributes))
        return output

    def activation(self, value: str) -> str:
        """Returns a value as 8-bit numbers would hold it."""
        if self.element != "int8":
            return value
        place = len(self.nodes)
        scale = self.constant(f"scale{place}", np.array(_SCALE, np.float32))
        zero = self.constant(f"zero{place}", np.array(128, np.uint8))
        stored = self.add("QuantizeLinear", [value, scale, zero])
        return self.add("DequantizeLinear", [stored, scale, zero])

    def convolution(self, value: str, shape: tuple[int, int, int, int], groups: int = 1) -> str:
        """Returns the value after a convolution that keeps its size, and Relu."""
        place = len(self.nodes)
        if self.element == "int8":
            weight = self.constant(f"w{place}", self.generator.integers(-127, 128, shape, np.int8))
            scale = self.constant(f"ws{place}", np.full(shape[0], _SCALE / 100, np.float32))
            zero = self.constant(f"wz{place}", np.zeros(shape[0], np.int8))
            weight = self.add("DequantizeLinear", [weight, scale, zero], axis=0)
        else:
            numbers = self.generator.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
            weight = self.constant(f"w{place}", numbers.astype(np.float32))
        value = self.add("Conv", [value, weight], pads=[shape[2] // 2] * 4, group=groups)
        return self.activation(self.add("Relu", [value]))

    def model(self, value: str) -> onnx.ModelProto:
        self.nodes.append(helper.make_node("GlobalAveragePool", [value], ["y"], "pool"))
        graph = helper.make_graph(
            self.nodes,
            "probe",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, _PARTNER, _SIDE, _SIDE])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "channels", 1, 1])],
            self.constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
