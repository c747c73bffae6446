"""An ONNX model as a graph of channels: plain nodes, concrete shapes, constant values.

Symbolic axes are given example sizes. Shapes are inferred twice, with two sets of examples, on a copy without weight
data: an axis whose size differs is symbolic.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorShapeProto,
    helper,
    numpy_helper,
    shape_inference,
)

from compress.channels.graph import Array, Graph, Node, Shape
from compress.channels.rules.elementwise import DTYPES as _ELEMENTS
from compress.channels.trace import known_values
from compress.onnx_io.functions import inlined
from compress.onnx_io.plain import Plain, plain_nodes

# Example sizes of free axes: (of the first axis, of the others). An axis whose size is the same with all is fixed. The
# last are small, for what is cropped to some length.
_EXAMPLES = ((1, 256), (2, 320), (3, 40))
_APART = 8  # between the examples of two symbols
_SMALL = 1024  # elements; constants up to this size may be shapes, indices and scales
# Elements of a tensor and of an axis; what is said to be larger could not be computed, so its shape counts as unknown.
_LARGEST = 1 << 28
_LONGEST = 1 << 26
_FOLDED = 1 << 20  # elements; larger results are left to be computed


def channel_graph(model: ModelProto, weights: Mapping[str, Array] | None = None) -> Graph:
    """Returns the channel graph of a model.

    Args:
        model: a checked model; nodes in topological order. It is not changed.
        weights: the data of tensors that hold none of their own, see `compress.onnx_io.weights`; not copied.
    """
    model = inlined(model)
    graph = model.graph
    constants = dict(weights or {})
    constants |= {
        tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name not in constants
    }
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
    raw = Graph(nodes, inputs, outputs, constants, known, {}, opset)
    stored = [node for node in graph.node if node.op_type == "Constant" and node.output[0] in constants]
    types: dict[str, np.dtype[Any]] = {}
    shapes, dynamic = _shapes(model, [*stored, *(node for part in plain for node in part.shaped)], raw, types)
    for name in _stood_in_for(plain):
        types.pop(name, None)
    shaped = dataclasses.replace(raw, shapes=shapes | known, dynamic=dynamic, types=types)
    return _folded(shaped)


def _folded(graph: Graph) -> Graph:
    """Replaces nodes whose result follows from integers and fixed shapes by constants.

    Nothing that a weight enters is replaced: weights keep their names.
    """
    found = {
        name: np.array(value, order="C")
        for name, value in known_values(graph, _seeds(graph)).items()
        if value.size <= _FOLDED and name not in graph.outputs and not any(graph.dynamic.get(name, ()))
    }
    # A node goes as a whole or not at all.
    gone = [node for node in graph.nodes if all(output in found for output in node.outputs if output)]
    leaving = {id(node) for node in gone}
    nodes = tuple(node for node in graph.nodes if id(node) not in leaving)
    results = {output: found[output] for node in gone for output in node.outputs if output}
    return dataclasses.replace(graph, nodes=nodes, constants={**graph.constants, **results})


def _seeds(graph: Graph) -> dict[str, Array]:
    """Returns the constants that shapes and indices are made of: integers, and scalars (which no weight is)."""
    return {n: v for n, v in graph.constants.items() if v.size <= _SMALL and (v.dtype.kind in "iub" or v.ndim == 0)}


def _node(node: NodeProto, index: int, whole: str) -> Node:
    attributes: dict[str, Any] = {}
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR:
            attributes[attribute.name] = numpy_helper.to_array(attribute.t)
        elif attribute.type not in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
            attributes[attribute.name] = helper.get_attribute_value(attribute)
    domain = "" if node.domain == "ai.onnx" else node.domain
    name = node.name or f"{node.op_type}_{index}"
    captured = tuple(captured_by(node))
    return Node(node.op_type, name, tuple(node.input), tuple(node.output), attributes, domain, captured, whole)


def captured_by(node: NodeProto) -> list[str]:
    """Returns the names that the subgraphs of a node read from outside."""
    subgraphs = (graph for attribute in node.attribute for graph in (attribute.g, *attribute.graphs))
    return [name for graph in subgraphs for name in _captured(graph)]


def _captured(graph: GraphProto) -> list[str]:
    """Returns the names that a subgraph reads and does not define."""
    defined = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    defined |= {tensor.values.name for tensor in graph.sparse_initializer}
    read: list[str] = [output.name for output in graph.output]
    for node in graph.node:
        read += [name for name in node.input if name] + captured_by(node)
        defined |= set(node.output)
    return [name for name in dict.fromkeys(read) if name not in defined]


def _constant_value(node: NodeProto) -> Array | None:
    attribute = node.attribute[0]
    value = helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return numpy_helper.to_array(value)
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
        if not own or (found & set(part.node.input) and part.node.op_type != "Cast"):
            found.update(part.node.output)
    return found


def _shapes(
    model: ModelProto, nodes: list[NodeProto], graph: Graph, types: dict[str, np.dtype[Any]]
) -> tuple[dict[str, Shape], dict[str, tuple[bool, ...]]]:
    """Returns the shapes of all tensors, and which axes have no size of their own; fills in the element types."""
    skeleton = _without_weights(model, nodes)
    if not any(_is_free(dim) for value in skeleton.graph.input for dim in value.type.tensor_type.shape.dim):
        return _infer(skeleton, graph, _EXAMPLES[0], apart=0, types=types), {}
    # Symbols of different names may differ, unless the network does not stand that.
    apart = _APART
    first = _infer(skeleton, graph, _EXAMPLES[0], apart=apart, types=types)
    if any(name not in first for node in graph.nodes for name in node.outputs if name):
        together = _infer(skeleton, graph, _EXAMPLES[0], apart=0)
        if len(first) < len(together):
            apart, first = 0, together
    dynamic = {}
    others = [_infer(skeleton, graph, example, apart=apart) for example in _EXAMPLES[1:]]
    for name, shape in first.items():
        found = [other[name] for other in others if name in other]
        if name not in others[0] or any(len(other) != len(shape) for other in found):
            # Inference failed with the other examples: nothing is known to be fixed.
            dynamic[name] = (True,) * len(shape)
        elif any(other != shape for other in found):
            dynamic[name] = tuple(len(set(sizes)) > 1 for sizes in zip(shape, *found, strict=True))
    return first, dynamic


def _is_free(dim: TensorShapeProto.Dimension) -> bool:
    """Tells whether an axis has no size of its own."""
    return not dim.HasField("dim_value") or dim.dim_value <= 0


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
        if np.prod(tensor.dims) <= _SMALL and not tensor.external_data:
            graph.initializer.append(tensor)
        elif tensor.name not in declared:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return skeleton


def _infer(
    skeleton: ModelProto,
    graph: Graph,
    example: tuple[int, int],
    *,
    apart: int,
    types: dict[str, np.dtype[Any]] | None = None,
) -> dict[str, Shape]:
    """Infers shapes; where that fails for want of a value, works the value out and infers again.

    Args:
        skeleton: the model without weight data.
        graph: the model's nodes and constants.
        example: sizes of free first axes, and of other free axes.
        apart: by how much the sizes of two symbols differ.
        types: where element types are put, if they are wanted.
    """
    model = ModelProto()
    model.CopyFrom(skeleton)
    sizes: dict[str, int] = {}
    for value in model.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim if value.name in graph.inputs else ()):
            if _is_free(dim):
                size = example[min(axis, 1)] + (apart * len(sizes) if axis else 0)
                dim.dim_value = sizes.setdefault(dim.dim_param, size) if dim.dim_param else size
    passed_on = [output for output in model.graph.output if output.name in graph.shapes or output.name in graph.inputs]
    for output in passed_on:
        # Its shape is the input's, and must not be declared a second time.
        model.graph.output.remove(output)
    for output in model.graph.output:
        if output.type.HasField("tensor_type"):
            # Declared output sizes may name symbols that now have a size.
            output.type.tensor_type.ClearField("shape")
    known: dict[str, Shape] = {}
    while True:
        inferred = shape_inference.infer_shapes(model, check_type=False, strict_mode=False, data_prop=True)
        shapes = dict(_known(inferred.graph)) | dict(graph.shapes) | known
        if types is not None:
            types.update(_element_types(inferred.graph))
        if all(name in shapes for node in graph.nodes for name in node.outputs if name):
            return shapes
        values = known_values(dataclasses.replace(graph, shapes=shapes), _seeds(graph))
        values = {n: v for n, v in values.items() if n not in known and v.size <= _SMALL and v.dtype.kind in "iub"}
        if not values:
            return shapes
        known |= {name: tuple(value.shape) for name, value in values.items()}
        rest = [node for node in model.graph.node if not set(node.output) <= known.keys()]
        del model.graph.node[:]
        model.graph.node.extend(rest)
        for name, value in values.items():
            model.graph.initializer.append(numpy_helper.from_array(np.array(value, order="C"), name))


def _element_types(graph: GraphProto) -> Iterator[tuple[str, np.dtype[Any]]]:
    for value in (*graph.input, *graph.value_info, *graph.output):
        element = value.type.tensor_type.elem_type if value.type.HasField("tensor_type") else 0
        if element in _ELEMENTS:
            yield value.name, np.dtype(_ELEMENTS[element])


def _known(graph: GraphProto) -> Iterator[tuple[str, Shape]]:
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            shape = tuple(dim.dim_value for dim in dims if dim.HasField("dim_value") and dim.dim_value >= 0)
            if len(shape) == len(dims) and math.prod(shape) <= _LARGEST and max(shape, default=0) <= _LONGEST:
                yield value.name, shape
