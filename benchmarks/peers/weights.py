"""What a model holds in weights, counted alike for every tool, and how channels of a foreign file are killed.

Tools that fold normalizations into convolutions change the count of parameters without removing a channel. What only
the removal of channels makes smaller are the entries of tensors that extend over two axes or more, the *weights*, and
the channel pairs: outputs × inputs of each convolution and matrix product.
"""

import math
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from compress.channels.groups import ChannelGroup, Groups
from compress.channels.kept import Kept
from compress.channels.trace import trace
from compress.onnx_io.graph import channel_graph
from compress.onnx_io.tensors import graphs

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
PRODUCTS = {"Conv", "ConvTranspose", "Gemm", "MatMul", "FusedConv", "FusedGemm", "FusedMatMul", "LSTM", "GRU"}
ZERO_MAKES_ZERO = {"Add", "Sub", "Mul", "Unsqueeze", "Reshape"}


def stored(model: ModelProto) -> Iterator[tuple[str, TensorProto]]:
    """Yields the name and the tensor of every initializer and Constant node, subgraphs included."""
    for graph in graphs(model.graph):
        yield from ((tensor.name, tensor) for tensor in graph.initializer)
        for node in graph.node:
            tensors = [attribute.t for attribute in node.attribute if attribute.name == "value"]
            if node.op_type == "Constant" and tensors:
                yield node.output[0], tensors[0]


def readers(model: ModelProto) -> dict[str, list[NodeProto]]:
    found: dict[str, list[NodeProto]] = {}
    for graph in graphs(model.graph):
        for node in graph.node:
            for name in node.input:
                found.setdefault(name, []).append(node)
    return found


def weight_shapes(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the floating-point tensors of two axes or more that nodes read."""
    read = readers(model)
    return {
        name: tuple(tensor.dims)
        for name, tensor in stored(model)
        if name in read and tensor.data_type in FLOATS and len(tensor.dims) > 1
    }


def weight_entries(model: ModelProto) -> int:
    return sum(_entries(shape) for shape in weight_shapes(model).values())


def _entries(shape: tuple[int, ...]) -> int:
    # A vector that broadcasts over space is no weight, however it is shaped.
    return math.prod(shape) if math.prod(shape) > max(shape) else 0


def channel_pairs(model: ModelProto) -> int:
    """Returns outputs × inputs, summed over the weights of convolutions, matrix products and recurrent layers."""
    read = readers(model)
    total = 0
    for name, shape in weight_shapes(model).items():
        if any(node.op_type in PRODUCTS | {"Transpose", "QuantizeLinear", "DequantizeLinear"} for node in read[name]):
            recurrent = any(node.op_type in ("LSTM", "GRU") for node in read[name])
            total += math.prod(shape) if recurrent else math.prod(shape[:2])
    return total


def kill_half(model: ModelProto, seed: int = 0) -> tuple[ModelProto, int]:
    """Zeroes a random half of the channels of every group of coupled channels in a file.

    Returns:
        a copy of the model, and the weights that remain once these channels are cut.
    """
    killed = ModelProto()
    killed.CopyFrom(model)
    tensors = dict(stored(killed))
    floats = {name for name, tensor in tensors.items() if tensor.data_type in FLOATS}
    known = trace(channel_graph(killed), fold=False)
    groups = Groups(known, floats)
    generator, keep = np.random.default_rng(seed), np.ones(groups.size, dtype=bool)
    for part in groups.split(keep):
        part[generator.permutation(part.size)[: part.size // 2]] = False
    read = readers(killed)
    zeroed: dict[str, np.ndarray] = {}
    for group, part in zip(groups.groups, groups.split(keep), strict=True):
        for name, axis, dead in _rows(group, ~part, read):
            array = zeroed.setdefault(name, numpy_helper.to_array(tensors[name]).copy())
            array[(slice(None),) * axis + (dead,)] = 0
    for name, array in zeroed.items():
        tensors[name].CopyFrom(numpy_helper.from_array(array, tensors[name].name))
    return killed, cut_entries(killed, groups.kept(keep))


def cut_entries(model: ModelProto, kept: Kept) -> int:
    return sum(_entries(kept.shape(name)) for name in weight_shapes(model))


def _rows(
    group: ChannelGroup, dead: np.ndarray, read: dict[str, list[NodeProto]]
) -> Iterator[tuple[str, int, np.ndarray]]:
    """Yields (tensor, axis, positions) of what makes the dead units of a group something else than zero."""
    for member in group.members:
        additive = {node.op_type for node in read.get(member.parameter, ())} <= ZERO_MAKES_ZERO
        if member.role in ("out", "scale", "shift") or (member.role == "other" and additive):
            yield member.parameter, member.axis, np.flatnonzero((member.unit >= 0) & dead[np.maximum(member.unit, 0)])


def load(path: object) -> ModelProto:
    return onnx.load(str(path))
