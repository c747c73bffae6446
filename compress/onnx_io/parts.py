"""The bytes of an ONNX file in parts, tensor by tensor: serialised as a whole, a model would be held several times."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.onnx_io.weights import Parted

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

# Protobuf's wire type of what is written as a length and that many bytes.
_DELIMITED = 2


def file_parts(model: onnx.ModelProto | Parted) -> Iterator[bytes | memoryview]:
    """Yields what the deterministic serialisation of a model consists of, in its order.

    Args:
        model: not changed meanwhile; what a newer version of ONNX has added to its fields is left out.
    """
    parted = (model if isinstance(model, Parted) else Parted(model)).constants_inside()
    graph = parted.skeleton.graph
    head, tail = _around(parted.skeleton, "graph")
    start, end = _around(graph, "initializer")
    sizes = [_size(tensor, parted.weights.get(tensor.name)) for tensor in graph.initializer]
    prefixes = [_prefix(graph, "initializer", size) for size in sizes]
    length = len(start) + sum(map(len, prefixes)) + sum(sizes) + len(end)
    yield head + _prefix(parted.skeleton, "graph", length) + start
    for prefix, tensor in zip(prefixes, graph.initializer, strict=True):
        values = parted.weights.get(tensor.name)
        if values is None:
            yield prefix + tensor.SerializeToString(deterministic=True)
            continue
        before, after = _around(tensor, "raw_data")
        yield prefix + before + _prefix(tensor, "raw_data", values.nbytes)
        yield np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
        yield after
    yield end + tail


def file_bytes(model: onnx.ModelProto | Parted) -> int:
    """Returns how large a model's file is."""
    parted = (model if isinstance(model, Parted) else Parted(model)).constants_inside()
    graph = parted.skeleton.graph
    start, end = _around(graph, "initializer")
    sizes = [_size(tensor, parted.weights.get(tensor.name)) for tensor in graph.initializer]
    length = len(start) + sum(len(_prefix(graph, "initializer", size)) + size for size in sizes) + len(end)
    return sum(map(len, _around(parted.skeleton, "graph"))) + len(_prefix(parted.skeleton, "graph", length)) + length


def _size(tensor: onnx.TensorProto, values: NDArray[Any] | None) -> int:
    """Returns the size of a serialised tensor, with the data that lies apart from it."""
    own = int(tensor.ByteSize())
    return own if values is None else own + len(_prefix(tensor, "raw_data", values.nbytes)) + values.nbytes


def _around(message: Any, field: str) -> tuple[bytes, bytes]:
    """Returns the serialised fields of a message before and after one of them: fields stand in order of number."""
    number = message.DESCRIPTOR.fields_by_name[field].number
    before, after = type(message)(), type(message)()
    for present, value in message.ListFields():
        if present.number == number:
            continue
        part = before if present.number < number else after
        if isinstance(value, str | bytes | int | float):
            setattr(part, present.name, value)
        else:
            getattr(part, present.name).MergeFrom(value)
    return before.SerializeToString(deterministic=True), after.SerializeToString(deterministic=True)


def _prefix(message: Any, field: str, length: int) -> bytes:
    """Returns what stands before the content of a field: its number, its wire type and the length of the content."""
    number = message.DESCRIPTOR.fields_by_name[field].number
    return _varint(number << 3 | _DELIMITED) + _varint(length)


def _varint(value: int) -> bytes:
    """Returns a number in groups of seven bits, the lowest first; all but the last have the eighth bit set."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
