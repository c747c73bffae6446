"""The tensors that an ONNX model stores, wherever they are, and those that it keeps in files beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from compress.errors import ModelFileError

if TYPE_CHECKING:
    import onnx
    from google.protobuf.message import Message  # type: ignore[import-untyped]

    _Holder = onnx.GraphProto | onnx.FunctionProto


@dataclass(frozen=True)
class Contents:
    """What a model holds, at any depth; listed once, however many ask.

    Attributes:
        graphs: its own, and those inside nodes.
        nodes: of all of these and of its functions.
        attributes: of these nodes.
        tensors: all that it stores: the initializers of its own graph in their order, those of others, attributes.
    """

    graphs: Sequence[onnx.GraphProto]
    nodes: Sequence[onnx.NodeProto]
    attributes: Sequence[onnx.AttributeProto]
    tensors: Sequence[onnx.TensorProto]


def contents(model: onnx.ModelProto) -> Contents:
    """Returns what a model holds."""
    nodes: list[onnx.NodeProto] = []
    attributes: list[onnx.AttributeProto] = []
    held: list[onnx.TensorProto] = []

    def with_inner(holders: list[_Holder]) -> list[_Holder]:
        # It grows by what is found inside.
        for holder in holders:
            for node in holder.node:
                nodes.append(node)
                for attribute in node.attribute:
                    attributes.append(attribute)
                    if attribute.HasField("g"):
                        holders.append(attribute.g)
                    if attribute.graphs:
                        holders.extend(attribute.graphs)
                    if attribute.HasField("t"):
                        held.append(attribute.t)
                    if attribute.tensors:
                        held.extend(attribute.tensors)
                    if attribute.HasField("sparse_tensor"):
                        held.extend(_parts(attribute.sparse_tensor))
                    for sparse in attribute.sparse_tensors:
                        held.extend(_parts(sparse))
        return holders

    inside: list[onnx.GraphProto] = with_inner([model.graph])
    with_inner(list(model.functions))
    stored: list[onnx.TensorProto] = []
    for graph in inside:
        stored += graph.initializer
        for sparse in graph.sparse_initializer:
            stored += _parts(sparse)
    return Contents(inside, nodes, attributes, stored + held)


def _parts(sparse: onnx.SparseTensorProto) -> tuple[onnx.TensorProto, onnx.TensorProto]:
    return sparse.values, sparse.indices


def tensors(model: onnx.ModelProto) -> Sequence[onnx.TensorProto]:
    """Returns every tensor that a model stores: initializers and attributes, in graphs, subgraphs and functions."""
    return contents(model).tensors


def all_nodes(model: onnx.ModelProto) -> Sequence[onnx.NodeProto]:
    """Returns every node, of subgraphs and functions too."""
    return contents(model).nodes


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yields a graph and every graph inside its nodes."""
    yield graph
    yield from subgraphs(graph.node)


