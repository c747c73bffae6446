"""Opposite phases: how near filters are to the negative of another, by depth, beside random filters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from compress.report.model import LayerPhases, RunFigures
from compress.report.plot import PLOTS, LegendEntry, Plot
from compress.report.svg import COLOURS, panel
from compress.report.wording import fixed, shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEIGHT = 230


@PLOTS.register("phases")
def draw(run: RunFigures) -> Plot | None:
    """Draws the mean over filters of the least cosine with another filter, layer by layer, and its distribution."""
    if not run.phases:
        return None
    alt = "; ".join(
        f"{entry.layer}: {fixed(entry.mean, 2)}, random filters {fixed(entry.random, 2)}" for entry in run.phases
    )
    nearest = min(run.phases, key=lambda entry: entry.mean - entry.random)
    name = shorten(nearest.layer, 20)
    return Plot(
        order=45,
        title=(
            f"Filters of {name} are nearest to opposites: mean cosine {fixed(nearest.mean, 2)}, "
            f"{fixed(nearest.random, 2)} by chance"
        ),
        panels=(
            panel("phases-depth", _HEIGHT, alt, lambda figure: _by_depth(figure, run.phases)),
            panel(
                "phases-counts",
                _HEIGHT,
                f"filters of {name} by their least cosine with another filter",
                lambda figure: _counts(figure, nearest),
            ),
        ),
        legend=(LegendEntry("this network", "after", "line"), LegendEntry("random filters", "before", "line")),
        caption=f"Layers in order of depth; the distribution is that of {name}.",
    )


def _by_depth(figure: Figure, phases: Sequence[LayerPhases]) -> None:
    axes = figure.add_subplot()
    depth = range(1, len(phases) + 1)
    axes.plot(depth, [entry.random for entry in phases], color=COLOURS["before"], marker="o", markersize=3)
    axes.plot(depth, [entry.mean for entry in phases], color=COLOURS["after"], marker="o", markersize=3)
    axes.set_ylim(-1.05, max(0.0, *(entry.mean for entry in phases)) + 0.05)
    axes.locator_params(axis="x", integer=True)
    axes.grid(axis="y")
    axes.set_xlabel("convolution")
    axes.set_ylabel("mean least cosine")


def _counts(figure: Figure, layer: LayerPhases) -> None:
    axes = figure.add_subplot()
    edges = [-1 + 2 * index / len(layer.counts) for index in range(len(layer.counts) + 1)]
    axes.stairs(layer.random_counts, edges, color=COLOURS["before"])
    axes.stairs(layer.counts, edges, color=COLOURS["after"])
    axes.grid(axis="y")
    axes.set_xlabel("least cosine with another filter")
    axes.set_ylabel("filters")
