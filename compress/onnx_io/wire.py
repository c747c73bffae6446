"""Protobuf's wire format: which bytes of a message are which of its fields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# How the content of a field is told from what follows it.
_VARINT, _DELIMITED = 0, 2
_SIZES = {1: 8, 5: 4}  # of numbers that are not written as groups of bits
_LONGEST_VARINT = 10
_MARGIN = 2 * _LONGEST_VARINT  # what a field begins with at most
_WINDOW = 1 << 13


class WireError(Exception):
    """Bytes that are not the fields of a message, or fields of a kind that is no longer written."""


class Field(NamedTuple):
    """A field of a message whose content has a length.

    Attributes:
        start: where it begins.
        content: where its content begins, after its key and its length.
        stop: where it ends.
    """

    start: int
    content: int
    stop: int


class Source:
    """A file of which only what is asked for is read.

    Args:
        file: unbuffered; it has to stay as it is meanwhile.
        size: of the file.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self.size = size
        self._window, self._start = b"", 0

    def near(self, at: int) -> tuple[bytes, int]:
        """Returns bytes that hold what follows a place, and where they begin."""
        if not self._start <= at <= self._start + len(self._window) - _MARGIN:
            self._file.seek(at)
            self._window, self._start = self._file.read(_WINDOW), at
        return self._window, self._start

    def part(self, start: int, stop: int) -> bytes:
        """Returns a part of the file."""
        if self._start <= start and stop <= self._start + len(self._window):
            return self._window[start - self._start : stop - self._start]
        return self.array(start, stop).tobytes()

    def array(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Returns a part of the file, not copied again. Raises WireError if there is less than there was."""
        found = np.empty(stop - start, np.uint8)
        self._file.seek(start)
        done = 0
        while done < found.size:
            count = self._file.readinto(found[done:].data)  # type: ignore[attr-defined]
            if not count:
                raise WireError
            done += count
        return found


def fields(source: Source, start: int, stop: int, key: int) -> Iterator[Field]:
    """Yields the fields of a message that have one key.

    Args:
        source: what the message is a part of.
        start: where it begins.
        stop: where it ends.
        key: see `key_of`.

    Raises:
        WireError: if a field reaches beyond the message, or is none that can be told.
    """
    data, base = source.near(start)
    at, safe = start, base + len(data) - _MARGIN
    try:
        while at < stop:
            if not base <= at <= safe:
                data, base = source.near(at)
                safe = base + len(data) - _MARGIN
            place = at - base
            # Most keys and lengths are a single byte.
            found, place = (data[place], place + 1) if data[place] < 0x80 else _read_varint(data, place)
            kind = found & 7
            if kind == _DELIMITED:
                length, place = (data[place], place + 1) if data[place] < 0x80 else _read_varint(data, place)
            elif kind == _VARINT:
                length = _read_varint(data, place)[1] - place
            elif kind in _SIZES:
                length = _SIZES[kind]
            else:
                raise WireError
            begin, content = at, base + place
            at = content + length
            if at > stop:
                raise WireError
            if found == key:
                yield Field(begin, content, at)
    except IndexError as error:
        raise WireError from error


def key_of(kind: Any, field: str) -> int:
    """Returns the key of a field whose content has a length, given the descriptor of its message."""
    return int(kind.fields_by_name[field].number) << 3 | _DELIMITED


def prefix(key: int, length: int) -> bytes:
    """Returns what stands before the content of such a field: its key and the length of the content."""
    return _varint(key) + _varint(length)


def _varint(value: int) -> bytes:
    """Returns a number in groups of seven bits, the lowest first; all but the last have the eighth bit set."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Returns the number that begins at a place, and where it ends."""
    value = 0
    for shift in range(0, 7 * _LONGEST_VARINT, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise WireError
