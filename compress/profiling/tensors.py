"""Arrays in a file, as `native/runner.c` reads its inputs and writes its outputs.

A 32-bit count, then for each: length of the name and the name in UTF-8, element type as ONNX numbers it, rank, 64-bit
sizes, 64-bit count of bytes, the bytes. All numbers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np

_TYPES = {
    np.dtype(name): number
    for name, number in {
        "float32": 1,
        "uint8": 2,
        "int8": 3,
        "uint16": 4,
        "int16": 5,
        "int32": 6,
        "int64": 7,
        "bool": 9,
        "float16": 10,
        "float64": 11,
        "uint32": 12,
        "uint64": 13,
    }.items()
}
_KINDS = {number: kind for kind, number in _TYPES.items()}


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Returns arrays of numbers as a file's content."""
    parts = [struct.pack("<I", len(arrays))]
    for name, array in arrays.items():
        text = name.encode()
        parts += [struct.pack("<I", len(text)), text, struct.pack("<II", _TYPES[array.dtype], array.ndim)]
        parts += [struct.pack(f"<{array.ndim}q", *array.shape), struct.pack("<Q", array.nbytes), array.tobytes()]
    return b"".join(parts)


def unpack(content: bytes) -> dict[str, np.ndarray]:
    """Returns the arrays of a file; what is no array of numbers is left out.

    Raises:
        ValueError: if the content is cut short or otherwise not what `pack` returns.
    """
    found, place = {}, 4
    try:
        (count,) = struct.unpack_from("<I", content)
        for _ in range(count):
            (length,) = struct.unpack_from("<I", content, place)
            name = content[place + 4 : place + 4 + length].decode()
            number, rank = struct.unpack_from("<II", content, place + 4 + length)
            place += 12 + length
            shape = struct.unpack_from(f"<{rank}q", content, place)
            (size,) = struct.unpack_from("<Q", content, place + 8 * rank)
            place += 8 * rank + 8
            data = content[place : place + size]
            place += size
            if number in _KINDS and (size or 0 in shape):
                found[name] = np.frombuffer(data, _KINDS[number]).reshape(shape)
    except struct.error as error:
        raise ValueError(f"arrays cut short: {error}") from error
    return found
