"""The shape and the element type of every tensor of a graph, for examples of its free axes.

They are inferred on a copy without weight data, with several sets of examples: an axis whose size differs is symbolic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, TensorShapeProto, helper, numpy_helper, shape_inference

from compress.channels.graph import Array, Graph, Shape
from compress.channels.rules.elementwise import DTYPES as _ELEMENTS
from compress.channels.trace import known_values

# Example sizes of free axes: (of the first axis, of the others). An axis whose size is the same with all is fixed. The
# last are small, for what is cropped to some length.
_EXAMPLES = ((1, 256), (2, 320), (3, 40))
_APART = 8  # between the examples of two symbols
SMALL = 1024  # elements; constants up to this size may be shapes, indices and scales
# Elements of a tensor and of an axis; what is said to be larger could not be computed, so its shape counts as unknown.
_LARGEST = 1 << 28
_LONGEST = 1 << 26
_SURE = {np.dtype(kind) for kind in _ELEMENTS.values()}
# What NumPy calls the element types, by ONNX's numbers.
DTYPES = {element: helper.tensor_dtype_to_np_dtype(element) for element in helper.get_all_tensor_dtypes()}


@dataclass(frozen=True)
class Unshaped:
    """A graph before its shapes are known.

    Attributes:
        graph: nodes and constants.
        skeleton: the model without weight data.
        foreign: tensors whose inferred element type is that of a stand-in, or follows from one.
    """

    graph: Graph
    skeleton: ModelProto
    foreign: set[str]

    def shaped(self, shapes: Mapping[str, Shape], elements: Mapping[str, np.dtype[Any]], **found: Any) -> Graph:
        """Returns the graph with what has been inferred."""
        sure = {name: kind for name, kind in elements.items() if kind in _SURE and name not in self.foreign}
        return replace(self.graph, shapes=shapes, elements=elements, types=sure, **found)

    def like(self, other: Graph) -> Graph | None:
        """Returns the graph with the shapes of another one, None where that does not know them all, or otherwise.

        Two things need not be known: what sets some sizes among others that are computed, see `NodeEdit.overrides`, and
        what is the tensor of the other graph once a constant has been added to it, which does not change its shape.
        """
        constants = self.graph.constants
        if any(other.shapes.get(name, value.shape) != value.shape for name, value in constants.items()):
            return None
        shapes: dict[str, Shape] = {name: tuple(value.shape) for name, value in constants.items()}
        elements = {name: value.dtype for name, value in constants.items()}
        dynamic = {}
        made = [(name, node) for node in self.graph.nodes for name in node.outputs if name]
        sums = {n.inputs[0]: n.outputs[0] for n in self.graph.nodes if n.key == "Add" and n.inputs[1] in constants}
        for name, node in [*((name, None) for name in self.graph.inputs), *made]:
            there = name if name in other.shapes else sums.get(name, name)
            if there in other.shapes and there in other.elements:
                shapes[name], elements[name] = other.shapes[there], other.elements[there]
                if there in other.dynamic:
                    dynamic[name] = other.dynamic[there]
            elif node is not None and node.key == "Where" and shapes.keys() >= set(node.inputs):
                shapes[name] = np.broadcast_shapes(*(shapes[source] for source in node.inputs))
                elements[name] = elements[node.inputs[1]]
            else:
                return None
        return self.shaped(shapes, elements, dynamic=dynamic)


def shaped(unshaped: Unshaped) -> Graph:
    """Returns a graph with its shapes, for examples of its free axes."""
    raw, skeleton = unshaped.graph, unshaped.skeleton
    inputs = [value.type.tensor_type.shape.dim for value in skeleton.graph.input]
    free = [axis for dims in inputs for axis, dim in enumerate(dims) if _is_free(dim)]
    if not free:
        only = inferred(skeleton, raw, {})
        return unshaped.shaped(only.shapes, only.elements)
    # Symbols of different names may differ, unless the network does not stand that.
    apart = _APART
    sizes = _sizes(skeleton, raw, _EXAMPLES[0], apart=apart)
    try:
        first = inferred(skeleton, raw, sizes, strict=True)
    except shape_inference.InferenceError:
        first = inferred(skeleton, raw, sizes)
        if any(name not in first.shapes for node in raw.nodes for name in node.outputs if name):
            together = inferred(skeleton, raw, _sizes(skeleton, raw, _EXAMPLES[0], apart=0))
            if len(first.shapes) < len(together.shapes):
                apart, first = 0, together
    dynamic = {}
    # The last example tells of axes beside the first.
    more = _EXAMPLES[1:] if any(free) else _EXAMPLES[1:2]
    others = [inferred(skeleton, raw, _sizes(skeleton, raw, example, apart=apart), first).shapes for example in more]
    for name, shape in first.shapes.items():
        found = [other[name] for other in others if name in other]
        if name not in others[0] or any(len(other) != len(shape) for other in found):
            # Inference failed with the other examples: nothing is known to be fixed.
            dynamic[name] = (True,) * len(shape)
        elif any(other != shape for other in found):
            dynamic[name] = tuple(len(set(sizes)) > 1 for sizes in zip(shape, *found, strict=True))
    return unshaped.shaped(first.shapes, first.elements, dynamic=dynamic)


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


@dataclass(frozen=True)
class Inferred:
    """What is inferred for one choice of sizes.

    Attributes:
        shapes: by tensor name.
        elements: element types, likewise.
        values: those that had to be worked out for it, as far as they follow from constants alone.
    """

    shapes: dict[str, Shape]
    elements: dict[str, np.dtype[Any]]
    values: dict[str, Array]


def inferred(
    skeleton: ModelProto,
    graph: Graph,
    sizes: Mapping[str, Shape],
    beside: Inferred | None = None,
    *,
    strict: bool = False,
) -> Inferred:
    """Infers shapes; where that fails for want of a value, works the value out and infers again.

    Args:
        skeleton: the model without weight data.
        graph: the model's nodes and constants.
        sizes: of the inputs that have free axes, at least.
        beside: what has been inferred for other sizes; the shape of no other tensor is wanted.
        strict: whether to fail where the sizes contradict each other, or an operator is unknown.

    Raises:
        InferenceError: if it is strict and fails.
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
    wanted = {name for node in graph.nodes for name in node.outputs if name}
    known: dict[str, Array] = {}
    values: dict[str, Array] = {}
    if beside is not None:
        wanted &= beside.shapes.keys()
        values = beside.values
    while True:
        known |= values
        if values:
            _put(known, values, model)
        inferred = shape_inference.infer_shapes(model, check_type=False, strict_mode=strict, data_prop=True)
        shapes, elements = _known(inferred.graph)
        for name, value in (*graph.constants.items(), *known.items()):
            shapes[name], elements[name] = tuple(value.shape), value.dtype
        values = {} if wanted <= shapes.keys() else known_values(replace(graph, shapes=shapes), seeds(graph))
        values = {n: v for n, v in values.items() if n not in known and v.size <= SMALL and v.dtype.kind in "iub"}
        if not values:
            return Inferred(shapes, elements, _of_constants(graph, known))


