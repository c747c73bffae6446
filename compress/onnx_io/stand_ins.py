"""Operators of other domains, each with operators of ONNX's own whose results have the same shape.

ONNX infers no shape beyond an operator that it does not define. It infers the shape of the stand-in instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from onnx import NodeProto, helper, numpy_helper

from compress.channels.graph import Array

_MICROSOFT = "com.microsoft"
# What comes of reading an operator that lacks an input or an attribute: no checker knows other domains' operators.
MALFORMED = (AttributeError, IndexError, KeyError, TypeError, ValueError)
_StandIn = Callable[[NodeProto, Mapping[str, Array]], list[NodeProto] | None]


def stand_ins(node: NodeProto, constants: Mapping[str, Array], opset: int) -> list[NodeProto]:
    """Returns nodes of ONNX's own domain whose outputs have the shapes of a node's; the node itself if none are known.

    Args:
        node: of any domain.
        constants: initializers and constants by name.
        opset: version of ONNX's own operators.
    """
    early = not node.domain and opset < _SINCE.get(node.op_type, 1)
    chosen = _same(0) if early else _STAND_INS.get((node.domain, node.op_type))
    try:
        found = chosen(node, constants) if chosen else None
    except MALFORMED:
        found = None
    return [node] if found is None else found


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """Returns a node's attributes by name."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _same(index: int) -> _StandIn:
    """The shape of one of the inputs."""
    return lambda node, _: [helper.make_node("Identity", [node.input[index]], [node.output[0]])]


def _as(operator: str, *indices: int) -> _StandIn:
    """The shape of another operator with the same attributes, of some of the inputs."""

    def stand_in(node: NodeProto, _: Mapping[str, Array]) -> list[NodeProto]:
        inputs = [node.input[index] for index in indices]
        plain = helper.make_node(operator, inputs, [node.output[0]], node.name)
        plain.attribute.extend(attribute for attribute in node.attribute if attribute.name != "channels_last")
        return [plain]

    return stand_in


def _joined(node: NodeProto, _: Mapping[str, Array]) -> list[NodeProto]:
    return [helper.make_node("Concat", node.input[2::3], [node.output[0]], **attributes_of(node))]


def _product(node: NodeProto, _: Mapping[str, Array]) -> list[NodeProto] | None:
    """A matrix product of either operand or its transpose, with any number of batch axes."""
    attributes = attributes_of(node)
    if attributes.get("transBatchA", 0) or attributes.get("transBatchB", 0):
        return None
    first = "...ki" if attributes.get("transA", 0) else "...ik"
    second = "...jk" if attributes.get("transB", 0) else "...kj"
    return [helper.make_node("Einsum", node.input[:2], [node.output[0]], equation=f"{first},{second}->...ij")]


def _matrix(node: NodeProto, rows: int, columns: int) -> list[NodeProto]:
    """The shape of the first input times a matrix of a known size."""
    size, matrix = f"{node.output[0]}/size", f"{node.output[0]}/matrix"
    value = numpy_helper.from_array(np.array([rows, columns], np.int64))
    return [
        helper.make_node("Constant", [], [size], value=value),
        helper.make_node("ConstantOfShape", [size], [matrix]),
        helper.make_node("MatMul", [node.input[0], matrix], [node.output[0]]),
    ]


def _packed_product(node: NodeProto, _: Mapping[str, Array]) -> list[NodeProto]:
    attributes = attributes_of(node)
    return _matrix(node, attributes["K"], attributes["N"])


def _packed_attention(node: NodeProto, constants: Mapping[str, Array]) -> list[NodeProto] | None:
    """X[N, S, I], W[I, D + D + V] → Y[N, S, V]."""
    weight = constants.get(node.input[1])
    if weight is None or (len(node.output) > 1 and node.output[1]):
        return None
    sizes = attributes_of(node).get("qkv_hidden_sizes", [weight.shape[1] // 3] * 3)
    return _matrix(node, weight.shape[0], sizes[2])


def _attention(node: NodeProto, _: Mapping[str, Array]) -> list[NodeProto] | None:
    """Q[N, S, D], K[N, L, D], V[N, L, V] → Y[N, S, V]."""
    query, key, value = [*node.input, "", ""][:3]
    if not key or not value:
        return None
    scores, turned = f"{node.output[0]}/scores", f"{node.output[0]}/key"
    return [
        helper.make_node("Transpose", [key], [turned], perm=[0, 2, 1]),
        helper.make_node("MatMul", [query, turned], [scores]),
        helper.make_node("MatMul", [scores, value], [node.output[0]]),
    ]


# Written by ONNX Runtime into models of earlier versions too.
_SINCE = {"LayerNormalization": 17, "RMSNormalization": 23, "Gelu": 20}
_STAND_INS: dict[tuple[str, str], _StandIn] = {
    **{
        (_MICROSOFT, name): _same(0)
        for name in (
            "DequantizeLinear", "FastGelu", "Gelu", "QLinearLeakyRelu", "QLinearSigmoid", "QLinearSoftmax", "QuickGelu",
            "QuantizeLinear", "RotaryEmbedding",
        )
    },
    (_MICROSOFT, "BiasGelu"): _as("Add", 0, 1),
    (_MICROSOFT, "QLinearAdd"): _as("Add", 0, 3),
    (_MICROSOFT, "QLinearMul"): _as("Mul", 0, 3),
    (_MICROSOFT, "QLinearConcat"): _joined,
    (_MICROSOFT, "QLinearConv"): _as("Conv", 0, 3),
    (_MICROSOFT, "QLinearGlobalAveragePool"): _as("GlobalAveragePool", 0),
    (_MICROSOFT, "QLinearAveragePool"): _as("AveragePool", 0),
    (_MICROSOFT, "QGemm"): _as("Gemm", 0, 3),
    (_MICROSOFT, "FusedMatMul"): _product,
    (_MICROSOFT, "DynamicQuantizeMatMul"): _as("MatMul", 0, 1),
    (_MICROSOFT, "MatMulIntegerToFloat"): _as("MatMul", 0, 1),
    (_MICROSOFT, "MatMulNBits"): _packed_product,
    (_MICROSOFT, "Attention"): _packed_attention,
    (_MICROSOFT, "MultiHeadAttention"): _attention,
    (_MICROSOFT, "EmbedLayerNormalization"): lambda node, _: [
        helper.make_node("Gather", [node.input[2], node.input[0]], [node.output[0]])
    ],
}  # fmt: skip
