"""Accuracy after each stage of the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from compress.report.model import Accuracy, RunFigures
from compress.report.plot import PLOTS, LegendEntry, Plot
from compress.report.summary import accuracy_ends
from compress.report.svg import COLOURS, SERIES, horizontal, panel
from compress.report.wording import fixed, shorten, show

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@PLOTS.register("accuracy")
def draw(run: RunFigures) -> Plot | None:
    """Draws one row a stage, from the first at the top, with one line of dots a split."""
    ends = accuracy_ends(run)
    if ends is None:
        return None
    first, last = ends
    labelled = _labelled(run.accuracies)
    stages = list(dict.fromkeys(label for label, _ in labelled))
    # The split of the summary comes first: it has the strongest colour and the numbers.
    splits = sorted({entry.split for entry in run.accuracies}, key=lambda split: (split != last.split, split))
    values = {split: {label: entry.accuracy for label, entry in labelled if entry.split == split} for split in splits}
    alt = "; ".join(f"{entry.stage}, {entry.split}: {show(entry.accuracy)} per cent" for entry in run.accuracies)
    height = 62 + 32 * len(stages)
    legend = [LegendEntry(split, SERIES[index % len(SERIES)], "dot") for index, split in enumerate(splits)]
    return Plot(
        order=20,
        title=_title(first.accuracy, last.accuracy, last.stage, last.split, only=first is last),
        panels=(panel("accuracy", height, alt, lambda figure: _dots(figure, stages, values)),),
        legend=tuple(legend),
    )


def _labelled(accuracies: Sequence[Accuracy]) -> list[tuple[str, Accuracy]]:
    """Gives each entry the label of its row; a stage that comes again, as in iterative pruning, is numbered."""
    seen: Counter[tuple[str, str]] = Counter()
    labelled = []
    for entry in accuracies:
        seen[entry.stage, entry.split] += 1
        time = seen[entry.stage, entry.split]
        labelled.append((f"{shorten(entry.stage, 16)} {time}" if time > 1 else shorten(entry.stage, 20), entry))
    return labelled


def _title(first: float, last: float, stage: str, split: str, *, only: bool) -> str:
    if only:
        return f"{fixed(last, 2)} % of the {split} images are right"
    lost = first - last
    if abs(lost) < 0.005:
        return f"No {split} accuracy is lost by the {stage} stage"
    return f"{fixed(abs(lost), 2)} points of {split} accuracy {'lost' if lost > 0 else 'gained'} from start to end"


def _dots(figure: Figure, stages: list[str], values: dict[str, dict[str, float]]) -> None:
    axes = figure.add_subplot()
    everything = [value for series in values.values() for value in series.values()]
    low, high = min(everything), max(everything)
    spread = max(high - low, 1.0)
    for index, series in reversed(list(enumerate(values.values()))):
        colour = COLOURS[SERIES[index % len(SERIES)]]
        rows = [row for row, stage in enumerate(stages) if stage in series]
        points = [series[stages[row]] for row in rows]
        # Each split has its own height in a row: dots of nearly the same accuracy do not hide each other.
        heights = [row + 0.2 * index for row in rows]
        axes.plot(points, heights, color=colour, linewidth=1.2, alpha=0.45)
        axes.plot(points, heights, color=colour, marker="o", markersize=7 if index == 0 else 5, linestyle="")
        if index == 0:
            for row, point in zip(rows, points, strict=True):
                axes.text(high + 0.12 * spread, row, fixed(point, 2), va="center", fontweight="bold")
    axes.set_xlim(low - 0.1 * spread, high + 0.42 * spread)
    axes.locator_params(axis="x", nbins=5)
    axes.set_xticks([tick for tick in axes.get_xticks() if low - 0.1 * spread <= tick <= min(high + 0.1 * spread, 100)])
    horizontal(axes, stages, "accuracy (%)")
