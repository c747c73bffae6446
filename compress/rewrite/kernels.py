"""The kernels of convolutions: which of their positions hold nothing, and how they look without these."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from compress.channels.graph import Array, Node
from compress.channels.trace import Trace


@dataclass(frozen=True)
class Span:
    """What a kernel covers along one spatial axis.

    Attributes:
        size: of the kernel.
        stride: of the convolution.
        dilation: between its positions.
        begin, end: padding; what is negative is cut off the input instead.
    """

    size: int
    stride: int
    dilation: int
    begin: int
    end: int

    def only(self, used: Array) -> tuple[Span, slice]:
        """Returns the span of the evenly spaced positions that hold all the used ones, and which these are.

        Args:
            used: which positions hold anything; one at least. Shape: (size,), booleans.
        """
        places = np.flatnonzero(used)
        first, last = int(places[0]), int(places[-1])
        step = int(np.gcd.reduce(np.diff(places))) if places.size > 1 else 1
        size = (last - first) // step + 1
        begin = self.begin - first * self.dilation
        end = self.end - (self.size - 1 - last) * self.dilation
        dilation = self.dilation * step if size > 1 else 1
        return Span(size, self.stride, dilation, begin, end), slice(first, last + 1, step)

    def without_cuts(self, used: Array) -> tuple[Span, slice]:
        """Returns what `only` does, with as many idle positions as keep the padding from being negative."""
        places = np.flatnonzero(used)
        spare = (max(self.begin, 0) // self.dilation, max(self.end, 0) // self.dilation)
        wider = used.copy()
        wider[min(int(places[0]), spare[0])] = True
        wider[max(int(places[-1]), self.size - 1 - spare[1])] = True
        return self.only(wider)


@dataclass(frozen=True)
class Kernel:
    """The kernel of a convolution.

    Attributes:
        spans: along each spatial axis.
        groups: of the convolution.
    """

    spans: tuple[Span, ...]
    groups: int

    @property
    def size(self) -> int:
        """The number of its positions."""
        return math.prod(span.size for span in self.spans)

    def only(self, used: Array, *, cut: bool = True) -> tuple[Kernel, tuple[slice, ...]]:
        """Returns the smallest kernel that holds all used positions, and which positions of this one it has.

        Args:
            used: which positions hold anything. Shape: that of the kernel, booleans.
            cut: whether padding may become negative, so that the input is cut.
        """
        found = []
        for axis, span in enumerate(self.spans):
            along = np.asarray(used.any(axis=tuple(other for other in range(used.ndim) if other != axis)))
            found.append(span.only(along) if cut else span.without_cuts(along))
        return Kernel(tuple(span for span, _ in found), self.groups), tuple(places for _, places in found)

    def attributes(self) -> dict[str, list[int] | int]:
        """Returns the attributes of a convolution that are not the usual ones; negative padding is left to a cut."""
        begins, ends = ([max(getattr(span, side), 0) for span in self.spans] for side in ("begin", "end"))
        strides, dilations = ([getattr(span, name) for span in self.spans] for name in ("stride", "dilation"))
        found: dict[str, list[int] | int] = {}
        found |= {"strides": strides} if max(strides) > 1 else {}
        found |= {"dilations": dilations} if max(dilations) > 1 else {}
        found |= {"pads": begins + ends} if any(begins + ends) else {}
        return found | ({"group": self.groups} if self.groups > 1 else {})

    def cuts(self) -> tuple[list[int], list[int]]:
        """Returns how much is cut off the input, at the beginning and at the end of each spatial axis."""
        return [max(-span.begin, 0) for span in self.spans], [max(-span.end, 0) for span in self.spans]


@dataclass(frozen=True)
class Convolved:
    """A convolution whose weight is known.

    Attributes:
        node: of the trace.
        kernel: of the convolution.
        weight: as it is stored. Shape: (O, I / g, …).
        nonzero: which of its entries hold anything. Shape: that of the weight.
        inputs: spatial sizes of the input.
        outputs: spatial sizes of the output.
    """

    node: Node
    kernel: Kernel
    weight: Array
    nonzero: Array
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def convolutions(trace: Trace) -> Iterator[Convolved]:
    """Yields the convolutions with stored weights of more than one position that hold zeros, and not only zeros."""
    shapes = trace.graph.shapes
    for node in trace.graph.nodes:
        name = node.input(1)
        if node.operator != "Conv" or node.domain or node.whole or name not in trace.graph.constants:
            continue
        if any(tensor not in shapes for tensor in (node.input(0), node.outputs[0])):
            continue
        weight, kernel = trace.graph.constants[name], kernel_of(node, trace)
        if kernel is None or kernel.size == 1 or weight.dtype.kind != "f":
            continue
        nonzero = trace.nonzero(name)
        if 0 < np.count_nonzero(nonzero) < nonzero.size:
            sizes = shapes[node.input(0)][2:], shapes[node.outputs[0]][2:]
            yield Convolved(node, kernel, weight, nonzero, *sizes)


def kernel_of(node: Node, trace: Trace) -> Kernel | None:
    """Returns the kernel of a convolution; None if its padding follows from a size that is not fixed."""
    sizes = trace.graph.shapes[node.input(1)][2:]
    strides, dilations = (_given(node, name, len(sizes)) for name in ("strides", "dilations"))
    pads = list(node.attributes.get("pads", [0] * 2 * len(sizes)))
    automatic = node.attributes.get("auto_pad", "NOTSET")
    automatic = automatic.decode() if isinstance(automatic, bytes) else automatic
    spans = []
    for axis, (size, stride, dilation) in enumerate(zip(sizes, strides, dilations, strict=True)):
        begin, end = (0, 0) if automatic == "VALID" else (int(pads[axis]), int(pads[axis + len(sizes)]))
        if automatic.startswith("SAME"):
            if stride > 1 and trace.graph.is_dynamic(node.input(0), axis + 2):
                return None
            length = trace.graph.shapes[node.input(0)][axis + 2]
            whole = max((-(-length // stride) - 1) * stride + dilation * (size - 1) + 1 - length, 0)
            begin = whole // 2 if automatic == "SAME_UPPER" else whole - whole // 2
            end = whole - begin
        spans.append(Span(size, stride, dilation, begin, end))
    return Kernel(tuple(spans), int(node.attributes.get("group", 1)))


def _given(node: Node, name: str, count: int) -> Sequence[int]:
    return [int(value) for value in node.attributes.get(name, [1] * count)]
