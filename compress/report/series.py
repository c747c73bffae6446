"""Colours and markers of several methods in one plot: a pair is never used twice, and neither carries it alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compress.report.svg import SERIES

# Sign of the legend → matplotlib's marker.
MARKERS: Mapping[str, str] = {"dot": "o", "square": "s", "diamond": "D", "triangle": "^", "cross": "X"}


@dataclass(frozen=True)
class Series:
    """How one method is drawn.

    Attributes:
        colour: a name of `svg.COLOURS`.
        shape: a sign of the legend, a key of `MARKERS`.
    """

    colour: str
    shape: str


def series_of(methods: Sequence[str]) -> dict[str, Series]:
    """Returns how each method is drawn, in order: neighbours differ in colour and in marker."""
    shapes = list(MARKERS)
    return {
        method: Series(SERIES[index % len(SERIES)], shapes[(index + index // 30) % len(shapes)])
        for index, method in enumerate(dict.fromkeys(methods))
    }
