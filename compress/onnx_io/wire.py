"""Protobuf's wire format: which bytes of a message are which of its fields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

# How the content of a field is told from what follows it.
_VARINT, _DELIMITED = 0, 2
_SIZES = {1: 8, 5: 4}  # of numbers that are not written as groups of bits
_LONGEST_VARINT = 10


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


def fields(data: bytes, start: int, stop: int, key: int) -> Iterator[Field]:
    """Yields the fields of a message that have one key.

    Args:
        data: what the message is a part of.
        start: where it begins.
        stop: where it ends.
        key: see `key_of`.

    Raises:
        WireError: if a field reaches beyond the message, or is none that can be told.
    """
    at = start
    try:
        while at < stop:
            begin = at
            # Most keys and lengths are a single byte.
            found, at = (data[at], at + 1) if data[at] < 0x80 else _read_varint(data, at)
            kind = found & 7
            if kind == _DELIMITED:
                length, at = (data[at], at + 1) if data[at] < 0x80 else _read_varint(data, at)
            elif kind == _VARINT:
                length = _read_varint(data, at)[1] - at
            elif kind in _SIZES:
                length = _SIZES[kind]
            else:
                raise WireError
            content, at = at, at + length
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
