"""An ONNX model as a graph of channels: plain nodes, concrete shapes, constant values.

Symbolic axes are given example sizes. Shapes are inferred twice, with two sets of examples, on a copy without weight
data: an axis whose size differs is symbolic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
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
from compress.onnx_io.followed import followed
from compress.onnx_io.functions import inlined
from compress.onnx_io.plain import Plain, plain_nodes
from compress.onnx_io.tensors import inner_graphs
from compress.onnx_io.weights import values_of

# Example sizes of free axes: (of the first axis, of the others). An axis whose size is the same with all is fixed. The
# last are small, for what is cropped to some length.
_EXAMPLES = ((1, 256), (2, 320), (3, 40))
_APART = 8  # between the examples of two symbols
_SMALL = 1024  # elements; constants up to this size may be shapes, indices and scales
# Elements of a tensor and of an axis; what is said to be larger could not be computed, so its shape counts as unknown.
_LARGEST = 1 << 28
_LONGEST = 1 << 26
_FOLDED = 1 << 20  # elements; larger results are left to be computed
_SURE = {np.dtype(kind) for kind in _ELEMENTS.values()}
# What the commonest attributes hold; `onnx.helper` tells of the others.
_VALUES: dict[int, Callable[[AttributeProto], Any]] = {
    AttributeProto.INT: lambda attribute: attribute.i,
    AttributeProto.INTS: lambda attribute: list(attribute.ints),
    AttributeProto.FLOAT: lambda attribute: attribute.f,
    AttributeProto.STRING: lambda attribute: attribute.s,
}
_DTYPES = {element: helper.tensor_dtype_to_np_dtype(element) for element in helper.get_all_tensor_dtypes()}


def channel_graph(model: ModelProto, weights: Mapping[str, Array] | None = None) -> Graph:
    """Returns the channel graph of a model.

    Args:
        model: a checked model; nodes in topological order. It is not changed.
        weights: the data of tensors that hold none of their own, see `compress.onnx_io.weights`; not copied.
    """
    return _folded(_shaped(_raw_graph(inlined(model), weights or {})))


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
    return _folded(unshaped.shaped(*_infer(unshaped.skeleton, unshaped.graph, sizes)))


def _large_constants(graph: GraphProto) -> Iterator[tuple[str, Array]]:
    """Yields a stand-in for each large constant: of its shape and element type, and without its data."""
    stored = (
        (name, attribute.t)
        for node in graph.node
        if node.op_type == "Constant"
        for name, attribute in zip(node.output, node.attribute, strict=False)
    )
    for name, tensor in (*((tensor.name, tensor) for tensor in graph.initializer), *stored):
        if math.prod(tensor.dims) > _SMALL:
            yield name, np.broadcast_to(np.zeros((), _DTYPES[tensor.data_type]), tuple(tensor.dims))


def _raw_graph(model: ModelProto, weights: Mapping[str, Array]) -> _Unshaped:
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
    stored = [node for node in graph.node if node.op_type == "Constant" and node.output[0] in constants]
    shaped = (node for part in plain for node in part.shaped)
    skeleton = _without_weights(model, [*stored, *(one for node in shaped for one in followed(node, constants))])
    return _Unshaped(raw, skeleton, _stood_in_for(plain))


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
    return replace(graph, nodes=nodes, constants={**graph.constants, **results})


def _seeds(graph: Graph) -> dict[str, Array]:
    """Returns the constants that shapes and indices are made of: integers, and scalars (which no weight is)."""
    return {n: v for n, v in graph.constants.items() if v.size <= _SMALL and (v.dtype.kind in "iub" or v.ndim == 0)}


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


def captured_by(node: NodeProto) -> list[str]:
    """Returns the names that the subgraphs of a node read from outside."""
    inner = inner_graphs(node)
    return [name for graph in inner for name in _captured(graph)] if inner else []


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
        if not own or (found & set(part.node.input) and part.node.op_type != "Cast"):
            found.update(part.node.output)
    return found


@dataclass(frozen=True)
class _Unshaped:
    """A graph before its shapes are known.

    Attributes:
        graph: nodes and constants.
        skeleton: the model without weight data.
        foreign: see `_stood_in_for`.
    """

    graph: Graph
    skeleton: ModelProto
    foreign: set[str]

    def shaped(self, shapes: Mapping[str, Shape], elements: Mapping[str, np.dtype[Any]], **found: Any) -> Graph:
        """Returns the graph with what has been inferred."""
        sure = {name: kind for name, kind in elements.items() if kind in _SURE and name not in self.foreign}
        return replace(self.graph, shapes=shapes, elements=elements, types=sure, **found)


def _shaped(unshaped: _Unshaped) -> Graph:
    """Returns a graph with its shapes, for examples of its free axes."""
    raw, skeleton = unshaped.graph, unshaped.skeleton
    inputs = [value.type.tensor_type.shape.dim for value in skeleton.graph.input]
    free = [axis for dims in inputs for axis, dim in enumerate(dims) if _is_free(dim)]
    if not free:
        shapes, elements = _infer(skeleton, raw, {})
        return unshaped.shaped(shapes, elements)
    # Symbols of different names may differ, unless the network does not stand that.
    apart = _APART
    first, elements = _infer(skeleton, raw, _sizes(skeleton, raw, _EXAMPLES[0], apart=apart))
    if any(name not in first for node in raw.nodes for name in node.outputs if name):
        together, _ = _infer(skeleton, raw, _sizes(skeleton, raw, _EXAMPLES[0], apart=0))
        if len(first) < len(together):
            apart, first = 0, together
    dynamic = {}
    # The last example tells of axes beside the first.
    more = _EXAMPLES[1:] if any(free) else _EXAMPLES[1:2]
    others = [_infer(skeleton, raw, _sizes(skeleton, raw, example, apart=apart))[0] for example in more]
    for name, shape in first.items():
        found = [other[name] for other in others if name in other]
        if name not in others[0] or any(len(other) != len(shape) for other in found):
            # Inference failed with the other examples: nothing is known to be fixed.
            dynamic[name] = (True,) * len(shape)
        elif any(other != shape for other in found):
            dynamic[name] = tuple(len(set(sizes)) > 1 for sizes in zip(shape, *found, strict=True))
    return unshaped.shaped(first, elements, dynamic=dynamic)


def _sizes(skeleton: ModelProto, graph: Graph, example: tuple[int, int], *, apart: int) -> dict[str, Shape]:
    """Returns a shape for each input.

    Args:
        skeleton: the model without weight data.
        graph: the model's nodes and constants.
        example: sizes of free first axes, and of other free axes.
        apart: by how much the sizes of two symbols differ.
    """
    sizes: dict[str, int] = {}
    found = {}
    for value in skeleton.graph.input:
        shape = []
        for axis, dim in enumerate(value.type.tensor_type.shape.dim if value.name in graph.inputs else ()):
            size = dim.dim_value
            if _is_free(dim):
                size = example[min(axis, 1)] + (apart * len(sizes) if axis else 0)
                size = sizes.setdefault(dim.dim_param, size) if dim.dim_param else size
            shape.append(size)
        found[value.name] = tuple(shape)
    return found


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
        if math.prod(tensor.dims) <= _SMALL and not tensor.external_data:
            graph.initializer.append(tensor)
        elif tensor.name not in declared:
            kind = graph.input.add(name=tensor.name).type.tensor_type
            kind.elem_type = tensor.data_type
            for size in tensor.dims:
                kind.shape.dim.add(dim_value=size)
    return skeleton


def _infer(
    skeleton: ModelProto, graph: Graph, sizes: Mapping[str, Shape]
) -> tuple[dict[str, Shape], dict[str, np.dtype[Any]]]:
    """Infers shapes; where that fails for want of a value, works the value out and infers again.

    Args:
        skeleton: the model without weight data.
        graph: the model's nodes and constants.
        sizes: of the inputs that have free axes, at least.

    Returns:
        Shape by tensor name, and element type.
    """
    model = ModelProto()
    model.CopyFrom(skeleton)
    for value in model.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, sizes.get(value.name, ()), strict=False):
            dim.dim_value = size
    passed_on = [output for output in model.graph.output if output.name in graph.shapes or output.name in graph.inputs]
    for output in passed_on:
        # Its shape is the input's, and must not be declared a second time.
        model.graph.output.remove(output)
    for output in model.graph.output:
        if output.type.HasField("tensor_type"):
            # Declared output sizes may name symbols that now have a size.
            output.type.tensor_type.ClearField("shape")
    known: dict[str, Array] = {}
    while True:
        inferred = shape_inference.infer_shapes(model, check_type=False, strict_mode=False, data_prop=True)
        shapes, elements = _known(inferred.graph)
        for name, value in (*graph.constants.items(), *known.items()):
            shapes[name], elements[name] = tuple(value.shape), value.dtype
        if all(name in shapes for node in graph.nodes for name in node.outputs if name):
            return shapes, elements
        values = known_values(replace(graph, shapes=shapes), _seeds(graph))
        values = {n: v for n, v in values.items() if n not in known and v.size <= _SMALL and v.dtype.kind in "iub"}
        if not values:
            return shapes, elements
        known |= values
        rest = [node for node in model.graph.node if not set(node.output) <= known.keys()]
        del model.graph.node[:]
        model.graph.node.extend(rest)
        for name, value in values.items():
            model.graph.initializer.append(numpy_helper.from_array(np.array(value, order="C"), name))


def _known(graph: GraphProto) -> tuple[dict[str, Shape], dict[str, np.dtype[Any]]]:
    shapes, elements = {}, {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type
        if not kind.HasField("tensor_type"):
            continue
        tensor = kind.tensor_type
        if tensor.elem_type in _DTYPES:
            elements[value.name] = _DTYPES[tensor.elem_type]
        if tensor.HasField("shape"):
            sizes = [dim.dim_value for dim in tensor.shape.dim]
            if 0 in sizes and not all(dim.HasField("dim_value") for dim in tensor.shape.dim):
                continue
            if min(sizes, default=0) >= 0 and max(sizes, default=0) <= _LONGEST and math.prod(sizes) <= _LARGEST:
                shapes[value.name] = tuple(sizes)
    return shapes, elements
