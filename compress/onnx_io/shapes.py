"""Shapes of every value in an ONNX graph, from the file without its weights.

ONNX's shape inference follows shapes that a graph computes for itself only so far; exporters of other frameworks
compute many. With every input's size given these are constants, so they are computed here and inference starts again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from compress.channels.graph import Array
from compress.errors import ModelFileError
from compress.onnx_io.functions import inlined
from compress.onnx_io.plain import plain_nodes
from compress.onnx_io.session import input_shapes
from compress.onnx_io.tensors import subgraphs
from compress.onnx_io.weights import SMALL_ELEMENTS

if TYPE_CHECKING:
    import onnx

Shape: TypeAlias = tuple[int, ...]

# Tensors up to this many elements keep their data: target shapes, axes, limits.
_SMALL_ELEMENTS = 256
# What graphs compute shapes with, beside Shape itself.
_FOLDABLE = {
    "Add",
    "Cast",
    "Ceil",
    "Concat",
    "ConstantOfShape",
    "Div",
    "Equal",
    "Expand",
    "Floor",
    "Gather",
    "Identity",
    "Max",
    "Min",
    "Mul",
    "Range",
    "Reshape",
    "Size",
    "Slice",
    "Split",
    "Squeeze",
    "Sub",
    "Tile",
    "Transpose",
    "Unsqueeze",
    "Where",
}


class Values:
    """The values of a graph whose shapes are inferred: which are constant, and how large each is.

    Args:
        graph: with inferred shapes; large weights may stand as inputs.
        weights: names of the values that the file stores.
    """

    def __init__(self, graph: onnx.GraphProto, weights: set[str]) -> None:
        self._types = {value.name: value.type for value in (*graph.input, *graph.value_info, *graph.output)}
        self._stored = {tensor.name: tensor for tensor in graph.initializer}
        self._constant = weights | set(self._stored) | {""}
        for node in graph.node:
            alone = not any(attribute.HasField("g") for attribute in node.attribute)
            if alone and self.constant(*node.input):
                self._constant.update(node.output)

    def constant(self, *names: str) -> bool:
        """Tells whether no value of that name depends on what is fed."""
        return self._constant.issuperset(names)

    def shape(self, name: str) -> Shape | None:
        """Returns a value's shape, or None if an axis is unknown."""
        if name in self._stored:
            return tuple(self._stored[name].dims)
        kind = self._types.get(name)
        if kind is None or not kind.tensor_type.HasField("shape"):
            return None
        dims = kind.tensor_type.shape.dim
        return tuple(axis.dim_value for axis in dims) if all(axis.HasField("dim_value") for axis in dims) else None

    def element(self, name: str) -> int:
        """Returns the type of a value's elements as ONNX numbers it, 0 if it is unknown."""
        return int(self._types[name].tensor_type.elem_type) if name in self._types else 0

    def size_bytes(self, name: str) -> int | None:
        """Returns a value's bytes, or None if they are unknown."""
        import onnx

        shape = self.shape(name)
        if shape is None or name not in self._types or not self._types[name].tensor_type.elem_type:
            return None
        element = onnx.helper.tensor_dtype_to_np_dtype(self._types[name].tensor_type.elem_type)
        return math.prod(shape) * element.itemsize


def infer_shapes(
    model: onnx.ModelProto, batch_size: int = 1, sizes: Mapping[str, int] | None = None
) -> tuple[onnx.GraphProto, Values]:
    """Infers the shape of every value, with a number for every free axis of the inputs.

    Args:
        model: checked; not changed.
        batch_size: for free batch axes.
        sizes: numbers for other free axes, by name; see `compress.onnx_io.session.input_shapes`.

    Returns:
        The graph without large weights and without the nodes that only compute shapes; and its values.

    Raises:
        ModelFileError: if an input is no tensor with a shape, or shapes contradict each other.
    """
    import onnx

    skeleton = _skeleton(model, batch_size, sizes)
    weights = {tensor.name for tensor in model.graph.initializer}
    while True:
        try:
            graph = onnx.shape_inference.infer_shapes(_in_plain_terms(skeleton, weights), data_prop=True).graph
        except (onnx.shape_inference.InferenceError, MemoryError, RuntimeError, ValueError) as error:
            raise ModelFileError(
                f"shapes contradict each other: {error}", next_step="export the network again"
            ) from error
        del graph.node[:]
        graph.node.extend(skeleton.graph.node)
        values = Values(graph, weights)
        outputs = [name for node in graph.node for name in node.output if name]
        if all(values.constant(name) or values.size_bytes(name) is not None for name in outputs):
            return graph, values
        if not _fold(skeleton, values):
            return graph, values


