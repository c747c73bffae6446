"""Training curves: loss, accuracy and learning rate, with the stages of the run one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.report.model import RunFigures, Training
from compress.report.plot import PLOTS, LegendEntry, Plot
from compress.report.svg import COLOURS, SERIES, panel
from compress.report.wording import fixed, show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEIGHT = 230


@dataclass(frozen=True)
class _Curve:
    stage: int
    epochs: list[int]
    values: list[float]
    dashed: bool = False


@PLOTS.register("training")
def draw(run: RunFigures) -> Plot | None:
    """Draws up to three panels over the epochs of all trainings, counted on."""
    trainings = [training for training in run.training if training.history]
    kinds = [
        ("loss", "loss", _curves(trainings, "loss")),
        (
            "accuracy",
            "accuracy (%)",
            _curves(trainings, "train_accuracy", dashed=True) + _curves(trainings, "validation_accuracy"),
        ),
        ("learning rate", "learning rate", _curves(trainings, "learning_rate")),
    ]
    drawn = [(name, label, curves) for name, label, curves in kinds if curves]
    if not drawn:
        return None
    panels = tuple(_panel(trainings, name, label, curves) for name, label, curves in drawn)
    legend = [
        LegendEntry(training.stage, SERIES[index % len(SERIES)], "line") for index, training in enumerate(trainings)
    ]
    if any(curve.dashed for _, _, curves in drawn for curve in curves):
        legend += [LegendEntry("training images", "muted", "dashed"), LegendEntry("validation images", "muted", "line")]
    return Plot(order=30, title=_title(trainings), panels=panels, legend=tuple(legend))


def _curves(trainings: Sequence[Training], key: str, *, dashed: bool = False) -> list[_Curve]:
    curves, start = [], 0
    for index, training in enumerate(trainings):
        points = [(start + place, getattr(epoch, key)) for place, epoch in enumerate(training.history, start=1)]
        known = [(epoch, float(value)) for epoch, value in points if value is not None]
        if known:
            curves.append(_Curve(index, [epoch for epoch, _ in known], [value for _, value in known], dashed))
        start += len(training.history)
    return curves


def _title(trainings: Sequence[Training]) -> str:
    parts = []
    for training in trainings:
        scores = [epoch.validation_accuracy for epoch in training.history if epoch.validation_accuracy is not None]
        if scores:
            parts.append(f"{training.stage} reaches {fixed(max(scores), 2)} %")
    epochs = sum(len(training.history) for training in trainings)
    if parts:
        return f"On validation images, {', '.join(parts)}"
    return f"{epochs} epochs in {len(trainings)} training{'s' if len(trainings) > 1 else ''}"


def _panel(trainings: Sequence[Training], name: str, label: str, curves: Sequence[_Curve]) -> str:
    def lines(figure: Figure) -> None:
        axes = figure.add_subplot()
        for curve in curves:
            # A single epoch is a point, which a line would not show.
            axes.plot(
                curve.epochs,
                curve.values,
                color=COLOURS[SERIES[curve.stage % len(SERIES)]],
                linestyle=(0, (3, 2)) if curve.dashed else "-",
                linewidth=1.3 if curve.dashed else 1.9,
                marker="o" if len(curve.epochs) < 3 else None,
                markersize=4,
            )
        boundary = 0
        for training in trainings[:-1]:
            boundary += len(training.history)
            axes.axvline(boundary + 0.5, color=COLOURS["muted"], linewidth=0.8, linestyle=(0, (2, 3)))
        values = [value for curve in curves for value in curve.values]
        if name == "learning rate" and min(values) > 0 and max(values) > 50 * min(values):
            axes.set_yscale("log")
        elif name != "accuracy":
            axes.set_ylim(bottom=0 if min(values) >= 0 else None)
        axes.locator_params(axis="x", integer=True)
        if axes.get_yscale() == "log":
            from matplotlib.ticker import FuncFormatter, NullLocator

            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_locator(NullLocator())
        else:
            axes.locator_params(axis="y", nbins=5)
        axes.grid(axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)

    alt = "; ".join(
        f"{trainings[curve.stage].stage}: {name}{' on training images' if curve.dashed else ''} "
        f"from {show(curve.values[0])} to {show(curve.values[-1])} in {len(curve.values)} epochs"
        for curve in curves
    )
    return panel(f"training-{name.replace(' ', '-')}", _HEIGHT, alt, lines)
