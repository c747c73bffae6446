"""One tensor, packed: a table of its values, and for each nonzero a step and a place in the table, Huffman coded."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.coding.huffman import Code, entropy_bits
from compress.coding.relative import gaps_of, positions_of
from compress.errors import ModelFileError

# More values than this are not shared ones.
MAX_VALUES = 4096
MAX_STEP_BITS = 12
_HEAD = struct.Struct("<QBBHQ")
_STREAM = struct.Struct("<BHQ")
_CODED, _ONE_SYMBOL = 0, 1
_NEXT = "get the file again"


class Reader:
    """Bytes that are read from the front; more than there are is an error."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def take(self, count: int) -> bytes:
        """Returns the next `count` bytes.

        Raises:
            ModelFileError: if there are fewer.
        """
        if count > len(self.data) - self.position:
            raise ModelFileError("the packed file is cut short, or its lengths are wrong", next_step=_NEXT)
        self.position += count
        return self.data[self.position - count : self.position]

    def fields(self, layout: struct.Struct) -> tuple[Any, ...]:
        """Returns the next fields."""
        return layout.unpack(self.take(layout.size))

    def require_end(self) -> None:
        """Refuses what is left over.

        Raises:
            ModelFileError: if anything is.
        """
        if self.position != len(self.data):
            raise ModelFileError("the packed file holds more than it says", next_step=_NEXT)


@dataclass(frozen=True)
class Stream:
    """Symbols, Huffman coded.

    Attributes:
        counts: how often each symbol occurs. Shape: (symbols,).
        head: the code's lengths, or the only symbol.
        data: the words.
    """

    counts: NDArray[np.int64]
    head: bytes
    data: bytes

    @classmethod
    def of(cls, symbols: NDArray[Any], alphabet: int) -> Stream:
        """Codes symbols, each below `alphabet`."""
        counts = np.bincount(symbols, minlength=alphabet)
        present = np.flatnonzero(counts)
        if len(present) <= 1:
            only = int(present[0]) if len(present) else 0
            return cls(counts, _STREAM.pack(_ONE_SYMBOL, only, 0), b"")
        code = Code.of(counts)
        data = code.encode(symbols)
        return cls(counts, _STREAM.pack(_CODED, alphabet, len(data)) + code.lengths.tobytes(), data)

    @staticmethod
    def read(heads: Reader, streams: Reader, alphabet: int, count: int) -> NDArray[np.int64]:
        """Returns `count` symbols below `alphabet`.

        Raises:
            ModelFileError: if they cannot be read.
        """
        mode, size, length = heads.fields(_STREAM)
        if mode == _ONE_SYMBOL and length == 0 and size < alphabet:
            return np.full(count, size, dtype=np.int64)
        if mode != _CODED or size != alphabet:
            raise ModelFileError("the packed file holds symbols of an unknown kind", next_step=_NEXT)
        code = Code(np.frombuffer(heads.take(alphabet), dtype=np.uint8))
        return code.decode(streams.take(length), count)

    @property
    def entropy_bits(self) -> float:
        """The bits that no code of single symbols gets below."""
        return entropy_bits(self.counts)


@dataclass(frozen=True)
class TensorCode:
    """A packed tensor.

    Attributes:
        elements: of the tensor.
        nonzeros: of them; what is stored as zero bits alone is zero.
        step_bits: of a step from one nonzero to the next.
        table: the values that occur, as unsigned integers of their bits. Shape: (values,).
        steps: see `compress.coding.relative`.
        values: places in the table; a filler is the place after its end.
    """

    elements: int
    nonzeros: int
    step_bits: int
    table: NDArray[Any]
    steps: Stream
    values: Stream

    @classmethod
    def of(cls, data: bytes, item_bytes: int, step_bits: int) -> TensorCode | None:
        """Packs a tensor.

        Args:
            data: its elements, little-endian.
            item_bytes: of one: 1, 2 or 4.
            step_bits: of a step.

        Returns:
            None if it has too many values to be shared ones.
        """
        elements = np.frombuffer(data, dtype=f"<u{item_bytes}")
        positions = np.flatnonzero(elements)
        table, places = np.unique(elements[positions], return_inverse=True)
        if len(table) > MAX_VALUES:
            return None
        steps, filler = gaps_of(positions, step_bits)
        symbols = np.full(len(steps), len(table), dtype=np.int64)
        symbols[~filler] = places
        return cls(
            len(elements),
            len(positions),
            step_bits,
            table,
            Stream.of(steps, 1 << step_bits),
            Stream.of(symbols, len(table) + 1),
        )

    @property
    def head(self) -> bytes:
        """All but the two streams' words."""
        entries = int(self.steps.counts.sum())
        fields = _HEAD.pack(self.elements, self.table.itemsize, self.step_bits, len(self.table), entries)
        return fields + self.table.tobytes() + self.steps.head + self.values.head

    @property
    def size(self) -> int:
        """Bytes of both, before anything is deflated."""
        return len(self.head) + len(self.data)

    @property
    def data(self) -> bytes:
        """The two streams' words."""
        return self.steps.data + self.values.data

    @staticmethod
    def read(heads: Reader, streams: Reader, limit_bytes: int) -> bytes:
        """Returns the tensor's elements, as they were given.

        Args:
            heads: from where the head is read.
            streams: from where the words are read.
            limit_bytes: that the tensor may have.

        Raises:
            ModelFileError: if it cannot be read, or would be larger.
        """
        elements, item_bytes, step_bits, values, entries = heads.fields(_HEAD)
        sizes_fit = item_bytes in (1, 2, 4) and values <= MAX_VALUES and step_bits <= MAX_STEP_BITS
        if not sizes_fit or elements * item_bytes > limit_bytes or entries > elements:
            raise ModelFileError("the packed file holds a tensor of an impossible size", next_step=_NEXT)
        table = np.frombuffer(heads.take(values * item_bytes), dtype=f"<u{item_bytes}")
        positions = positions_of(Stream.read(heads, streams, 1 << step_bits, entries), elements)
        symbols = Stream.read(heads, streams, values + 1, entries)
        found = np.zeros(elements, dtype=table.dtype)
        found[positions] = np.append(table, table.dtype.type(0))[symbols]
        return found.tobytes()
