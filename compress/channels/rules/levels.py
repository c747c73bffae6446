"""Integers that stand for numbers: what is known of them, and how they move from one scale to another.

Integers have no NaN. Where only some positions of an integer tensor are known, its value is held as numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from compress.channels.graph import Array, Node

if TYPE_CHECKING:
    from compress.channels.trace import Trace

# A sum of floats whose fraction is that close to a half may round either way in another order of summation.
_TIE = 1e-3


@dataclass(frozen=True)
class Scale:
    """How a tensor of integers stands for numbers: (level − zero) · scale.

    Attributes:
        scale: one number.
        zero: the level of 0.
        low, high: the smallest and the largest level.
    """

    scale: float
    zero: float
    low: float
    high: float

    @staticmethod
    def of(node: Node, trace: Trace, scale: int, zero: int) -> Scale | None:
        """Reads a scale from two inputs of a node, by index; None if it is not known, or not one number."""
        step = trace.full(node.input(scale)) if node.input(scale) else None
        point = trace.full(node.input(zero)) if node.input(zero) else np.zeros((), np.uint8)
        if step is None or point is None or step.size > 1 or point.size > 1 or point.dtype.kind not in "iu":
            return None
        limits = np.iinfo(point.dtype)
        return Scale(float(step.reshape(-1)[0]), float(point.reshape(-1)[0]), float(limits.min), float(limits.max))


def requantized(steps: Array, scale: Array | float, target: Scale) -> Array:
    """Returns the levels of `target` for steps · scale, NaN where they are not known or could round either way."""
    with np.errstate(all="ignore"):
        moved = steps * scale / target.scale
    tie = np.abs(np.abs(moved - np.floor(moved)) - 0.5) < _TIE
    levels = np.clip(np.rint(moved) + target.zero, target.low, target.high)
    # Far outside of the range it does not matter which way it rounds.
    inside = (moved + target.zero > target.low - 1) & (moved + target.zero < target.high + 1)
    return np.asarray(np.where(tie & inside, np.nan, levels))


def known_levels(name: str, zero: str, trace: Trace) -> Array | None:
    """Returns how far an integer tensor is from its zero point, as cells of float64 with NaN; None: not known.

    Behind DynamicQuantizeLinear scale and zero point are not known, but that a zero stands for a zero is.
    """
    value = trace.values.get(name)
    point = trace.full(zero) if zero else np.zeros(())
    if value is not None and point is not None and point.size == 1:
        return np.asarray(value.astype(np.float64) - float(point.reshape(-1)[0]))
    source = trace.producer(name)
    if source is None or source.operator != "DynamicQuantizeLinear" or zero != source.outputs[2]:
        return None
    x = trace.values.get(source.input(0))
    return None if x is None else np.where(x == 0, 0.0, np.nan)


def integers(zero: str, trace: Trace) -> np.dtype[np.generic] | None:
    """Returns the element type of a zero point, which is that of its tensor; None if it is not known."""
    point = trace.full(zero) if zero else np.zeros((), np.uint8)
    return None if point is None else point.dtype
