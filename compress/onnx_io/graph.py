"""An ONNX model as a graph of channels: plain nodes, concrete shapes, constant values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, helper

from compress.channels.graph import Array, Graph, Node, Shape
from compress.channels.trace import known_values
from compress.onnx_io.examples import shaped
from compress.onnx_io.followed import followed
from compress.onnx_io.functions import inlined
from compress.onnx_io.inference import DTYPES, SMALL, Unshaped, inferred, seeds
from compress.onnx_io.plain import Plain, plain_nodes
from compress.onnx_io.tensors import captured_by
from compress.onnx_io.weights import values_of

_FOLDED = 1 << 20  # elements; larger results are left to be computed
# What the commonest attributes hold; `onnx.helper` tells of the others.
_VALUES: dict[int, Callable[[AttributeProto], Any]] = {
    AttributeProto.INT: lambda attribute: attribute.i,
    AttributeProto.INTS: lambda attribute: list(attribute.ints),
    AttributeProto.FLOAT: lambda attribute: attribute.f,
    AttributeProto.STRING: lambda attribute: attribute.s,
}


def channel_graph(model: ModelProto, weights: Mapping[str, Array] | None = None, sized: Graph | None = None) -> Graph:
    """Returns the channel graph of a model.

    Args:
        model: a checked model; nodes in topological order. It is not changed.
        weights: the data of tensors that hold none of their own, see `compress.onnx_io.weights`; not copied.
        sized: a graph in which tensors of these names have the shapes that they have here, if there is one. Where it
            knows them all nothing has to be inferred.
    """
    unshaped = _raw_graph(inlined(model), weights or {})
    return _folded((None if sized is None else unshaped.like(sized)) or shaped(unshaped))


def sized_graph(model: ModelProto, sizes: Mapping[str, Shape], graph: Graph | None = None) -> Graph:
    """Returns the channel graph of a model with chosen sizes; what large constants hold is not looked at.

    Args:
        model: a checked model without functions; it is not changed.
        sizes: of every input.
        graph: its channel graph, if there is one already; it serves if the example sizes are the chosen ones.
    """
    if graph is not None and all(graph.shapes.get(name) == size for name, size in sizes.items()):
        return _folded(replace(graph, dynamic={})) if graph.dynamic else graph
    unshaped = _raw_graph(model, dict(_large_constants(model.graph)))
    found = inferred(unshaped.skeleton, unshaped.graph, sizes, unshaped.worked_out(graph) if graph else None)
    return _folded(unshaped.shaped(found.shapes, found.elements))


def _large_constants(graph: GraphProto) -> Iterator[tuple[str, Array]]:
    """Yields a stand-in for each large constant: of its shape and element type, and without its data."""
    stored = (
        (name, attribute.t)
        for node in graph.node
        if node.op_type == "Constant"
        for name, attribute in zip(node.output, node.attribute, strict=False)
    )
    for name, tensor in (*((tensor.name, tensor) for tensor in graph.initializer), *stored):
        if math.prod(tensor.dims) > SMALL:
            yield name, np.broadcast_to(np.zeros((), DTYPES[tensor.data_type]), tuple(tensor.dims))


def _raw_graph(model: ModelProto, weights: Mapping[str, Array]) -> Unshaped:
    """Returns a model's nodes and constants in plain terms, and what shapes are inferred from."""
    graph = model.graph
    constants = dict(weights)
    constants |= {tensor.name: values_of(tensor) for tensor in graph.initializer if tensor.name not in constants}
    written = []
    for node in graph.node:
        if node.op_type == "Constant" and not node.domain:
            value = constants[node.output[0]] if node.output[0] in constants else _constant_value(node)
            if value is not None:
                constants[node.output[0]] = value
                continue
        written.append(node)
    inputs = tuple(value.name for value in graph.input if value.name not in constants)
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    outputs = tuple(output.name for output in graph.output)
    known = {name: tuple(value.shape) for name, value in constants.items()}
    elsewhere = {name for node in written for name in captured_by(node)} | set(outputs)
    plain = list(plain_nodes(written, constants, elsewhere, opset))
    nodes = tuple(_node(part.node, index, part.whole) for index, part in enumerate(plain))
    raw = Graph(nodes, inputs, outputs, constants, known, opset=opset)

    def skeleton() -> ModelProto:
        stored = [node for node in graph.node if node.op_type == "Constant" and node.output[0] in constants]
        shaped = (node for part in plain for node in part.shaped)
        return _without_weights(model, [*stored, *followed(shaped, constants, opset)])

    return Unshaped(raw, skeleton, _stood_in_for(plain))


