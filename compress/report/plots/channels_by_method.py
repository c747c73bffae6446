"""Channels that each method takes from each layer: where methods of the same budget differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from compress.report.comparison.interval import mean
from compress.report.comparison.model import ComparisonFigures, Entry
from compress.report.plot import COMPARISON_PLOTS, LegendEntry, Plot
from compress.report.series import series_of
from compress.report.svg import COLOURS, horizontal, panel
from compress.report.wording import fixed, shorten_all, show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_LAYERS = 20
_MOST_METHODS = 6  # as many colours as there are
_BAR = 6.5  # CSS pixels


@COMPARISON_PLOTS.register("channels-by-method")
def draw(figures: ComparisonFigures) -> Plot | None:
    """Draws a panel a budget, the harshest first; in it a row a layer, and in that a bar a method."""
    made = [entry for entry in figures.entries if entry.trials and any(trial.channels for trial in entry.trials)]
    methods = list(dict.fromkeys(entry.method for entry in made))
    shown = methods[:_MOST_METHODS]
    budgets = sorted({entry.ratio for entry in made}, key=lambda ratio: -(ratio or 0.0))
    if not made:
        return None
    gone = {entry: _gone(entry) for entry in made if entry.method in shown}
    layers = _layers(list(gone.values()))
    if not layers:
        return None
    every = len({layer for row in gone.values() for layer, count in row.items() if count})
    widest = max(row.get(layer, 0.0) for row in gone.values() for layer in layers)
    panels = tuple(
        _panel(ratio, {entry.method: row for entry, row in gone.items() if entry.ratio == ratio}, layers, shown, widest)
        for ratio in budgets
    )
    left_out = [f"{every - len(layers)} layers that lose least"] if every > len(layers) else []
    left_out += [f"{len(methods) - len(shown)} methods"] if len(methods) > len(shown) else []
    colours = series_of([entry.method for entry in figures.entries if entry.trials])
    return Plot(
        order=20,
        title="Which layers lose channels",
        panels=panels,
        legend=tuple(LegendEntry(method, colours[method].colour) for method in shown),
        caption="Means over seeds, bars in the order of the legend."
        + (f" Left out: {' and '.join(left_out)}; comparison.json has all." if left_out else ""),
    )


def _gone(entry: Entry) -> dict[str, float]:
    """Returns by layer how many channels go, on average over seeds."""
    counts: dict[str, list[float]] = {}
    for trial in entry.trials:
        for layer in trial.channels:
            counts.setdefault(layer.layer, []).append(layer.before - layer.kept)
    return {layer: mean(found).value for layer, found in counts.items()}


def _layers(rows: Sequence[dict[str, float]]) -> list[str]:
    """Returns the layers that lose channels, in the order of the network; of many, those that lose most."""
    most: dict[str, float] = {}
    for row in rows:
        for layer, count in row.items():
            most[layer] = max(most.get(layer, 0.0), count)
    losing = [layer for layer, count in most.items() if count > 0]
    kept = set(sorted(losing, key=lambda layer: -most[layer])[:_MOST_LAYERS])
    return [layer for layer in losing if layer in kept]


def _panel(
    ratio: float | None, gone: dict[str, dict[str, float]], layers: list[str], shown: list[str], widest: float
) -> str:
    colours = series_of(shown)
    height = len(shown) * _BAR + 9
    title = f"{show(100 * ratio, 3)} % gone" if ratio is not None else ""

    def bars(figure: Figure) -> None:
        axes = figure.add_subplot()
        thickness = 0.8 / len(shown)
        for index, method in enumerate(shown):
            row = gone.get(method, {})
            places = [place + (index - (len(shown) - 1) / 2) * thickness for place in range(len(layers))]
            values = [row.get(layer, 0.0) for layer in layers]
            axes.barh(places, values, height=thickness, color=COLOURS[colours[method].colour])
        axes.set_xlim(0, max(widest, 1) * 1.05)
        axes.locator_params(axis="x", nbins=5, integer=True)
        axes.set_title(title, fontsize=11, color=COLOURS["ink"], loc="left")
        horizontal(axes, shorten_all(layers, 20), "channels gone")

    alt = "; ".join(
        f"{method}: {', '.join(f'{layer} {fixed(row.get(layer, 0.0), 1)}' for layer in layers)}"
        for method, row in gone.items()
    )
    name = f"channels-by-method-{math.floor(1e6 * (ratio or 0.0))}"
    return panel(name, 84 + height * len(layers), f"{title}, channels gone: {alt}", bars)
