"""What an ONNX model costs, read off the file: parameters, multiply-accumulates, activation memory, operators.

What cannot be counted is named, never guessed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.channels.graph import Graph, Shape
from compress.onnx_io.memory import peak_activation_bytes
from compress.onnx_io.shapes import Sized, Values, sized
from compress.onnx_io.tensors import graphs, subgraphs

if TYPE_CHECKING:
    import onnx

# Inputs that steer a computation instead of taking part in it: scales and zero points, limits, sizes.
_QUANTIZERS = {"QuantizeLinear": (1, 2), "DequantizeLinear": (1, 2)}
_STEERING: dict[str, tuple[int, ...]] = {
    **_QUANTIZERS,
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "QGemm": (1, 2, 4, 5, 7, 8),
    "Clip": (1, 2),
    "Pad": (1, 2, 3),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
    "Range": (0, 1, 2),
    "Dropout": (1, 2),
}
# Integers are weights only where these operators read them; elsewhere they are shapes and indices.
_INTEGER_WEIGHTS: dict[str, tuple[int, ...]] = {
    "DequantizeLinear": (0,),
    "QLinearConv": (3, 8),
    "QLinearMatMul": (0, 3),
    "ConvInteger": (1,),
    "MatMulInteger": (0, 1),
    "QGemm": (3, 6),
}
# These multiply and accumulate, by amounts that no rule here knows.
_UNKNOWN_COST = {"Attention", "DeformConv", "DFT", "STFT"}


@dataclass(frozen=True)
class Work:
    """What one inference of batch size 1 computes, and what the file stores for it.

    Attributes:
        parameters: elements of the weights, biases and normalisation statistics that nodes read, each tensor once;
            quantized ones count as well. Scales, zero points, clip limits, shapes, indices and single numbers do not.
        macs: multiply-accumulates of convolutions, matrix products and recurrent layers; a bias adds none.
        uncounted: nodes whose multiply-accumulates are unknown, with the reason.
    """

    parameters: int
    macs: int
    uncounted: tuple[str, ...]


@dataclass(frozen=True)
class Cost(Work):
    """All that one inference costs.

    Attributes:
        peak_activation_bytes: the largest sum of live activations, see `compress.onnx_io.memory`; None where a size is
            unknown.
        operators: operator → how many, subgraphs included; other domains' stand as ``domain.operator``.
    """

    peak_activation_bytes: int | None
    operators: dict[str, int]


def onnx_cost(
    model: onnx.ModelProto, batch_size: int = 1, sizes: Mapping[str, int] | None = None, graph: Graph | None = None
) -> Cost:
    """Counts what a model costs.

    Args:
        model: checked, see `compress.onnx_io.file.read_model`; not changed.
        batch_size: for a free batch axis; a fixed one is counted as it is.
        sizes: numbers for other free axes, by name; 64 otherwise.
        graph: the model's channel graph, if there is one already.

    Raises:
        ModelFileError: if an input is no tensor with a shape, or shapes contradict each other.
    """
    found = sized(model, batch_size, sizes, graph)
    work = _work(model, found)
    return Cost(work.parameters, work.macs, work.uncounted, peak_activation_bytes(found), _operators(model))


def onnx_work(model: onnx.ModelProto, graph: Graph | None = None) -> Work:
    """Counts what a model of batch size 1 computes and stores, and nothing else; see `onnx_cost`."""
    return _work(model, sized(model, graph=graph))


def _work(model: onnx.ModelProto, found: Sized) -> Work:
    macs, uncounted = _macs(found)
    return Work(_parameters(model), macs, tuple(uncounted))


def _parameters(model: onnx.ModelProto) -> int:
    import onnx

    floats = {
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.BFLOAT16,
        onnx.TensorProto.DOUBLE,
    }
    counted: dict[str, int] = {}
    holders = [*graphs(model.graph), *model.functions]
    stored: dict[str, tuple[int, Shape]] = {}
    for holder in holders:
        if isinstance(holder, onnx.GraphProto):
            stored |= {tensor.name: (tensor.data_type, tuple(tensor.dims)) for tensor in holder.initializer}
            stored |= {
                sparse.values.name: (sparse.values.data_type, tuple(sparse.dims))
                for sparse in holder.sparse_initializer
            }
        stored |= {node.output[0]: _constant(node) for node in holder.node if node.op_type == "Constant"}
    for holder in holders:
        for node in holder.node:
            operator = node.op_type
            for position, name in enumerate(node.input):
                element, shape = stored.get(name, (0, ()))
                if not shape:
                    continue
                is_float = element in floats and position not in _STEERING.get(operator, ())
                if is_float or position in _INTEGER_WEIGHTS.get(operator, ()):
                    counted[name] = math.prod(shape)
    return sum(counted.values())


def _constant(node: onnx.NodeProto) -> tuple[int, Shape]:
    tensors = [attribute.t for attribute in node.attribute if attribute.name == "value"]
    return (tensors[0].data_type, tuple(tensors[0].dims)) if tensors else (0, ())


def _operators(model: onnx.ModelProto) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for graph in graphs(model.graph):
        counts.update(operator_name(node) for node in graph.node)
    return dict(sorted(counts.items()))


def operator_name(node: onnx.NodeProto) -> str:
    """Returns how budgets and reports write an operator: ``Conv``, or ``domain.Operator`` outside ONNX itself."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


