"""The bytes of an ONNX file in parts, tensor by tensor: as a whole, a model would be held several times."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from compress.onnx_io.weights import SMALL_ELEMENTS, Parted
from compress.onnx_io.wire import Field, Source, WireError, fields, key_of, prefix

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray


@cache
def _keys() -> tuple[int, int, int]:
    """Returns the keys of a model's graph, of a graph's initializers, and of a tensor's data."""
    import onnx

    model, graph, tensor = onnx.ModelProto.DESCRIPTOR, onnx.GraphProto.DESCRIPTOR, onnx.TensorProto.DESCRIPTOR
    return key_of(model, "graph"), key_of(graph, "initializer"), key_of(tensor, "raw_data")


def without_raw_data(file: BinaryIO, size: int) -> tuple[bytes, dict[int, NDArray[np.uint8]]]:
    """Reads a file, and the data of large initializers apart from it: no parser ever copies them.

    Args:
        file: of whatever kind and in whatever state; unbuffered.
        size: in bytes.

    Returns:
        The file without them, and what has been taken from which initializer. Where anything about the bytes is
        unusual, the whole file: the parser says whether it is a model.
    """
    taken: dict[int, NDArray[np.uint8]] = {}
    whole, initializer, _ = _keys()
    source, parts, done, index = Source(file, size), [], 0, 0
    try:
        for graph in fields(source, 0, size, whole):
            inner: list[bytes] = []
            copied = graph.content
            for tensor in fields(source, graph.content, graph.stop, initializer):
                raw = _raw_data(source, tensor) if tensor.stop - tensor.content > SMALL_ELEMENTS else None
                if raw is not None:
                    rest = tensor.stop - tensor.content - (raw.stop - raw.start)
                    inner += (source.part(copied, tensor.start), prefix(initializer, rest))
                    inner += (source.part(tensor.content, raw.start), source.part(raw.stop, tensor.stop))
                    taken[index] = source.array(raw.content, raw.stop)
                    copied = tensor.stop
                index += 1
            inner.append(source.part(copied, graph.stop))
            parts += [source.part(done, graph.start), prefix(whole, sum(map(len, inner))), *inner]
            done = graph.stop
        return b"".join([*parts, source.part(done, size)]), taken
    except WireError:
        file.seek(0)
        return file.read(), {}


def _raw_data(source: Source, tensor: Field) -> Field | None:
    """Returns the raw data of a tensor, if it is large."""
    found = list(fields(source, tensor.content, tensor.stop, _keys()[2]))
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
        parted: the same, with its large constants inside it.
        skeleton: of the model, without what lies apart.
        size: how many bytes there are.
    """

    def __init__(self, model: onnx.ModelProto | Parted) -> None:
        self.model = model
        whole, initializer, _ = _keys()
        parted = model if isinstance(model, Parted) else Parted(model)
        self.skeleton = parted.skeleton
        self.parted = parted.constants_inside()
        graph = self.parted.skeleton.graph
        head, tail = _around(self.parted.skeleton, "graph")
        start, end = _around(graph, "initializer")
        sizes = [_size(tensor, self.parted.weights.get(tensor.name)) for tensor in graph.initializer]
        self._prefixes = [prefix(initializer, size) for size in sizes]
        length = len(start) + sum(map(len, self._prefixes)) + sum(sizes) + len(end)
        self._head, self._tail = head + prefix(whole, length) + start, end + tail
        self.size = len(head) + len(prefix(whole, length)) + length + len(tail)

    def __iter__(self) -> Iterator[bytes | memoryview]:
        raw_data = _keys()[2]
        parted = self.parted
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
