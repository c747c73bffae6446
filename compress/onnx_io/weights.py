"""A model without its weights, and the weights without the model.

What a graph says fits into some kilobytes; its weights are most of the file. Taken apart, the graph can be copied,
changed and analysed freely, and each weight is decoded once and held once.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.onnx_io.tensors import Contents, copy_fields, subgraphs

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

# Tensors up to this many elements stay in the graph: shapes, indices and scales must be readable there.
SMALL_ELEMENTS = 1024
# All that a tensor says beside its data, where that is stored in the usual way.
_SAID = {"dims", "data_type", "name", "doc_string", "data_location", "metadata_props"}


@dataclass(frozen=True)
class Parted:
    """A model in two parts.

    Attributes:
        skeleton: the model; tensors whose data lies apart keep name, type and shape alone.
        weights: their values, read-only, by the name under which nodes read them.
    """

    skeleton: onnx.ModelProto
    weights: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def model(self) -> onnx.ModelProto:
        """Returns the whole model: a copy of everything."""
        model = type(self.skeleton)()
        model.CopyFrom(self.skeleton)
        self._fill(model.graph.initializer, model.graph.node)
        return model

    def constants_inside(self) -> Parted:
        """Returns the same, with the data of Constant nodes inside them: only initializers lie apart."""
        if not any(_is_constant(node) and node.output[0] in self.weights for node in self.skeleton.graph.node):
            return self
        filled = type(self.skeleton)()
        filled.CopyFrom(self.skeleton)
        self._fill((), filled.graph.node)
        return Parted(filled, self.weights)

    def _fill(self, initializers: Iterable[onnx.TensorProto], nodes: Iterable[onnx.NodeProto]) -> None:
        for tensor in initializers:
            if tensor.name in self.weights:
                tensor.raw_data = self.weights[tensor.name].tobytes()
        for node in nodes:
            if _is_constant(node) and node.output[0] in self.weights:
                node.attribute[0].t.raw_data = self.weights[node.output[0]].tobytes()


def take_apart(model: onnx.ModelProto | Parted) -> Parted:
    """Returns a model in two parts: large initializers and constants of the main graph, and the rest.

    Args:
        model: with every tensor inside it; not changed.
    """
    if isinstance(model, Parted):
        return model
    weights: dict[str, NDArray[Any]] = {}

    def aside(name: str, tensor: onnx.TensorProto) -> onnx.TensorProto:
        dtype, raw = _plain_types()[tensor.data_type], tensor.raw_data
        if len(raw) != math.prod(tensor.dims) * dtype.itemsize:
            # Whoever decodes it says what is wrong with it.
            return tensor
        weights[name] = np.frombuffer(raw, dtype).reshape(tuple(tensor.dims))
        return hollow(tensor, tensor.dims)

    return Parted(_copied(model, aside), weights)


def data_taken_out(inside: Contents) -> dict[int, NDArray[np.uint8]]:
    """Takes the data of large initializers out of them; returns it by the place of its tensor, see `put_apart`."""
    taken: dict[int, NDArray[np.uint8]] = {}
    for index, tensor in enumerate(inside.graphs[0].initializer):
        if math.prod(tensor.dims) > SMALL_ELEMENTS and tensor.HasField("raw_data"):
            taken[index] = np.frombuffer(tensor.raw_data, np.uint8)
            tensor.ClearField("raw_data")
    return taken


def put_apart(inside: Contents, raw: Mapping[int, NDArray[np.uint8]]) -> dict[int, NDArray[Any]]:
    """Returns the values of initializers whose data has been taken out of them, as far as it can lie apart.

    Args:
        inside: what the model holds; tensors whose data cannot lie apart are given it back.
        raw: the data, by the place of its tensor.
    """
    main, *inner = inside.graphs
    staying = _staying(main, inner) if raw else set()
    found: dict[int, NDArray[Any]] = {}
    for index, data in raw.items():
        tensor = inside.tensors[index]
        shape, dtype = tuple(tensor.dims), _plain_types().get(tensor.data_type)
        usual = all(present.name in _SAID for present, _ in tensor.ListFields()) and not tensor.data_location
        large = min(shape, default=0) >= 0 and math.prod(shape) > SMALL_ELEMENTS
        apart = usual and large and tensor.name not in staying
        if apart and dtype is not None and data.size == math.prod(shape) * dtype.itemsize:
            found[index] = data.view(dtype).reshape(shape)
            found[index].flags.writeable = False
        else:
            tensor.raw_data = data.tobytes()
    return found


def rest_apart(parted: Parted) -> Parted:
    """Returns a model of whose weights some lie apart already, with the others apart as well."""
    graph = parted.skeleton.graph
    constants = (node.attribute[0].t for node in graph.node if _is_constant(node))
    if not any(map(_is_large, chain(graph.initializer, constants))):
        return parted
    rest = take_apart(parted.skeleton)
    both = {**parted.weights, **rest.weights}
    names = dict.fromkeys([*(tensor.name for tensor in graph.initializer if tensor.name in both), *both])
    return Parted(rest.skeleton, {name: both[name] for name in names})


def without_data(model: onnx.ModelProto | Parted) -> onnx.ModelProto:
    """Returns a copy in which large tensors are empty ones, of size 0: all that a checker reads of them is there."""
    if not isinstance(model, Parted):
        return _copied(model, lambda _, tensor: hollow(tensor, [0]))
    copy = type(model.skeleton)()
    copy.CopyFrom(model.skeleton)
    constants = ((node.output[0], node.attribute[0].t) for node in copy.graph.node if _is_constant(node))
    for name, tensor in chain(((tensor.name, tensor) for tensor in copy.graph.initializer), constants):
        if name in model.weights:
            tensor.dims[:] = [0]
    return copy


def values_of(tensor: onnx.TensorProto) -> NDArray[Any]:
    """Returns what a tensor inside a model holds, as `onnx.numpy_helper.to_array` does; the usual way at once."""
    dtype = _plain_types().get(tensor.data_type)
    usual = tensor.HasField("raw_data") and not tensor.data_location and not tensor.HasField("segment")
    if dtype is not None and usual and sys.byteorder == "little":
        return np.frombuffer(tensor.raw_data, dtype).reshape(tuple(tensor.dims))
    from onnx import numpy_helper

    return numpy_helper.to_array(tensor)


def hollow(tensor: onnx.TensorProto, shape: Iterable[int]) -> onnx.TensorProto:
    """Returns a tensor that says what another one is, with another shape, and holds nothing."""
    empty = type(tensor)(data_type=tensor.data_type, dims=list(shape), metadata_props=tensor.metadata_props)
    for name in ("name", "doc_string", "data_location"):
        if tensor.HasField(name):
            setattr(empty, name, getattr(tensor, name))
    return empty


def _copied(
    model: onnx.ModelProto,
    replace: Callable[[str, onnx.TensorProto], onnx.TensorProto],
) -> onnx.ModelProto:
    """Returns a copy in which something takes the place of each large tensor; it is not copied itself.

    Args:
        model: not changed.
        replace: from the name under which a tensor is read, and the tensor, to what stands there.
    """
    graph = model.graph
    large = {tensor.name for tensor in graph.initializer if _is_large(tensor)}
    constants = {node.output[0] for node in graph.node if _is_constant(node) and _is_large(node.attribute[0].t)}
    if large or constants:
        staying = _staying(graph, subgraphs(graph.node))
        large -= staying
        constants -= staying | {tensor.name for tensor in graph.initializer}
    copy = type(model)()
    copy_fields(model, copy, but=("graph",))
    copy_fields(graph, copy.graph, but=("initializer", "node"))
    for tensor in graph.initializer:
        copy.graph.initializer.append(replace(tensor.name, tensor) if tensor.name in large else tensor)
    if not constants:
        copy.graph.node.extend(graph.node)
        return copy
    for node in graph.node:
        if not _is_constant(node) or node.output[0] not in constants:
            copy.graph.node.append(node)
            continue
        emptied, value = copy.graph.node.add(), node.attribute[0]
        copy_fields(node, emptied, but=("attribute",))
        emptied.attribute.add(name=value.name, type=value.type, t=replace(node.output[0], value.t))
    return copy


def _staying(graph: onnx.GraphProto, inner: Iterable[onnx.GraphProto]) -> set[str]:
    """Returns the names of tensors that stay where they are, given the graphs inside nodes.

    What those read stays: tools look for it there. So do two of one name: it is an error.
    """
    counts = Counter(tensor.name for tensor in graph.initializer)
    read = {name for one in inner for node in one.node for name in node.input}
    return read | {name for name, count in counts.items() if count > 1}


def _is_constant(node: onnx.NodeProto) -> bool:
    return node.op_type == "Constant" and not node.domain and len(node.attribute) == 1 and len(node.output) == 1


def _is_large(tensor: onnx.TensorProto) -> bool:
    """Tells whether a tensor's data can lie apart: it is large, and its bytes are those of a NumPy array."""
    import onnx

    return (
        math.prod(tensor.dims) > SMALL_ELEMENTS
        and tensor.HasField("raw_data")
        and tensor.data_location == onnx.TensorProto.DEFAULT
        and tensor.data_type in _plain_types()
    )


@cache
def _plain_types() -> Mapping[int, np.dtype[Any]]:
    """Returns the element types that are NumPy's own, by ONNX's numbers."""
    import onnx

    kinds = {kind: onnx.helper.tensor_dtype_to_np_dtype(kind) for kind in onnx.helper.get_all_tensor_dtypes()}
    return {kind: dtype for kind, dtype in kinds.items() if dtype.isbuiltin == 1 and not dtype.hasobject}
