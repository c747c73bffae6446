"""What a plot is, and the registries of plots: a new one is one file in `plots/` with one decorator line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from compress.registry import Registry

if TYPE_CHECKING:
    from compress.report.comparison.model import ComparisonFigures
    from compress.report.model import RunFigures


@dataclass(frozen=True)
class LegendEntry:
    """A sign of the legend, which is HTML beside the panels: it wraps, and no plot can clip it.

    Args:
        label: what the sign stands for.
        colour: a name of `svg.COLOURS`.
        shape: ``bar``, ``line``, ``dashed``, ``tick``, or a marker of `series.MARKERS`.
    """

    label: str
    colour: str
    shape: str = "bar"


@dataclass(frozen=True)
class Plot:
    """A drawn plot: panels of one width, side by side on a wide page and below each other on a phone.

    Args:
        order: position on the page, lowest first.
        title: what the plot shows, as a finding.
        panels: SVG elements, as `svg.panel` makes them.
        legend: what the colours mean.
        caption: what a reader must know besides, e.g. that layers were left out.
    """

    order: int
    title: str
    panels: tuple[str, ...]
    legend: tuple[LegendEntry, ...] = ()
    caption: str = ""


Drawn = TypeVar("Drawn")
PlotFunction = Callable[[Drawn], Plot | None]
PLOTS: Registry[PlotFunction[RunFigures]] = Registry("plot", "compress.report.plots")
COMPARISON_PLOTS: Registry[PlotFunction[ComparisonFigures]] = Registry("plot of a comparison", "compress.report.plots")


def draw_plots(registry: Registry[PlotFunction[Drawn]], figures: Drawn) -> list[tuple[str, Plot]]:
    """Returns the name and the drawing of each plot that has data, in the order of the page."""
    drawn = [(name, plot) for name in registry if (plot := registry.get(name)(figures)) is not None]
    return sorted(drawn, key=lambda item: (item[1].order, item[0]))
