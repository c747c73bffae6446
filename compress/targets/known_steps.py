"""Widths that a kind of machine is known to compute well, as a table of operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from compress.channels.graph import Array
from compress.channels.widths import Site, multiples

Kind = Literal["dense", "pointwise", "depthwise", "grouped"]


@dataclass(frozen=True)
class Block:
    """Operators that compute channels in blocks.

    Attributes:
        multiple: of how many channels.
        kinds: of convolution: depthwise, grouped, pointwise (1×1), dense (any other).
        role: of the axis: ``in``, channels that it reads; ``out``, that it produces.
        element: type of the weight's numbers.
    """

    multiple: int
    kinds: tuple[Kind, ...]
    role: str
    element: str

    def applies(self, site: Site) -> bool:
        """Tells whether a site is one of them."""
        return (
            site.node.operator == "Conv"
            and kind(site) in self.kinds
            and site.role == self.role
            and site.element in (self.element, f"u{self.element}")
        )


@dataclass(frozen=True, kw_only=True)
class Step(Block):
    """Operators for which a multiple of some channels is cheaper than a few channels fewer.

    Attributes:
        growth: up to how many times the channels that are needed such a multiple is still cheaper, > 1: a step that
            costs 10 % is not worth 20 % more channels.
        below: only for fewer channels than this; None: always.
    """

    growth: float
    below: int | None = None

    def width(self, site: Site, living: int, total: int) -> int:
        """Returns the width that is cheapest: a multiple, or `living`."""
        applies = self.applies(site) and (self.below is None or living < self.below)
        width = -(-living // self.multiple) * self.multiple
        return width if applies and width <= min(total, living * self.growth) else living


@dataclass(frozen=True)
class KnownSteps:
    """What is known of one kind of machine. A `WidthPolicy`.

    Attributes:
        architectures: what such a machine calls itself (`platform.machine()`).
        steps: all that apply are asked; the widest answer counts.
        blocks: a multiple of channels costs hardly more than a few fewer of them; all that apply must hold.
    """

    architectures: tuple[str, ...]
    steps: tuple[Step, ...]
    blocks: tuple[Block, ...]

    def kept(self, site: Site, living: int, total: int) -> int:
        """See `WidthPolicy.kept`."""
        return max((step.width(site, living, total) for step in self.steps), default=living)

    def paying(self, site: Site, total: int) -> Array:
        """See `WidthPolicy.paying`."""
        block = np.lcm.reduce([block.multiple for block in self.blocks if block.applies(site)] or [1])
        return multiples(int(block), total)


def kind(site: Site) -> Kind:
    """Returns which kind of convolution a site belongs to."""
    groups = int(site.node.attributes.get("group", 1))
    if groups > 1:
        return "depthwise" if site.shape[1] == 1 and site.shape[0] == groups else "grouped"
    return "pointwise" if all(size == 1 for size in site.shape[2:]) else "dense"
