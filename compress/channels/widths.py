"""How many channels are worth keeping: some runtimes compute a multiple of a few channels faster than fewer of them.

A policy is asked about each axis of each weight. Channels that it wants beside those that are needed are dead ones that
stay: the outputs do not change.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from compress.channels.graph import Array, Node, Shape

if TYPE_CHECKING:
    from compress.channels.trace import Trace


@dataclass(frozen=True)
class Site:
    """One axis of a weight as one node uses it.

    Attributes:
        node: the node.
        weight: the weight's name.
        axis: of the weight.
        role: ``out`` (its positions are channels that the node produces) or ``in`` (channels that it reads).
        shape: of the weight, before anything goes.
        element: type of the numbers as they are stored, e.g. ``float32`` or ``int8``.
    """

    node: Node
    weight: str
    axis: int
    role: str
    shape: Shape
    element: str


class WidthPolicy(Protocol):
    """Decides how many channels stay at a site."""

    def kept(self, site: Site, living: int, total: int) -> int:
        """Returns how many of the channels stay.

        It must not change its mind about its own answer: kept(s, n, w) = w for w = kept(s, n, total), so that a graph
        that was cut so is not cut again.

        Args:
            site: where.
            living: how many have to stay, 1 … total.
            total: how many there are.

        Returns:
            a number from `living` to `total`.
        """
        ...

    def paying(self, site: Site, total: int) -> Array:
        """Returns whether it pays to prune to 1, 2 … `total` channels.

        It does where no number a little larger costs hardly more: channels that come for nothing are worth having.
        `total` itself always pays.

        Args:
            site: where.
            total: how many channels there are.

        Returns:
            Shape: (total,), booleans.
        """
        ...


@dataclass(frozen=True)
class Multiple:
    """Each layer produces a multiple of `step` channels, or all that it had; 1: as few as are needed."""

    step: int = 1

    def kept(self, site: Site, living: int, total: int) -> int:
        """See `WidthPolicy.kept`."""
        return min(-(-living // self.step) * self.step, total) if site.role == "out" else living

    def paying(self, site: Site, total: int) -> Array:
        """See `WidthPolicy.paying`."""
        return multiples(self.step if site.role == "out" else 1, total)


@dataclass(frozen=True)
class Everything:
    """All channels stay; what else a rewrite does is done."""

    def kept(self, site: Site, living: int, total: int) -> int:
        """See `WidthPolicy.kept`."""
        return total

    def paying(self, site: Site, total: int) -> Array:
        """See `WidthPolicy.paying`."""
        return multiples(total, total)


MINIMAL = Multiple()


def multiples(step: int, total: int) -> Array:
    """Returns which of 1 … `total` are multiples of `step`, or `total`; booleans."""
    widths = np.arange(1, total + 1)
    found: Array = (widths % step == 0) | (widths == total)
    return found


def sites(trace: Trace) -> Iterator[Site]:
    """Yields every axis of a weight that produces channels, then every one that reads some."""
    stored = {node.outputs[0]: node.input(0) for node in trace.graph.nodes if node.operator == "DequantizeLinear"}
    for role in ("out", "in"):
        for node in trace.graph.nodes:
            for name in dict.fromkeys(node.inputs):
                for axis in range(len(trace.graph.shapes.get(name, ()))):
                    if trace.labels.roles.get((name, axis)) == role and node.operator != "DequantizeLinear":
                        source = trace.graph.constants.get(stored.get(name, name))
                        element = str(source.dtype) if source is not None else ""
                        yield Site(node, name, axis, role, trace.graph.shapes[name], element)
