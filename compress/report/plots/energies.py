"""Energy and loss of a search whose states compete while the network trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from compress.report.model import Energy, Epoch, RunFigures
from compress.report.plot import PLOTS, LegendEntry, Plot
from compress.report.svg import COLOURS, panel
from compress.report.wording import fixed, show

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HEIGHT = 230
_STAGE = "prune"


@PLOTS.register("energies")
def draw(run: RunFigures) -> Plot | None:
    """Draws best and mean energy over the epochs in which states compete, and the training loss over all."""
    shown = [row for row in run.energies if row.competing]
    if not shown:
        return None
    history = next((training.history for training in run.training if training.stage == _STAGE), ())
    losses = [epoch for epoch in history if epoch.loss is not None]
    best = [row.best_energy for row in shown]
    panels = [
        panel(
            "energies",
            _HEIGHT,
            f"best energy from {show(best[0], 3)} to {show(best[-1], 3)} in {len(shown)} epochs",
            lambda figure: _energies(figure, shown, run.energies[-1].epoch),
        )
    ]
    if losses:
        panels.append(
            panel(
                "energies-loss",
                _HEIGHT,
                f"training loss from {show(losses[0].loss)} to {show(losses[-1].loss)} in {len(losses)} epochs",
                lambda figure: _losses(figure, losses, shown[-1].epoch),
            )
        )
    legend = [LegendEntry("best state", "s1", "line"), LegendEntry("mean of all states", "s2", "dashed")]
    if losses:
        legend.append(LegendEntry("training loss of the best state", "s3", "line"))
    return Plot(
        order=32,
        title=f"The best state's energy goes from {fixed(best[0], 2)} to {fixed(best[-1], 2)}",
        panels=tuple(panels),
        legend=tuple(legend),
        caption=_caption(shown[-1].epoch, run.energies[-1].epoch),
    )


def _caption(settled: int, epochs: int) -> str:
    if settled == epochs:
        return "States compete until the last epoch."
    return f"States compete until epoch {settled}, the dotted line; then the best one is trained alone."


def _energies(figure: Figure, shown: Sequence[Energy], epochs: int) -> None:
    axes = figure.add_subplot()
    places = [row.epoch for row in shown]
    marker = "o" if len(places) < 3 else None
    mean = [row.mean_energy for row in shown]
    axes.plot(places, mean, color=COLOURS["s2"], linestyle=(0, (3, 2)), marker=marker, markersize=4)
    axes.plot(places, [row.best_energy for row in shown], color=COLOURS["s1"], marker=marker, markersize=4)
    _over_epochs(axes, epochs, shown[-1].epoch, "energy loss")


def _losses(figure: Figure, losses: Sequence[Epoch], settled: int) -> None:
    axes = figure.add_subplot()
    values = [epoch.loss or 0.0 for epoch in losses]
    marker = "o" if len(values) < 3 else None
    axes.plot([epoch.epoch for epoch in losses], values, color=COLOURS["s3"], marker=marker, markersize=4)
    axes.set_ylim(bottom=0)
    _over_epochs(axes, losses[-1].epoch, settled, "training loss")


def _over_epochs(axes: Axes, epochs: int, settled: int, label: str) -> None:
    if settled < epochs:
        axes.axvline(settled + 0.5, color=COLOURS["muted"], linewidth=1, linestyle=(0, (2, 3)))
    axes.set_xlim(0.5, epochs + 0.5)
    axes.locator_params(axis="x", integer=True)
    axes.locator_params(axis="y", nbins=5)
    axes.grid(axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
