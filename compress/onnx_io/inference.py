"""The shape and the element type of every tensor of a graph whose inputs have a size along every axis.

They are inferred on a copy without weight data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, helper, numpy_helper, shape_inference

from compress.channels.graph import Array, Graph, Shape
from compress.channels.rules.elementwise import DTYPES as _ELEMENTS
from compress.channels.trace import known_values

SMALL = 1024  # elements; constants up to this size may be shapes, indices and scales
# Elements of a tensor and of an axis; what is said to be larger could not be computed, so its shape counts as unknown.
_LARGEST = 1 << 28
_LONGEST = 1 << 26
_SURE = {np.dtype(kind) for kind in _ELEMENTS.values()}
# What NumPy calls the element types, by ONNX's numbers.
DTYPES = {element: helper.tensor_dtype_to_np_dtype(element) for element in helper.get_all_tensor_dtypes()}


@dataclass(frozen=True)
class Inferred:
    """What is inferred for one choice of sizes.

    Attributes:
        shapes: by tensor name.
        elements: element types, likewise.
        values: those that had to be worked out for it, as far as they hold for all sizes.
    """

    shapes: Mapping[str, Shape]
    elements: Mapping[str, np.dtype[Any]]
    values: Mapping[str, Array]


@dataclass(frozen=True)
class Unshaped:
    """A graph before its shapes are known.

    Attributes:
        graph: nodes and constants.
        made: makes `skeleton`.
        foreign: tensors whose inferred element type is that of a stand-in, or follows from one.
    """

    graph: Graph
    made: Callable[[], ModelProto]
    foreign: set[str]

    @cached_property
    def skeleton(self) -> ModelProto:
        """The model without weight data, which shapes are inferred from; not made where they are known."""
        return self.made()

    def shaped(self, shapes: Mapping[str, Shape], elements: Mapping[str, np.dtype[Any]], **found: Any) -> Graph:
        """Returns the graph with what has been inferred."""
        sure = {name: kind for name, kind in elements.items() if kind in _SURE and name not in self.foreign}
        return replace(self.graph, shapes=shapes, elements=elements, types=sure, **found)

    def worked_out(self, other: Graph) -> dict[str, Array]:
        """Returns the values of sizes that are computed and known of the same graph, given it for some sizes."""
        return _of_sizes({name: v for name, v in other.constants.items() if name not in self.graph.constants})

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


def inferred(
    skeleton: ModelProto,
    graph: Graph,
    sizes: Mapping[str, Shape],
    values: Mapping[str, Array] | None = None,
    wanted: Collection[str] | None = None,
    *,
    strict: bool = False,
) -> Inferred:
    """Infers shapes; where that fails for want of a value, works the value out and infers again.

    Args:
        skeleton: the model without weight data.
        graph: the model's nodes and constants.
        sizes: of the inputs that have free axes, at least.
        values: what is computed and known already.
        wanted: whose shapes are to be found; None: those of all tensors.
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
    computed = {name for node in graph.nodes for name in node.outputs if name}
    wanted = computed if wanted is None else computed.intersection(wanted)
    known: dict[str, Array] = {}
    while True:
        if values:
            known |= values
            _put(known, values, model)
        inferred = shape_inference.infer_shapes(model, check_type=False, strict_mode=strict, data_prop=True)
        shapes, elements = _known(inferred.graph)
        for name, value in (*graph.constants.items(), *known.items()):
            shapes[name], elements[name] = tuple(value.shape), value.dtype
        values = {} if wanted <= shapes.keys() else known_values(replace(graph, shapes=shapes), seeds(graph))
        values = {name: value for name, value in _of_sizes(values).items() if name not in known}
        if not _tell(values, known, graph):
            return Inferred(shapes, elements, _of_constants(graph, known))


def _of_sizes(values: Mapping[str, Array]) -> dict[str, Array]:
    """Returns those values that may be sizes, or steer what sizes are made of."""
    return {name: value for name, value in values.items() if value.size <= SMALL and value.dtype.kind in "iub"}


def _tell(values: Mapping[str, Array], known: Mapping[str, Array], graph: Graph) -> bool:
    """Tells whether more can be inferred from some values: not from which branch is taken."""
    for node in graph.nodes:
        read = (*(node.inputs[1:] if node.key == "If" else node.inputs), *node.captured)
        if not values.keys().isdisjoint(read) and not all(name in values or name in known for name in node.outputs):
            return True
    return False


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