@dataclass(frozen=True)
class OperatorCost:
    """What one node costs in one inference.

    Attributes:
        node: its name, or its first output's.
        operator: see `operator_name`.
        macs: multiply-accumulates; 0 for operators that have none.
        bytes_moved: of all inputs and outputs, weights included, as far as their sizes are known.
        element: type of what it multiplies, as ONNX numbers it; 0 if unknown.
    """

    node: str
    operator: str
    macs: int
    bytes_moved: int
    element: int


def operator_costs(model: onnx.ModelProto, batch_size: int = 1) -> tuple[list[OperatorCost], list[str]]:
    """Returns what each node that depends on an input costs, in order; and what could not be counted, with the reason.

    Args:
        model: checked; not changed.
        batch_size: for a free batch axis.

    Raises:
        ModelFileError: if an input is no tensor with a shape, or shapes contradict each other.
    """
    graph = sized(model, batch_size)
    values = graph.values
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    # Integer kernels read and write what stands on the other side of a quantizer.
    whole = {n.output[0]: n.input[0] for n in graph.nodes if n.op_type == "DequantizeLinear"}
    whole |= {n.input[0]: n.output[0] for n in graph.nodes if n.op_type == "QuantizeLinear"}
    rows, uncounted = [], []
    for node in graph.nodes:
        if values.constant(*node.output):
            continue
        macs, why = _node_macs(node, values)
        uncounted += [why] if why else []
        read = [whole.get(name, name) for name in node.input if name]
        moved = sum(values.size_bytes(name) or 0 for name in {*read, *(whole.get(n, n) for n in node.output)})
        weight = next((stored[name] for name in read if name in stored), None)
        rows.append(
            OperatorCost(
                node=node.name or node.output[0],
                operator=operator_name(node),
                macs=macs,
                bytes_moved=moved,
                element=weight or values.element(node.output[0]),
            )
        )
    return rows, uncounted


def _macs(graph: Sized) -> tuple[int, list[str]]:
    values = graph.values
    counted = [_node_macs(node, values) for node in graph.nodes if not values.constant(*node.output)]
    return sum(macs for macs, _ in counted), [why for _, why in counted if why]


def _node_macs(node: onnx.NodeProto, values: Values) -> tuple[int, str]:
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
    elif any(inner.op_type in _COUNTERS for graph in subgraphs((node,)) for inner in graph.node):
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
