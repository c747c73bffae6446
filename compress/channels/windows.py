"""Where sliding windows read: convolutions, transposed ones and pools, of any number of spatial axes.

A constant that passes a window is the same everywhere only where no window reads beyond the input's edge. What it is
elsewhere can be computed: a *map*, one number for each place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from compress.channels.graph import Array, Node, Shape

GEOMETRY = ("strides", "dilations", "pads", "auto_pad", "output_shape")  # attributes that say where windows lie
LARGEST_MAP = 1 << 18  # numbers of a tensor that is told apart place by place
_EVEN = 1e-7  # a map whose places differ by less, relative to what was added up, is the same everywhere


@dataclass(frozen=True)
class Windows:
    """What each tap of a window reads.

    Attributes:
        places: for each spatial axis, the position that each tap reads for each position of the result; -1 is beyond
            the edge. Shape: (positions of the result, taps).
        free: for each spatial axis, whether its size is a symbolic one, so that edges may lie elsewhere.
        inner: for each spatial axis, which taps never read beyond an edge, whatever the size. Shape: (taps,).
    """

    places: tuple[Array, ...]
    free: tuple[bool, ...]
    inner: tuple[Array, ...]

    @property
    def shape(self) -> Shape:
        """How many positions the result has along each axis."""
        return tuple(len(places) for places in self.places)

    @property
    def symbolic(self) -> bool:
        """Whether the size of some axis is an example."""
        return any(self.free)

    def taps(self) -> Iterator[tuple[int, ...]]:
        """Yields the index of each tap, in the order of a kernel's entries."""
        return product(*(range(places.shape[1]) for places in self.places))

    @cached_property
    def always(self) -> Array:
        """Which taps read within the input for every position of the result. Shape: (taps of all axes,)."""
        return _outer([self._steady(axis) for axis in range(len(self.places))])

    @cached_property
    def sometimes(self) -> Array:
        """Which taps read within the input for some positions, and beyond it for others. Shape: (taps,)."""
        pairs = zip(self.places, self.free, strict=True)
        touching = [np.asarray((places >= 0).any(axis=0) | free) for places, free in pairs]
        return np.asarray(_outer(touching) & ~self.always)

    @cached_property
    def shares(self) -> Array:
        """For which share of the positions of the result each tap reads within the input. Shape: (taps,)."""
        found: Array = np.ones(1)
        for places in self.places:
            found = np.outer(found, (places >= 0).mean(axis=0)).reshape(-1)
        return found

    def seen(self, x: Array, tap: tuple[int, ...], beyond: float = 0.0) -> Array:
        """Returns what a tap reads for each position of the result.

        Args:
            x: the input, space last.
            tap: one of `taps`.
            beyond: what lies beyond the edge.
        """
        start = x.ndim - len(self.places)
        for axis, (places, index) in enumerate(zip(self.places, tap, strict=True), start=start):
            chosen = places[:, index]
            inside = (chosen >= 0).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
            x = np.where(inside, x.take(chosen.clip(0), axis=axis), beyond)
        return x

    def _steady(self, axis: int) -> Array:
        return np.asarray((self.places[axis] >= 0).all(axis=0) & (self.inner[axis] | (not self.free[axis])))


def windows(
    node: Node, kernel: Shape, size: Shape, result: Shape, free: tuple[bool, ...], *, transposed: bool = False
) -> Windows:
    """Returns where the windows of a node read.

    Args:
        node: a convolution or a pool, with ONNX's attributes.
        kernel: taps along each spatial axis.
        size: of the input's spatial axes.
        result: of the result's spatial axes.
        free: which of these axes are symbolic.
        transposed: whether the input's positions are spread out, and the result's are read from them.
    """
    rank = len(kernel)
    strides, dilations = (node.attributes.get(name) or [1] * rank for name in ("strides", "dilations"))
    automatic = _automatic(node)
    # Which side of a transposed convolution is cut more where the sizes decide, runtimes disagree about.
    unsure = transposed and (automatic.startswith("SAME") or bool(node.attributes.get("output_shape")))
    places, inner = [], []
    for axis in range(rank):
        reach = np.arange(kernel[axis]) * dilations[axis]
        low, high = _pads(node, axis, int(strides[axis]), int(reach[-1]) + 1, size[axis], result[axis])
        at = np.arange(result[axis])[:, None]
        if transposed:
            spread = at + low - reach
            found = np.where(spread % strides[axis] == 0, spread // strides[axis], -1)
            inner.append(np.full(kernel[axis], kernel[axis] == strides[axis] == 1 and not unsure))
        else:
            found = at * strides[axis] - low + reach
            automatically = automatic.startswith("SAME") and kernel[axis] > 1
            inner.append((reach >= low) & (reach <= reach[-1] - high) & (not automatically))
        places.append(np.where((found >= 0) & (found < size[axis]), found, -1))
    return Windows(tuple(places), (True,) * rank if unsure else free, tuple(inner))


def summed(x: Array, weight: Array, where: Windows) -> Array:
    """Returns the sum of what windows read, weighted, in double precision.

    Args:
        x: shape (groups, channels of a group, space…).
        weight: shape (groups, outputs of a group, channels of a group, taps…).
        where: the windows.

    Returns:
        Shape: (groups, outputs of a group, space…).
    """
    groups, outputs = weight.shape[:2]
    total = np.zeros((groups, outputs, math.prod(where.shape)))
    flat = weight.reshape(*weight.shape[:3], math.prod(weight.shape[3:]))
    for index, tap in enumerate(where.taps()):
        part = flat[..., index]
        if part.any():
            read = where.seen(x, tap).reshape(groups, x.shape[1], math.prod(where.shape))
            total += part.astype(np.float64) @ read.astype(np.float64)
    return total.reshape(groups, outputs, *where.shape)


def evened(maps: Array, added: Array) -> Array:
    """Gives maps that are the same everywhere but for rounding one value.

    Args:
        maps: shape (channels, space…).
        added: the largest magnitude of what was added up for each. Shape: (channels,).
    """
    rows = maps.reshape(len(maps), -1)
    even = np.ptp(rows, axis=1) <= _EVEN * added
    return np.where(even[:, None], rows[:, :1], rows).reshape(maps.shape)


def _pads(node: Node, axis: int, stride: int, width: int, size: int, result: int) -> tuple[int, int]:
    """Returns how far windows reach beyond the first and the last position of an axis."""
    automatic = _automatic(node)
    if automatic.startswith("SAME"):
        total = max(0, (result - 1) * stride + width - size)
        low = total // 2 if automatic == "SAME_UPPER" else total - total // 2
        return low, total - low
    pads = node.attributes.get("pads") if automatic == "NOTSET" else None
    return (int(pads[axis]), int(pads[axis + len(pads) // 2])) if pads else (0, 0)


def _automatic(node: Node) -> str:
    value = node.attributes.get("auto_pad", "NOTSET")
    return value.decode() if isinstance(value, bytes) else str(value)


def _outer(flags: list[Array]) -> Array:
    """Returns which combinations of taps all axes agree on, flat."""
    found: Array = np.ones(1, dtype=bool)
    for one in flags:
        found = (found[:, None] & one[None, :]).reshape(-1)
    return found
