"""The multiply-accumulates of one node, by its operator and the shapes that it meets."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from compress.channels.graph import Shape
from compress.onnx_io.shapes import Values
from compress.onnx_io.tensors import subgraphs

if TYPE_CHECKING:
    import onnx

# These multiply and accumulate, by amounts that no rule here knows.
_UNKNOWN_COST = {"Attention", "DeformConv", "DFT", "STFT"}


def operator_name(node: onnx.NodeProto) -> str:
    """Returns how budgets and reports write an operator: ``Conv``, or ``domain.Operator`` outside ONNX itself."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def node_macs(node: onnx.NodeProto, values: Values) -> tuple[int, str]:
    """Returns the multiply-accumulates of a node, or 0 and why they are unknown."""
    count = _COUNTERS.get(node.op_type)
    if count is not None:
        try:
            return count(node, values), ""
        except _UnknownShapeError as error:
            why = f"shape of {error} is unknown"
        except (IndexError, StopIteration, ValueError):
            why = "its inputs do not fit it"
    elif node.op_type in _UNKNOWN_COST or node.domain not in ("", "ai.onnx", "ai.onnx.ml"):
        why = "no rule"
    elif node.attribute and any(inner.op_type in _COUNTERS for graph in subgraphs((node,)) for inner in graph.node):
        why = "how often its body runs is unknown"
    else:
        return 0, ""
    return 0, f"{operator_name(node)} {node.name or node.output[0]!r}: {why}"


class _UnknownShapeError(Exception):
    """The shape of a value does not follow from the model."""


def _shape(values: Values, name: str) -> Shape:
    shape = values.shape(name)
    if shape is None:
        raise _UnknownShapeError(repr(name))
    return shape


def _convolution(weight: int) -> Callable[[onnx.NodeProto, Values], int]:
    # Each output element sums over the input channels of its group and the kernel: W[O, I / group, k…].
    def count(node: onnx.NodeProto, values: Values) -> int:
        return math.prod(_shape(values, node.output[0])) * math.prod(_shape(values, node.input[weight])[1:])

    return count


def _transposed_convolution(node: onnx.NodeProto, values: Values) -> int:
    # Each input element reaches the output channels of its group and the kernel: W[I, O / group, k…].
    return math.prod(_shape(values, node.input[0])) * math.prod(_shape(values, node.input[1])[1:])


def _product(node: onnx.NodeProto, values: Values) -> int:
    # [… M, K] × [… K, N]: each output element sums over K. Only Gemm has transA.
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    inner = _shape(values, node.input[0])[0 if transposed else -1]
    return math.prod(_shape(values, node.output[0])) * inner


def _recurrent(node: onnx.NodeProto, values: Values) -> int:
    # Every step of every sequence reads W[D, G·H, I] and R[D, G·H, H] whole.
    layout = any(attribute.name == "layout" and attribute.i for attribute in node.attribute)
    X = _shape(values, node.input[0])  # [T, N, I], or [N, T, I] with layout = 1: the product is the same
    if len(X) != 3:
        raise _UnknownShapeError(f"{node.input[0]!r} (layout {int(layout)})")
    return X[0] * X[1] * sum(math.prod(_shape(values, node.input[position])) for position in (1, 2))


def _einsum(node: onnx.NodeProto, values: Values) -> int:
    # Two operands: one product for each combination of all letters.
    equation = next(attribute.s for attribute in node.attribute if attribute.name == "equation").decode()
    operands = equation.replace(" ", "").partition("->")[0].split(",")
    if len(operands) != 2 or "." in equation:
        raise _UnknownShapeError(f"one of {len(operands)} operands in {equation!r}")
    letters: dict[str, int] = {}
    for operand, name in zip(operands, node.input, strict=True):
        letters |= dict(zip(operand, _shape(values, name), strict=True))
    return math.prod(letters.values())


_COUNTERS: dict[str, Callable[[onnx.NodeProto, Values], int]] = {
    "Conv": _convolution(1),
    "FusedConv": _convolution(1),
    "ConvInteger": _convolution(1),
    "QLinearConv": _convolution(3),
    "ConvTranspose": _transposed_convolution,
    "Gemm": _product,
    "MatMul": _product,
    "FusedGemm": _product,
    "FusedMatMul": _product,
    "MatMulInteger": _product,
    "QLinearMatMul": _product,
    "QGemm": _product,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "Einsum": _einsum,
}