def subgraphs(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    """Yields every graph inside the nodes, at any depth."""
    for node in nodes:
        for graph in inner_graphs(node):
            yield from graphs(graph)


def inner_graphs(node: onnx.NodeProto) -> Sequence[onnx.GraphProto]:
    """Returns the graphs that a node holds, not those inside them."""
    found: list[onnx.GraphProto] = []
    for attribute in node.attribute:
        if attribute.HasField("g"):
            found.append(attribute.g)
        if attribute.graphs:
            found += attribute.graphs
    return found


def captured_by(node: onnx.NodeProto) -> list[str]:
    """Returns the names that the subgraphs of a node read from outside."""
    inner = inner_graphs(node)
    return [name for graph in inner for name in _captured(graph)] if inner else []


def _captured(graph: onnx.GraphProto) -> list[str]:
    """Returns the names that a subgraph reads and does not define."""
    defined = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    defined |= {tensor.values.name for tensor in graph.sparse_initializer}
    read: list[str] = [output.name for output in graph.output]
    for node in graph.node:
        read += [name for name in node.input if name] + captured_by(node)
        defined |= set(node.output)
    return [name for name in dict.fromkeys(read) if name not in defined]


def is_free(dim: onnx.TensorShapeProto.Dimension) -> bool:
    """Tells whether an axis has no size of its own."""
    return not dim.HasField("dim_value") or dim.dim_value <= 0


def is_external(tensor: onnx.TensorProto) -> bool:
    """Tells whether a tensor's data lies in another file."""
    import onnx

    return tensor.HasField("data_location") and tensor.data_location == onnx.TensorProto.EXTERNAL


def external_entry(tensor: onnx.TensorProto) -> dict[str, str]:
    """Returns where an external tensor says that its data is: location, and offset and length where given."""
    return {entry.key: entry.value for entry in tensor.external_data}


def require_external_data(stored: Iterable[onnx.TensorProto], path: Path) -> int:
    """Checks that each external tensor lies whole in a file of the model's folder.

    Args:
        stored: the tensors of a model as parsed, nothing loaded.
        path: the file that it comes from.

    Returns:
        The bytes of all external tensors together.

    Raises:
        ModelFileError: if one is outside the folder, missing, cut short or larger than its shape.
    """
    total = 0
    folder = path.parent.resolve()
    for tensor in stored:
        if not is_external(tensor):
            continue
        what = f"model {path}: tensor {tensor.name!r}"
        entry = external_entry(tensor)
        location = entry.get("location", "")
        try:
            # Resolved, so that neither `..` nor a link leads out of the folder.
            file = (folder / location).resolve()
            exists = file.is_file()
        except (OSError, ValueError):
            # It is no name that a file could have.
            file, exists = None, False
        if not location or file is None or Path(location).is_absolute() or not file.is_relative_to(folder):
            raise ModelFileError(
                f"{what} names external data outside the model's folder",
                got=location,
                allowed="a relative path within it",
                next_step="do not use this file, or save it again as one",
            )
        if not exists:
            raise ModelFileError(
                f"{what} has its data in {location!r}, which is missing", next_step=f"put that file into {path.parent}"
            )
        available = file.stat().st_size
        try:
            start = int(entry.get("offset", 0))
            length = int(entry.get("length", available - start))
        except ValueError as error:
            raise ModelFileError(f"{what} has malformed external data", next_step="export it again") from error
        expected = stored_bytes(tensor)
        if expected is None:
            raise ModelFileError(f"{what} has no possible type and shape", next_step="export it again")
        if start < 0 or length != expected or start + length > available:
            raise ModelFileError(
                f"{what} wants bytes {start}…{start + length} of {location!r}",
                got=f"{available} bytes for shape {list(tensor.dims)}",
                next_step="the two files do not belong together: copy both again",
            )
        total += length
    return total


def require_sound_tensors(stored: Iterable[onnx.TensorProto], what: str) -> None:
    """Checks that each tensor inside the model holds as much data as its shape and element type ask for.

    Args:
        stored: the tensors of a model as parsed; external ones are passed over.
        what: names it in messages.

    Raises:
        ModelFileError: naming the first tensor that does not.
    """
    from onnx import numpy_helper

    for tensor in stored:
        if is_external(tensor):
            continue
        reason = None
        expected, raw = stored_bytes(tensor), tensor.HasField("raw_data")
        if expected is None and (raw or tensor.data_type != tensor.STRING or any(size < 0 for size in tensor.dims)):
            reason = f"has no possible type and shape: element type {tensor.data_type}, shape {list(tensor.dims)}"
        elif raw:
            found = len(tensor.raw_data)
            if found != expected:
                reason = f"holds {found} bytes, its shape {list(tensor.dims)} asks for {expected}"
        else:
            try:
                numpy_helper.to_array(tensor)
            except (ArithmeticError, KeyError, MemoryError, TypeError, ValueError) as error:
                reason = f"cannot be read: {error}"
        if reason is not None:
            raise ModelFileError(f"{what}: tensor {tensor.name!r} {reason}", next_step="export it again")


def stored_bytes(tensor: onnx.TensorProto) -> int | None:
    """Returns how many bytes of raw data the shape of a tensor asks for; None if there is no such type or shape.

    Reading what is stored would copy it. Text is never raw data.
    """
    bits = _element_bits(tensor.data_type)
    if bits is None or min(tensor.dims, default=0) < 0:
        return None
    elements: int = math.prod(tensor.dims)
    return (elements * bits + 7) // 8


@cache
def _element_bits(element: int) -> int | None:
    """Returns how many bits an element takes as raw data, given its type as ONNX numbers it; None if it has none."""
    import onnx

    if element not in onnx.TensorProto.DataType.values():
        return None
    kind: str = onnx.TensorProto.DataType.Name(element)
    if kind in ("UNDEFINED", "STRING"):
        return None
    if kind.endswith(("INT4", "FLOAT4E2M1")):
        return 4
    if kind.endswith("INT2"):
        return 2
    return 8 * int(onnx.helper.tensor_dtype_to_np_dtype(element).itemsize)


def load_external_data(stored: Iterable[onnx.TensorProto], path: Path) -> None:
    """Reads the external ones of a model's tensors, which are changed; `require_external_data` has checked them."""
    for tensor in stored:
        if not is_external(tensor):
            continue
        entry = external_entry(tensor)
        with (path.parent / entry["location"]).open("rb") as file:
            file.seek(int(entry.get("offset", 0)))
            tensor.raw_data = file.read(int(entry["length"])) if "length" in entry else file.read()
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")


def point_to(tensor: onnx.TensorProto, location: str, start: int, length: int) -> None:
    """Makes a tensor external: its data is `length` bytes from `start` of the file `location`."""
    import onnx

    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(start)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)


def copy_fields(source: Message, target: Message, but: tuple[str, ...]) -> None:
    """Copies the fields of a message into an empty one, some left out: what is too large, or to be changed."""
    for field, value in source.ListFields():
        if field.name in but:
            continue
        if isinstance(value, str | bytes | int | float):
            setattr(target, field.name, value)
        else:
            getattr(target, field.name).MergeFrom(value)