def _put(known: Mapping[str, Array], new: Mapping[str, Array], model: ModelProto) -> None:
    """Stores new values in a model and takes out the nodes that compute nothing but known ones."""
    rest = [node for node in model.graph.node if not known.keys() >= set(node.output)]
    del model.graph.node[:]
    model.graph.node.extend(rest)
    for name, value in new.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, order="C"), name))


def _of_constants(graph: Graph, values: dict[str, Array]) -> dict[str, Array]:
    """Returns those values that follow from constants alone."""
    constant = set(graph.constants)
    for node in graph.nodes:
        if node.inputs and not node.captured and constant.issuperset(filter(None, node.inputs)):
            constant.update(node.outputs)
    return {name: value for name, value in values.items() if name in constant}


def _known(graph: GraphProto) -> tuple[dict[str, Shape], dict[str, np.dtype[Any]]]:
    shapes, elements = {}, {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type
        if not kind.HasField("tensor_type"):
            continue
        tensor = kind.tensor_type
        if tensor.elem_type in DTYPES:
            elements[value.name] = DTYPES[tensor.elem_type]
        if tensor.HasField("shape"):
            sizes = [dim.dim_value for dim in tensor.shape.dim]
            if 0 in sizes and not all(dim.HasField("dim_value") for dim in tensor.shape.dim):
                continue
            if min(sizes, default=0) >= 0 and max(sizes, default=0) <= _LONGEST and math.prod(sizes) <= _LARGEST:
                shapes[value.name] = tuple(sizes)
    return shapes, elements


def seeds(graph: Graph) -> dict[str, Array]:
    """Returns the constants that shapes and indices are made of: integers, and scalars (which no weight is)."""
    return {n: v for n, v in graph.constants.items() if v.size <= SMALL and (v.dtype.kind in "iub" or v.ndim == 0)}