def _skeleton(model: onnx.ModelProto, batch_size: int, sizes: Mapping[str, int] | None) -> onnx.ModelProto:
    """Returns a copy with numbers for free axes, large weights as inputs, and no inferred or promised shapes."""
    import onnx

    skeleton = onnx.ModelProto(ir_version=max(model.ir_version, 4))
    skeleton.opset_import.extend(model.opset_import)
    skeleton.functions.extend(model.functions)
    graph = skeleton.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(model.graph.node)
    for name, (dtype, shape) in input_shapes(model, batch_size, sizes).items():
        element = onnx.helper.np_dtype_to_tensor_dtype(dtype)
        graph.input.append(onnx.helper.make_tensor_value_info(name, element, shape))
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _SMALL_ELEMENTS:
            graph.initializer.append(tensor)
        else:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    for output in model.graph.output:
        # What an exporter promised may contradict what follows from the numbers chosen here.
        value = graph.output.add()
        value.CopyFrom(output)
        value.type.tensor_type.ClearField("shape")
    return inlined(skeleton)


def _in_plain_terms(skeleton: onnx.ModelProto, weights: set[str]) -> onnx.ModelProto:
    """Returns a copy in whose place of foreign operators stand ONNX's own, of the same shapes."""
    import onnx
    from onnx import numpy_helper

    plain = onnx.ModelProto()
    plain.CopyFrom(skeleton)
    graph = skeleton.graph
    # Of large weights, which stand as inputs, shapes are all that is read.
    constants = {name: np.broadcast_to(np.float32(0), size) for name, size in _sizes(graph) if name in weights}
    constants |= {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value":
                constants[node.output[0]] = _stored(attribute.t)
    read = {value.name for value in graph.output} | {
        name for inner in subgraphs(graph.node) for node in inner.node for name in node.input
    }
    opset = next((entry.version for entry in skeleton.opset_import if entry.domain in ("", "ai.onnx")), 1)
    del plain.graph.node[:]
    for part in plain_nodes(graph.node, constants, read, opset):
        plain.graph.node.extend(part.shaped)
    return plain


def _stored(tensor: onnx.TensorProto) -> Array:
    """Returns the value of a tensor; zeros for a large one, whose data may lie apart."""
    from onnx import helper, numpy_helper

    if math.prod(tensor.dims) <= SMALL_ELEMENTS:
        return numpy_helper.to_array(tensor)
    return np.broadcast_to(np.zeros((), helper.tensor_dtype_to_np_dtype(tensor.data_type)), tuple(tensor.dims))


def _sizes(graph: onnx.GraphProto) -> Iterator[tuple[str, Shape]]:
    for value in graph.input:
        yield value.name, tuple(max(dim.dim_value, 0) for dim in value.type.tensor_type.shape.dim)


def _fold(skeleton: onnx.ModelProto, values: Values) -> bool:
    """Replaces nodes that compute small values from known ones by those values; tells whether there was one."""
    from onnx import numpy_helper

    graph = skeleton.graph
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    known |= {
        node.output[0]: numpy_helper.to_array(attribute.t)
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value" and math.prod(attribute.t.dims) <= _SMALL_ELEMENTS
    }
    promised = {value.name for value in graph.output}
    opsets = list(skeleton.opset_import)
    kept, folded = [], False
    for node in graph.node:
        results = _evaluate(node, known, values, opsets) if promised.isdisjoint(node.output) else None
        if results is None:
            kept.append(node)
            continue
        folded = True
        for name, array in zip(node.output, results, strict=True):
            known[name] = array
            graph.initializer.append(numpy_helper.from_array(array, name))
    if folded:
        del graph.node[:]
        graph.node.extend(kept)
    return folded


def _evaluate(
    node: onnx.NodeProto, known: Mapping[str, np.ndarray], values: Values, opsets: list[onnx.OperatorSetIdProto]
) -> list[np.ndarray] | None:
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Shape" and not node.attribute:
        shape = values.shape(node.input[0])
        return None if shape is None else [np.array(shape, np.int64)]
    sizes = [values.shape(name) for name in node.output]
    # A node whose result is not known to be small could be asked for more memory than there is.
    small = all(shape is not None and math.prod(shape) <= _SMALL_ELEMENTS for shape in sizes)
    if node.op_type not in _FOLDABLE or not small or not all(name in known for name in node.input if name):
        return None
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    feed = {name: known[name] for name in node.input if name}
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feed.items()
    ]
    # A whole model: given a node alone, the evaluator takes every operator in its newest version.
    graph = helper.make_graph([node], "node", inputs, [helper.make_empty_tensor_value_info(n) for n in node.output])
    try:
        results = ReferenceEvaluator(helper.make_model(graph, opset_imports=opsets)).run(None, feed)
    # What the evaluator cannot do stays unknown, and what depends on it is reported as uncounted.
    except (ArithmeticError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return None
    return [np.asarray(result) for result in results]
