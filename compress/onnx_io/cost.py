"""What an ONNX model costs, read off the file: parameters, multiply-accumulates, activation memory, operators.

What cannot be counted is named, never guessed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.channels.graph import Graph, Shape
from compress.onnx_io.macs import node_macs, operator_name
from compress.onnx_io.memory import peak_activation_bytes
from compress.onnx_io.shapes import Sized, sized
from compress.onnx_io.tensors import graphs

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
        macs, why = node_macs(node, values)
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
    counted = [node_macs(node, values) for node in graph.nodes if not values.constant(*node.output)]
    return sum(macs for macs, _ in counted), [why for _, why in counted if why]
