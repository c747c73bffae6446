"""Channels kept in each layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from compress.report.model import LayerChannels, RunFigures
from compress.report.plot import PLOTS, LegendEntry, Plot
from compress.report.svg import COLOURS, horizontal, panel
from compress.report.wording import fixed, shorten_all, show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ONE_PANEL = 8  # as many layers as look lost in three columns
_PANELS = 3
_MOST = 120


@PLOTS.register("channels")
def draw(run: RunFigures) -> Plot | None:
    """Draws one bar a layer, in the order of the network, in one column or three of one scale."""
    if not run.channels:
        return None
    shown, caption = _largest_cuts(run.channels)
    count = 1 if len(shown) <= _ONE_PANEL else _PANELS
    names = shorten_all([entry.layer for entry in shown], 20)
    rows = math.ceil(len(shown) / count)
    widest = max(entry.before for entry in shown)
    pitch = 26 if rows <= 8 else 19
    panels = []
    for index in range(count):
        part = shown[index * rows : (index + 1) * rows]
        labels = names[index * rows : (index + 1) * rows]
        alt = "; ".join(f"{entry.layer}: {entry.kept} of {entry.before} channels kept" for entry in part)

        def bars(figure: Figure, part: Sequence[LayerChannels] = part, labels: list[str] = labels) -> None:
            _bars(figure, part, labels, widest)

        panels.append(panel(f"channels{index}", 58 + pitch * len(part), alt, bars))
    return Plot(
        order=40,
        title=_title(run.channels),
        panels=tuple(panels),
        legend=(LegendEntry("kept", "after"), LegendEntry("removed", "before")),
        caption=caption,
    )


def _largest_cuts(channels: Sequence[LayerChannels]) -> tuple[list[LayerChannels], str]:
    if len(channels) <= _MOST:
        return list(channels), ""
    ranked = sorted(range(len(channels)), key=lambda index: (channels[index].kept - channels[index].before, index))
    shown = [channels[index] for index in sorted(ranked[:_MOST])]
    return shown, f"The {_MOST} of {len(channels)} layers that lost most; report.json has all."


def _title(channels: Sequence[LayerChannels]) -> str:
    before, kept = sum(entry.before for entry in channels), sum(entry.kept for entry in channels)
    if before == kept:
        return f"All {show(before)} channels stay"
    return f"{show(before - kept)} of {show(before)} channels are gone ({fixed(100 * (1 - kept / before), 0)} %)"


def _bars(figure: Figure, part: Sequence[LayerChannels], labels: list[str], widest: int) -> None:
    axes = figure.add_subplot()
    for row, entry in enumerate(part):
        axes.barh(row, entry.before, height=0.62, color=COLOURS["before"], alpha=0.5)
        axes.barh(row, entry.kept, height=0.62, color=COLOURS["after"])
        axes.text(entry.before + 0.02 * widest, row, f"{entry.kept} / {entry.before}", va="center", fontsize=10)
    axes.set_xlim(0, max(widest, 1) * 1.28)
    axes.locator_params(axis="x", nbins=5, integer=True)
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= widest * 1.05])
    horizontal(axes, labels, "output channels")
