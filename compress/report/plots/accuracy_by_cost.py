"""Accuracy over what is kept: one line a method, with the interval over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.report.comparison.interval import Mean, mean
from compress.report.comparison.model import ComparisonFigures, Entry
from compress.report.comparison.rows import UNPRUNED, cost_name
from compress.report.plot import COMPARISON_PLOTS, LegendEntry, Plot
from compress.report.series import MARKERS, Series, series_of
from compress.report.svg import COLOURS, panel
from compress.report.wording import fixed, shorten, show

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HEIGHT = 300
_APART = 0.008  # of the axis' width: intervals of methods at one budget stand beside each other
_COSTS = {"parameters": "parameters", "macs": "MACs", "file_bytes": "bytes of the file"}
_FAR = 3.0  # how many times the means' spread an interval is followed beyond them


@dataclass(frozen=True)
class _Point:
    """One method at one budget: what is kept of the cost in per cent, and the accuracy."""

    kept: float
    accuracy: Mean


@COMPARISON_PLOTS.register("accuracy-by-cost")
def draw(figures: ComparisonFigures) -> Plot | None:
    """Draws a panel over kept parameters, MACs and bytes each, that of the budget first."""
    made = [entry for entry in figures.entries if entry.trials]
    trials = [*figures.unpruned, *(trial for entry in made for trial in entry.trials)]
    costs = [
        cost for cost in sorted(_COSTS, key=lambda cost: cost != figures.by) if all(getattr(t, cost) for t in trials)
    ]
    if not made or not figures.unpruned or not costs:
        return None
    series = series_of([entry.method for entry in made])
    panels = []
    for cost in costs:
        before = mean([getattr(trial, cost) for trial in figures.unpruned]).value
        lines = {method: _line(made, method, cost, before) for method in series}
        panels.append(_panel(figures, cost, lines, series))
    intervals = any(point.accuracy.half_width is not None for line in lines.values() for point in line)
    legend = [LegendEntry(method, entry.colour, entry.shape) for method, entry in series.items()]
    legend.append(LegendEntry(UNPRUNED, "muted", "dashed"))
    return Plot(
        order=10,
        title=_title(figures, made),
        panels=tuple(panels),
        legend=tuple(legend),
        caption="Test accuracy: means over seeds, with 95 % intervals (cut off where they are far wider than the means "
        "are apart)."
        if intervals
        else "Test accuracy.",
    )


def _line(entries: Sequence[Entry], method: str, cost: str, before: float) -> list[_Point]:
    found = [
        _Point(
            100 * mean([getattr(trial, cost) for trial in entry.trials]).value / before,
            mean([trial.accuracy for trial in entry.trials]),
        )
        for entry in entries
        if entry.method == method
    ]
    return sorted(found, key=lambda point: point.kept)


def _title(figures: ComparisonFigures, entries: Sequence[Entry]) -> str:
    harshest = max(entry.ratio or 0.0 for entry in entries)
    rivals = [entry for entry in entries if (entry.ratio or 0.0) == harshest]
    if len(rivals) < 2 or not harshest:
        return "Accuracy over what is kept"
    ranked = sorted((mean([trial.accuracy for trial in entry.trials]).value, entry.method) for entry in rivals)
    (low, last), (high, first) = ranked[0], ranked[-1]
    return (
        f"With {show(100 * harshest, 3)} % of the {cost_name(figures.by)} gone, accuracy is from {fixed(low, 2)} % "
        f"({shorten(last, 32)}) to {fixed(high, 2)} % ({shorten(first, 32)})"
    )


def _panel(figures: ComparisonFigures, cost: str, lines: dict[str, list[_Point]], series: dict[str, Series]) -> str:
    unpruned = mean([trial.accuracy for trial in figures.unpruned])

    def curves(figure: Figure) -> None:
        axes = figure.add_subplot()
        kept = [point.kept for line in lines.values() for point in line]
        low, high = min(kept), max(kept)
        width = max(high - low, 5.0)
        axes.axhline(unpruned.value, color=COLOURS["muted"], linewidth=1.2, linestyle=(0, (3, 2)))
        for index, (method, line) in enumerate(lines.items()):
            _curve(axes, line, series[method], (index - (len(lines) - 1) / 2) * _APART * width)
        axes.set_xlim(high + 0.08 * width, low - 0.08 * width)
        axes.set_ylim(*_heights([unpruned, *(point.accuracy for line in lines.values() for point in line)]))
        axes.locator_params(axis="x", nbins=6)
        axes.locator_params(axis="y", nbins=6)
        axes.grid(axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"kept {_COSTS[cost]} (%)")
        axes.set_ylabel("accuracy (%)")

    alt = "; ".join(
        f"{method}: {', '.join(f'{fixed(p.accuracy.value, 2)} per cent at {show(p.kept, 3)} per cent' for p in line)}"
        for method, line in lines.items()
    )
    return panel(f"accuracy-by-{cost}", _HEIGHT, f"over kept {_COSTS[cost]}: {alt}", curves)


def _heights(figures: Sequence[Mean]) -> tuple[float, float]:
    """Returns the ends of the axis: all means, and their intervals unless these would flatten everything else."""
    low, high = min(figure.value for figure in figures), max(figure.value for figure in figures)
    spread = max(high - low, 1.0)
    least = min(figure.value - (figure.half_width or 0.0) for figure in figures)
    most = max(figure.value + (figure.half_width or 0.0) for figure in figures)
    bottom, top = max(least, low - _FAR * spread, 0.0), min(most, high + _FAR * spread, 100.0)
    margin = 0.06 * max(top - bottom, 1.0)
    return bottom - margin, top + margin


def _curve(axes: Axes, line: Sequence[_Point], series: Series, shift: float) -> None:
    places = [point.kept + shift for point in line]
    values = [point.accuracy.value for point in line]
    colour = COLOURS[series.colour]
    axes.plot(places, values, color=colour, linewidth=1.6)
    axes.plot(places, values, color=colour, marker=MARKERS[series.shape], markersize=6, linestyle="")
    known = [(place, p.accuracy) for place, p in zip(places, line, strict=True) if p.accuracy.half_width is not None]
    if known:
        widths = [found.half_width or 0.0 for _, found in known]
        centres = [found.value for _, found in known]
        axes.errorbar([p for p, _ in known], centres, widths, color=colour, linestyle="", elinewidth=1.1, capsize=2.5)