def _folded(graph: Graph) -> Graph:
    """Replaces nodes whose result follows from integers and fixed shapes by constants.

    Nothing that a weight enters is replaced: weights keep their names.
    """
    found = {
        name: np.array(value, order="C")
        for name, value in known_values(graph, seeds(graph)).items()
        if value.size <= _FOLDED and name not in graph.outputs and not any(graph.dynamic.get(name, ()))
    }
    # A node goes as a whole or not at all.
    gone = [node for node in graph.nodes if all(output in found for output in node.outputs if output)]
    results = {output: found[output] for node in gone for output in node.outputs if output}
    return replace(graph, nodes=_without(graph, gone), constants={**graph.constants, **results})


def _without(graph: Graph, folded: list[Node]) -> tuple[Node, ...]:
    """Returns the nodes of a graph without some, and without those that no others have read."""
    leaving = {id(node) for node in folded}
    read, unread = set(graph.outputs), set[str]()
    left = []
    for node in reversed(graph.nodes):
        if id(node) in leaving or (not unread.isdisjoint(node.outputs) and read.isdisjoint(node.outputs)):
            unread.update(node.inputs, node.captured)
        else:
            read.update(node.inputs, node.captured)
            left.append(node)
    return tuple(reversed(left))


def _node(node: NodeProto, index: int, whole: str) -> Node:
    attributes: dict[str, Any] = {}
    holds_graphs = False
    for attribute in node.attribute:
        kind = attribute.type
        if kind in _VALUES and not attribute.ref_attr_name:
            attributes[attribute.name] = _VALUES[kind](attribute)
        elif kind == AttributeProto.TENSOR:
            attributes[attribute.name] = values_of(attribute.t)
        elif kind in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
            holds_graphs = True
        else:
            attributes[attribute.name] = helper.get_attribute_value(attribute)
    domain = "" if node.domain == "ai.onnx" else node.domain
    name = node.name or f"{node.op_type}_{index}"
    captured = tuple(captured_by(node)) if holds_graphs else ()
    return Node(node.op_type, name, tuple(node.input), tuple(node.output), attributes, domain, captured, whole)


def _constant_value(node: NodeProto) -> Array | None:
    attribute = node.attribute[0]
    value = helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return values_of(value)
    if attribute.name in ("value_int", "value_ints"):
        return np.asarray(value, dtype=np.int64)
    if attribute.name in ("value_float", "value_floats"):
        return np.asarray(value, dtype=np.float32)
    return None


def _stood_in_for(plain: list[Plain]) -> set[str]:
    """Returns the tensors whose inferred element type is that of a stand-in, or follows from one."""
    found: set[str] = set()
    for part in plain:
        own = part.shaped == (part.node,)
        if not own or (found and not found.isdisjoint(part.node.input) and part.node.op_type != "Cast"):
            found.update(part.node.output)
    return found


def _without_weights(model: ModelProto, nodes: list[NodeProto]) -> ModelProto:
    skeleton = ModelProto(ir_version=max(model.ir_version, 4))
    skeleton.opset_import.extend(model.opset_import)
    graph = skeleton.graph
    graph.name = "skeleton"
    graph.node.extend(nodes)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    declared = {value.name for value in graph.input}
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= SMALL and not tensor.external_data:
            graph.initializer.append(tensor)
        elif tensor.name not in declared:
            kind = graph.input.add(name=tensor.name).type.tensor_type
            kind.elem_type = tensor.data_type
            for size in tensor.dims:
                kind.shape.dim.add(dim_value=size)
    return skeleton
