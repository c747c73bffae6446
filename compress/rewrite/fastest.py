"""Which of several measured models is small and as fast as the fastest: what pairs of them say, with intervals.

The *reference* is the fastest: no other is shown to be faster than it, and of those of which that is true it has the
least latency over that of all. *As fast* is shown, never assumed: the upper end of a model's interval over the
reference is at most 1 + `LOSS`. So a wide interval speaks for nobody, and what it leaves open is told.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

# Latency that a smaller file may cost: more than processes that time one model twice disagree by (0.4 %).
LOSS = 0.02


class Interval(Protocol):
    """Latency over that of another model, with its 95 % interval."""

    @property
    def ratio(self) -> float:
        """The estimate; < 1 is faster."""
        ...

    @property
    def low(self) -> float:
        """The lower end."""
        ...

    @property
    def high(self) -> float:
        """The upper end."""
        ...


# Latency of the one over that of the other, by their positions.
Pairs = Callable[[int, int], Interval]


@dataclass(frozen=True)
class Found:
    """What measuring allows to say of some models, named by their positions.

    Attributes:
        reference: the fastest.
        chosen: the smallest that is shown to lose at most `LOSS` against it; the reference if there is no smaller one.
        perhaps_as_fast: smaller than the chosen one, and neither shown to lose so little nor to lose more.
        perhaps_faster: others that may be faster than the reference by more than `LOSS`.
    """

    reference: int
    chosen: int
    perhaps_as_fast: tuple[int, ...] = ()
    perhaps_faster: tuple[int, ...] = ()

    @property
    def settled(self) -> bool:
        """Whether finer measuring could not choose another one."""
        return not (self.perhaps_as_fast or self.perhaps_faster)


def smallest_as_fast(count: int, pairs: Pairs) -> Found:
    """Chooses among models that were measured together.

    Args:
        count: of the models, at least 1; a smaller one comes before a larger one.
        pairs: what was measured.
    """
    reference = _fastest(count, pairs)
    over = [pairs(one, reference) for one in range(count)]
    chosen = next(one for one in range(count) if one == reference or over[one].high <= 1 + LOSS)
    others = [one for one in range(count) if one not in (chosen, reference)]
    as_fast = tuple(one for one in others if one < chosen and over[one].low <= 1 + LOSS)
    faster = tuple(one for one in others if one not in as_fast and over[one].low < 1 / (1 + LOSS))
    return Found(reference, chosen, as_fast, faster)


def _fastest(count: int, pairs: Pairs) -> int:
    """Returns the reference; where each is beaten by another, in a circle, that with the least latency over all."""
    everyone = range(count)
    unbeaten = [one for one in everyone if not any(pairs(other, one).high < 1 for other in everyone if other != one)]
    return min(unbeaten or everyone, key=lambda one: sum(math.log(pairs(one, other).ratio) for other in everyone))
