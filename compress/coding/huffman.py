"""Canonical Huffman codes: a code is known by the lengths of its words."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.errors import ModelFileError

# Words are found in a table of 2^16 entries.
MAX_BITS = 16
_CHUNK_BITS = 1 << 20


@dataclass(frozen=True)
class Code:
    """A prefix code.

    Shorter words come first; of one length, those of smaller symbols do: the lengths say everything.

    Attributes:
        lengths: of each symbol's word in bits; 0: the symbol does not occur. Shape: (symbols,), uint8.

    Source: D. Huffman, "A Method for the Construction of Minimum-Redundancy Codes", 1952; words of more than 16 bits
        are avoided by halving the counts until there are none.
    """

    lengths: NDArray[np.uint8]

    @classmethod
    def of(cls, counts: NDArray[Any]) -> Code:
        """Returns the code of least total length.

        Args:
            counts: how often each symbol occurs. Shape: (symbols,), from 2 to 2^15 of them above 0.
        """
        while True:
            lengths = _lengths(counts)
            if lengths.max(initial=0) <= MAX_BITS:
                return cls(lengths.astype(np.uint8))
            counts = (counts + 1) // 2

    def words(self) -> NDArray[np.int64]:
        """Returns each symbol's word as a number of `lengths` bits. Shape: (symbols,)."""
        words = np.zeros(len(self.lengths), dtype=np.int64)
        word, length = 0, 0
        for symbol in self._order():
            word <<= int(self.lengths[symbol]) - length
            length = int(self.lengths[symbol])
            words[symbol] = word
            word += 1
        return words

    def encode(self, symbols: NDArray[Any]) -> bytes:
        """Returns the words one after the other, the highest bit of each first, zeros after the last."""
        lengths = self.lengths[symbols].astype(np.int64)
        words = self.words()[symbols]
        starts = np.cumsum(lengths) - lengths
        bits = np.zeros(int(lengths.sum()), dtype=np.uint8)
        for place in range(int(self.lengths.max(initial=0))):
            longer = lengths > place
            bits[starts[longer] + place] = words[longer] >> (lengths[longer] - 1 - place) & 1
        return np.packbits(bits).tobytes()

    def decode(self, data: bytes, count: int) -> NDArray[np.int64]:
        """Returns the first `count` symbols.

        Raises:
            ModelFileError: if the lengths are no code, or the data end before that, or long after it.
        """
        if not self.lengths.any():
            raise ModelFileError("a Huffman code without words", next_step="get the file again")
        symbol_at, length_at = self._table()
        padded = np.frombuffer(data + bytes(3), dtype=np.uint8).astype(np.uint32)
        found: list[NDArray[np.int64]] = []
        missing, position, end = count, 0, 8 * len(data)
        while missing:
            first = position // 8
            here = padded[first : first + _CHUNK_BITS // 8 + 2]
            triples = here[:-2] << 16 | here[1:-1] << 8 | here[2:]
            windows = (triples[:, None] >> np.arange(8, 0, -1, dtype=np.uint32) & 0xFFFF).reshape(-1)
            lengths = length_at[windows]
            steps = (np.arange(len(windows)) + lengths).tolist()
            places: list[int] = []
            offset, limit = position - 8 * first, len(windows)
            while offset < limit and len(places) < missing:
                places.append(offset)
                offset = steps[offset]
            taken = np.array(places, dtype=np.int64)
            if not places or not lengths[taken].all() or 8 * first + offset > end:
                raise ModelFileError("Huffman coded data end too early, or are none", next_step="get the file again")
            found.append(symbol_at[windows[taken]])
            missing -= len(places)
            position = 8 * first + offset
        if (position + 7) // 8 != len(data):
            raise ModelFileError("Huffman coded data are longer than what they hold", next_step="get the file again")
        return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)

    def _order(self) -> list[int]:
        """Returns the symbols that have a word, in the order of their words."""
        order: list[int] = np.lexsort((np.arange(len(self.lengths)), self.lengths)).tolist()
        return [symbol for symbol in order if self.lengths[symbol]]

    def _table(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns symbol and word length of each window of 16 bits; length 0 where no word begins so.

        Raises:
            ModelFileError: if the lengths are no prefix code.
        """
        present = self.lengths[self.lengths > 0].astype(np.int64)
        if present.max() > MAX_BITS or (2 ** (MAX_BITS - present)).sum() > 2**MAX_BITS:
            raise ModelFileError("the lengths of a Huffman code fit no code", next_step="get the file again")
        order = np.array(self._order(), dtype=np.int64)
        spans = 2 ** (MAX_BITS - self.lengths[order].astype(np.int64))
        symbols, lengths = np.zeros(2**MAX_BITS, dtype=np.int64), np.zeros(2**MAX_BITS, dtype=np.int64)
        symbols[: spans.sum()] = np.repeat(order, spans)
        lengths[: spans.sum()] = np.repeat(self.lengths[order].astype(np.int64), spans)
        return symbols, lengths


def entropy_bits(counts: NDArray[Any]) -> float:
    """Returns Σ n log₂(N / n), the bits below which no code of single symbols gets."""
    present = counts[counts > 0].astype(np.float64)
    return float((present * np.log2(present.sum() / present)).sum())


def _lengths(counts: NDArray[Any]) -> NDArray[np.int64]:
    """Returns how deep each symbol lies in the tree that joins the two rarest again and again."""
    lengths = np.zeros(len(counts), dtype=np.int64)
    # The second entry settles ties, so that equal counts give equal codes.
    heap = [(int(counts[symbol]), symbol, [symbol]) for symbol in np.flatnonzero(counts).tolist()]
    heapq.heapify(heap)
    while len(heap) > 1:
        few, first, left = heapq.heappop(heap)
        many, second, right = heapq.heappop(heap)
        lengths[left + right] += 1
        heapq.heappush(heap, (few + many, min(first, second), left + right))
    return lengths
