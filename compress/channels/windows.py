"""Where sliding windows read: convolutions, transposed ones and pools, of any number of spatial axes.

A constant that passes a window is the same everywhere only where no window reads beyond the input's edge. What it is
elsewhere can be computed: a *map*, one number for each place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product

import numpy as np

from compress.channels.graph import Array, Node, Shape

GEOMETRY = ("strides", "dilations", "pads", "auto_pad", "output_shape")  # attributes that say where windows lie
LARGEST_MAP = 1 << 18  # numbers of a tensor that is told apart place by place
_EVEN = 1e-7  # a map whose places differ by less, relative to what was added up, is the same everywhere


@dataclass(frozen=True)
class Reach:
    """What each tap of a window reads along one axis.

    Attributes:
        places: the position that each tap reads for each position of the result; -1 is beyond the edge. Shape:
            (positions of the result, taps).
        free: whether the size of the axis is a symbolic one, so that edges may lie elsewhere.
        inner: which taps never read beyond an edge, whatever the size. Shape: (taps,).
    """

    places: Array
    free: bool
    inner: Array

    @cached_property
    def always(self) -> Array:
        """Which taps read within the input for every position of the result. Shape: (taps,)."""
        return np.asarray((self.places >= 0).all(axis=0) & (self.inner | (not self.free)))

    @cached_property
    def ever(self) -> Array:
        """Which taps read within the input for some position of the result. Shape: (taps,)."""
        return np.asarray((self.places >= 0).any(axis=0) | self.free)

    @cached_property
    def shares(self) -> Array:
        """For which share of the positions of the result each tap reads within the input. Shape: (taps,)."""
        return np.asarray((self.places >= 0).mean(axis=0))


@dataclass(frozen=True)
class Windows:
    """What each tap of a window reads.

    Attributes:
        axes: along each spatial axis; of axes that are alike, one and the same.
    """

    axes: tuple[Reach, ...]

    @property
    def shape(self) -> Shape:
        """How many positions the result has along each axis."""
        return tuple(len(axis.places) for axis in self.axes)

    @property
    def symbolic(self) -> bool:
        """Whether the size of some axis is an example."""
        return any(axis.free for axis in self.axes)

    def taps(self) -> Iterator[tuple[int, ...]]:
        """Yields the index of each tap, in the order of a kernel's entries."""
        return product(*(range(axis.places.shape[1]) for axis in self.axes))

    @cached_property
    def sometimes(self) -> Array:
        """Which taps read within the input for some positions, and beyond it for others. Shape: (taps of all axes,)."""
        return _outer([axis.ever for axis in self.axes]) & ~_outer([axis.always for axis in self.axes])

    @cached_property
    def shares(self) -> Array:
        """For which share of the positions of the result each tap reads within the input. Shape: (taps of all,)."""
        return _outer([axis.shares for axis in self.axes])

    def seen(self, x: Array, tap: tuple[int, ...], beyond: float = 0.0) -> Array:
        """Returns what a tap reads for each position of the result.

        Args:
            x: the input, space last.
            tap: one of `taps`.
            beyond: what lies beyond the edge.
        """
        start = x.ndim - len(self.axes)
        for axis, (read, index) in enumerate(zip(self.axes, tap, strict=True), start=start):
            chosen = read.places[:, index]
            inside = (chosen >= 0).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
            x = np.where(inside, x.take(chosen.clip(0), axis=axis), beyond)
        return x


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
    same = _automatic(node).startswith("SAME")
    # Which side of a transposed convolution is cut more where the sizes decide, runtimes disagree about.
    unsure = transposed and (same or bool(node.attributes.get("output_shape")))
    axes = []
    for axis, taps in enumerate(kernel):
        stride, dilation = int(strides[axis]), int(dilations[axis])
        pads = _pads(node, axis, stride, (taps - 1) * dilation + 1, size[axis], result[axis])
        axes.append((taps, stride, dilation, pads, size[axis], result[axis], unsure or free[axis]))
    find = partial(_reach_of_transposed, sure=not unsure) if transposed else partial(_reach, automatic=same)
    # Most kernels are square.
    found = {one: find(*one) for one in dict.fromkeys(axes)}
    return Windows(tuple(found[one] for one in axes))


def _reach(
    taps: int, stride: int, dilation: int, pads: tuple[int, int], size: int, result: int, free: bool, *, automatic: bool
) -> Reach:
    """Returns what windows read along one axis."""
    reach = np.arange(taps) * dilation
    low, high = pads
    inner = (reach >= low) & (reach <= reach[-1] - high) & (not (automatic and taps > 1))
    return Reach(_within(np.arange(result)[:, None] * stride - low + reach, size), free, inner)


def _reach_of_transposed(
    taps: int, stride: int, dilation: int, pads: tuple[int, int], size: int, result: int, free: bool, *, sure: bool
) -> Reach:
    """Returns what windows of a transposed convolution read along one axis."""
    spread = np.arange(result)[:, None] + pads[0] - np.arange(taps) * dilation
    inner = np.full(taps, taps == stride == 1 and sure)
    return Reach(_within(np.where(spread % stride == 0, spread // stride, -1), size), free, inner)


def _within(places: Array, size: int) -> Array:
    """Returns positions of an axis, -1 for those beyond its edges."""
    return np.where((places >= 0) & (places < size), places, -1)


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


def _outer(axes: list[Array]) -> Array:
    """Returns the products of what is said of the taps of all axes, flat."""
    found: Array = np.ones(1, dtype=bool)
    for one in axes:
        found = (found[:, None] * one).reshape(-1)
    return found
