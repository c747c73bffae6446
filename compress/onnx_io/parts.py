"""The bytes of an ONNX file in parts, tensor by tensor: as a whole, a model would be held several times."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.onnx_io.weights import SMALL_ELEMENTS, Parted
from compress.onnx_io.wire import Field, WireError, fields, key_of, prefix

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray


@cache
def _keys() -> tuple[int, int, int]:
    """Returns the keys of a model's graph, of a graph's initializers, and of a tensor's data."""
    import onnx

    model, graph, tensor = onnx.ModelProto.DESCRIPTOR, onnx.GraphProto.DESCRIPTOR, onnx.TensorProto.DESCRIPTOR
    return key_of(model, "graph"), key_of(graph, "initializer"), key_of(tensor, "raw_data")


def without_raw_data(data: bytes) -> tuple[bytes, dict[int, NDArray[np.uint8]]]:
    """Takes the data of large initializers out of a file, before it is parsed.

    Args:
        data: the file, of whatever kind and in whatever state.

    Returns:
        The file without them, and what has been taken from which initializer. Where anything about the bytes is
        unusual, the file is returned as it is: the parser says whether it is a model.
    """
    taken: dict[int, NDArray[np.uint8]] = {}
    whole, initializer, _ = _keys()
    view, parts, done, index = memoryview(data), [], 0, 0
    try:
        for graph in fields(data, 0, len(data), whole):
            inner: list[bytes | memoryview] = []
            copied = graph.content
            for tensor in fields(data, graph.content, graph.stop, initializer):
                raw = _raw_data(data, tensor) if tensor.stop - tensor.content > SMALL_ELEMENTS else None
                if raw is not None:
                    taken[index] = np.frombuffer(data, np.uint8, raw.stop - raw.content, raw.content).copy()
                    rest = tensor.stop - tensor.content - (raw.stop - raw.start)
                    inner += (view[copied : tensor.start], prefix(initializer, rest))
                    inner += (view[tensor.content : raw.start], view[raw.stop : tensor.stop])
                    copied = tensor.stop
                index += 1
            inner.append(view[copied : graph.stop])
            parts += [view[done : graph.start], prefix(whole, sum(map(len, inner))), *inner]
            done = graph.stop
    except WireError:
        return data, {}
    return (b"".join([*parts, view[done:]]), taken) if taken else (data, taken)


def _raw_data(data: bytes, tensor: Field) -> Field | None:
    """Returns the raw data of a tensor, if it is large."""
    found = list(fields(data, tensor.content, tensor.stop, _keys()[2]))
    if len(found) > 1:
        # The parser takes the last.
        raise WireError
    return found[0] if found and found[0].stop - found[0].content > SMALL_ELEMENTS else None


class FileParts:
    """What the deterministic serialisation of a model consists of, in its order.

    Args:
        model: not changed meanwhile; what a newer version of ONNX has added to its fields is left out.

    Attributes:
        model: the same.
        size: how many bytes there are.
    """

    def __init__(self, model: onnx.ModelProto | Parted) -> None:
        self.model = model
        whole, initializer, _ = _keys()
        self._parted = (model if isinstance(model, Parted) else Parted(model)).constants_inside()
        graph = self._parted.skeleton.graph
        head, tail = _around(self._parted.skeleton, "graph")
        start, end = _around(graph, "initializer")
        sizes = [_size(tensor, self._parted.weights.get(tensor.name)) for tensor in graph.initializer]
        self._prefixes = [prefix(initializer, size) for size in sizes]
        length = len(start) + sum(map(len, self._prefixes)) + sum(sizes) + len(end)
        self._head, self._tail = head + prefix(whole, length) + start, end + tail
        self.size = len(head) + len(prefix(whole, length)) + length + len(tail)

    def __iter__(self) -> Iterator[bytes | memoryview]:
        raw_data = _keys()[2]
        parted = self._parted
        yield self._head
        for before_tensor, tensor in zip(self._prefixes, parted.skeleton.graph.initializer, strict=True):
            values = parted.weights.get(tensor.name)
            if values is None:
                yield before_tensor + tensor.SerializeToString(deterministic=True)
                continue
            before, after = _around(tensor, "raw_data")
            yield before_tensor + before + prefix(raw_data, values.nbytes)
            yield np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
            yield after
        yield self._tail


def _size(tensor: onnx.TensorProto, values: NDArray[Any] | None) -> int:
    """Returns the size of a serialised tensor, with the data that lies apart from it."""
    own = int(tensor.ByteSize())
    return own if values is None else own + len(prefix(_keys()[2], values.nbytes)) + values.nbytes


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
