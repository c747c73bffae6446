"""Weights before and after pruning, one small histogram a layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from compress.report.model import RunFigures, WeightHistogram
from compress.report.plot import PLOTS, LegendEntry, Plot
from compress.report.svg import COLOURS, panel
from compress.report.wording import fixed, shorten_all, show

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST = 24
_PER_PANEL = 8  # four rows of two
_ROW_HEIGHT = 118


@PLOTS.register("weights")
def draw(run: RunFigures) -> Plot | None:
    """Draws small multiples with counts on a logarithmic axis; of many layers, those that changed most."""
    if not run.weights:
        return None
    shown, caption = _most_changed(run.weights)
    panels = []
    top = max(max((*entry.before, *entry.after, 1)) for entry in shown)
    names = shorten_all([entry.layer for entry in shown], 20)
    # Even, for rows are of two; as equal as that allows.
    size = 2 * math.ceil(len(shown) / math.ceil(len(shown) / _PER_PANEL) / 2)
    for index in range(0, len(shown), size):
        part = shown[index : index + size]
        titles = names[index : index + size]
        alt = "; ".join(
            f"{entry.layer}: {sum(entry.before)} weights before, {sum(entry.after)} after" for entry in part
        )

        def histograms(figure: Figure, part: Sequence[WeightHistogram] = part, titles: list[str] = titles) -> None:
            _histograms(figure, part, titles, top)

        panels.append(panel(f"weights{index}", 26 + _ROW_HEIGHT * math.ceil(len(part) / 2), alt, histograms))
    return Plot(
        order=50,
        title=_title(run.weights),
        panels=tuple(panels),
        legend=(LegendEntry("before", "before"), LegendEntry("after", "after", "line")),
        caption=caption,
    )


def _most_changed(weights: Sequence[WeightHistogram]) -> tuple[list[WeightHistogram], str]:
    if len(weights) <= _MOST:
        return list(weights), ""
    change = [
        sum(abs(before - after) for before, after in zip(entry.before, entry.after, strict=True))
        / max(sum(entry.before), 1)
        for entry in weights
    ]
    ranked = sorted(range(len(weights)), key=lambda index: (-change[index], index))
    shown = [weights[index] for index in sorted(ranked[:_MOST])]
    return shown, f"The {_MOST} of {len(weights)} layers that changed most; report.json has all."


def _title(weights: Sequence[WeightHistogram]) -> str:
    before, after = sum(sum(entry.before) for entry in weights), sum(sum(entry.after) for entry in weights)
    if before and after < before:
        return f"{show(before - after)} of {show(before)} weights are gone ({fixed(100 * (1 - after / before), 0)} %)"
    at_zero = [
        sum(_at_zero(entry, entry.before) for entry in weights),
        sum(_at_zero(entry, entry.after) for entry in weights),
    ]
    if before and after:
        shares = [fixed(100 * count / total, 0) for count, total in zip(at_zero, (before, after), strict=True)]
        return f"The share of weights next to zero goes from {shares[0]} to {shares[1]} %"
    return "Weights before and after pruning"


def _at_zero(entry: WeightHistogram, counts: Sequence[int]) -> int:
    bins = zip(entry.edges[:-1], entry.edges[1:], counts, strict=True)
    return sum(count for low, high, count in bins if low <= 0 < high)


def _histograms(figure: Figure, part: Sequence[WeightHistogram], titles: list[str], top: int) -> None:
    rows = math.ceil(len(part) / 2)
    grid = figure.subplots(rows, 2, squeeze=False)
    for axes, entry, title in zip(grid.flat, part, titles, strict=False):
        _histogram(axes, entry, top)
        axes.set_title(title, fontsize=10.5, color=COLOURS["ink"], pad=4)
    for axes in list(grid.flat)[len(part) :]:
        axes.set_visible(False)
    figure.supxlabel("weight", fontsize=11, color=COLOURS["muted"])
    figure.supylabel("number of weights (log)", fontsize=11, color=COLOURS["muted"])


def _histogram(axes: Axes, entry: WeightHistogram, top: int) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.stairs(entry.before, entry.edges, baseline=0.5, fill=True, color=COLOURS["before"], alpha=0.55)
    axes.stairs(entry.after, entry.edges, baseline=0.5, color=COLOURS["after"], linewidth=1.3)
    axes.set_yscale("log")
    axes.set_ylim(0.5, top * 2)
    highest = max(1, math.floor(math.log10(top)))
    axes.yaxis.set_major_locator(FixedLocator([1, 10**highest]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,.0f}" if value < 1e4 else f"{value / 1e3:,.0f}k")
    )
    axes.set_xlim(entry.edges[0], entry.edges[-1])
    axes.locator_params(axis="x", nbins=3)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: show(value, 2)))
    axes.tick_params(labelsize=9.5)
    axes.grid(axis="y")
    axes.spines["left"].set_visible(False)
