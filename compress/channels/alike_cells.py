"""What likeness knows of a tensor, and of constants: multiples of one function, or themselves."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from compress.channels.graph import Array
from compress.channels.multiples import normalised
from compress.channels.numbering import ONE, Numbering

if TYPE_CHECKING:
    from compress.channels.trace import Trace


@dataclass(frozen=True)
class Cells:
    """Ids and scales of a tensor: integers and float64, of one shape that broadcasts to the tensor's."""

    ids: Array
    scales: Array

    def at(self, index: Array) -> Cells:
        """Returns the cells at flat positions, in the shape of `index`."""
        return Cells(self.ids.reshape(-1)[index], self.scales.reshape(-1)[index])

    def reshape(self, shape: Iterable[int]) -> Cells:
        """Returns the cells in another shape, in their order."""
        shape = tuple(shape)
        return Cells(self.ids.reshape(shape), self.scales.reshape(shape))

    def broadcast(self, shape: Iterable[int]) -> Cells:
        """Returns the cells repeated to a shape."""
        shape = tuple(shape)
        if self.ids.shape == shape == self.scales.shape:
            return self
        return Cells(np.broadcast_to(self.ids, shape), np.broadcast_to(self.scales, shape))


class Constants:
    """The cells of a graph's constants, each found once.

    Args:
        trace: what is known of the graph.
        numbering: gives the ids.
    """

    def __init__(self, trace: Trace, numbering: Numbering) -> None:
        self._trace = trace
        self._numbering = numbering
        self._found: dict[Hashable, Cells] = {}

    def value(self, name: str) -> Array | None:
        """Returns the value of a tensor that is known to be constant for all sizes; None for others."""
        return None if name in self._trace.examples else self._trace.constant(name)

    def cells(self, name: str, axes: tuple[int, ...], rank: int | None) -> Cells:
        """Returns the cells of a constant; see `Likeness.constant`."""
        asked = (name, axes, rank)
        if asked not in self._found:
            self._found[asked] = self._cells(*asked)
        return self._found[asked]

    def _cells(self, name: str, axes: tuple[int, ...], rank: int | None) -> Cells:
        value = self.value(name)
        assert value is not None, name
        value = np.broadcast_to(value, self._trace.graph.shapes.get(name, value.shape))
        value = value.reshape((1,) * ((rank or value.ndim) - value.ndim) + value.shape)
        apart = [axis for axis in axes if value.shape[axis] > 1]
        others = [axis for axis in range(value.ndim) if axis not in apart]
        shape = tuple([value.shape[axis] if axis in apart else 1 for axis in range(value.ndim)])
        rows = value.transpose([*apart, *others]).reshape(math.prod(shape), -1)
        signature = ("constant", value.dtype.str, rows.shape[1], tuple([value.shape[axis] for axis in others]))
        if value.dtype.kind != "f" or not np.isfinite(rows).all():
            ids = np.array([self._numbering.exactly((signature, row.tobytes())) for row in rows], dtype=np.int64)
            return Cells(ids.reshape(shape), np.ones(shape))
        rows = rows.astype(np.float64)
        several = (rows != rows[:, :1]).any(axis=1)
        ids, scales = np.full(len(rows), ONE), rows[:, 0].copy() if rows.size else np.zeros(len(rows))
        if several.any():
            shares, scales[several] = normalised(rows[several])
            ids[several] = self._numbering.number(signature, np.zeros((len(shares), 0)), shares)
        return Cells(ids.reshape(shape), scales.reshape(shape))
