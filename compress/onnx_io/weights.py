"""A model without its weights, and the weights without the model.

What a graph says fits into some kilobytes; its weights are most of the file. Taken apart, the graph can be copied,
changed and analysed freely, and each weight is decoded once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.onnx_io.tensors import copy_fields, subgraphs

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

# Tensors up to this many elements stay in the graph: shapes, indices and scales must be readable there.
SMALL_ELEMENTS = 1024


def take_apart(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, NDArray[Any]]]:
    """Returns a copy without the data of large weights, and that data.

    Args:
        model: with every tensor inside it; not changed.

    Returns:
        The model, where large initializers and constants of the main graph keep name, type and shape alone; and their
        values, read-only, by the name under which nodes read them.
    """
    weights: dict[str, NDArray[Any]] = {}
    # What a subgraph reads stays where it is: tools copy it into the subgraph.
    captured = {name for graph in subgraphs(model.graph.node) for node in graph.node for name in node.input}
    skeleton = type(model)()
    copy_fields(model, skeleton, but=("graph",))
    graph = skeleton.graph
    copy_fields(model.graph, graph, but=("initializer", "node"))
    for tensor in model.graph.initializer:
        graph.initializer.append(tensor if tensor.name in captured else _emptied(tensor, tensor.name, weights))
    if any(_is_large_constant(node, captured) for node in model.graph.node):
        for node in model.graph.node:
            graph.node.append(_emptied_node(node, weights) if _is_large_constant(node, captured) else node)
    else:
        graph.node.extend(model.graph.node)
    return skeleton, weights


def put_together(skeleton: onnx.ModelProto, weights: Mapping[str, NDArray[Any]]) -> onnx.ModelProto:
    """Returns a copy of a model that `take_apart` has made, with the data of its weights."""
    model = type(skeleton)()
    model.CopyFrom(skeleton)
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.raw_data = weights[tensor.name].tobytes()
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output[0] in weights:
            node.attribute[0].t.raw_data = weights[node.output[0]].tobytes()
    return model


def hollow(name: str, element: int, shape: Iterable[int]) -> onnx.TensorProto:
    """Returns a tensor that says what it is and holds nothing."""
    import onnx

    return onnx.TensorProto(name=name, data_type=element, dims=list(shape))


def is_large(tensor: onnx.TensorProto) -> bool:
    """Tells whether a tensor's data can lie apart: it is large, and its bytes are those of a NumPy array."""
    import onnx

    return (
        math.prod(tensor.dims) > SMALL_ELEMENTS
        and tensor.HasField("raw_data")
        and tensor.data_location == onnx.TensorProto.DEFAULT
        and onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).isbuiltin == 1
    )


def _emptied(tensor: onnx.TensorProto, name: str, weights: dict[str, NDArray[Any]]) -> onnx.TensorProto:
    import onnx

    if not is_large(tensor) or name in weights:
        return tensor
    dtype, raw = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type), tensor.raw_data
    if len(raw) != math.prod(tensor.dims) * dtype.itemsize:
        # Whoever decodes it says what is wrong with it.
        return tensor
    weights[name] = np.frombuffer(raw, dtype).reshape(tuple(tensor.dims))
    return hollow(tensor.name, tensor.data_type, tensor.dims)


def _is_large_constant(node: onnx.NodeProto, captured: set[str]) -> bool:
    if node.op_type != "Constant" or node.domain or node.output[0] in captured:
        return False
    return any(is_large(attribute.t) for attribute in node.attribute)


def _emptied_node(node: onnx.NodeProto, weights: dict[str, NDArray[Any]]) -> onnx.NodeProto:
    emptied = type(node)()
    copy_fields(node, emptied, but=("attribute",))
    value = node.attribute[0]
    emptied.attribute.add(name=value.name, type=value.type, t=_emptied(value.t, node.output[0], weights))
    return emptied
