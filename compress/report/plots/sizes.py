"""What the network costs after, as a share of before: sizes, and latency with its interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.report.model import RunFigures
from compress.report.plot import PLOTS, LegendEntry, Plot
from compress.report.summary import SIZES, device_latencies, latency_device, speed_words
from compress.report.svg import COLOURS, horizontal, panel
from compress.report.wording import fixed, shorten, show, times

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class _Share:
    name: str
    ratio: float
    interval: tuple[float, float] | None = None
    limit: float | None = None


@PLOTS.register("sizes")
def draw(run: RunFigures) -> Plot | None:
    """Draws one bar a cost, 100 % being the network before; a tick marks the budget."""
    shares = _shares(run)
    if not shares:
        return None
    words = [f"{share.name} {show(100 * share.ratio, 3)} per cent of before" for share in shares]
    legend = [LegendEntry("after", "after")]
    if any(share.interval for share in shares):
        legend.append(LegendEntry("interval of the ratio", "ink", "line"))
    if any(share.limit is not None for share in shares):
        legend.append(LegendEntry("budget", "bad", "tick"))
    return Plot(
        order=10,
        title=_title(run),
        panels=(panel("sizes", 64 + 38 * len(shares), "; ".join(words), lambda figure: _bars(figure, shares)),),
        legend=tuple(legend),
    )


def _shares(run: RunFigures) -> list[_Share]:
    shares = []
    limits = {row.name: row.limit for row in run.budget}
    for key, (name, _) in SIZES.items():
        before, after = getattr(run.sizes.before, key), getattr(run.sizes.after, key)
        if before and after is not None:
            limit = limits.get(key)
            bound = limit / before if isinstance(limit, int | float) else None
            shares.append(_Share(name, after / before, limit=bound))
    many = len({entry.model for entry in run.latency if entry.ratio is not None}) > 1
    for entry in run.latency:
        if entry.ratio is None or entry.ratio == entry.ratio_low == entry.ratio_high == 1:
            continue
        interval = None
        if entry.ratio_low is not None and entry.ratio_high is not None:
            interval = entry.ratio_low, entry.ratio_high
        limit = next((row.limit for row in run.budget if latency_device(row.name) == entry.device), None)
        what = "Instructions" if entry.kind == "counted" else "Latency"
        name = f"{what}, {shorten(entry.device, 11)}" + (f"\n{shorten(entry.model, 20)}" if many else "")
        shares.append(_Share(name, entry.ratio, interval, limit if isinstance(limit, int | float) else None))
    return shares


def _title(run: RunFigures) -> str:
    before, after = run.sizes.before, run.sizes.after
    parts = []
    if before.file_bytes and after.file_bytes:
        parts.append(f"the file is {times(after.file_bytes / before.file_bytes, 'smaller', 'larger')}")
    elif before.parameters and after.parameters:
        parts.append(f"parameters: {times(after.parameters / before.parameters, 'fewer', 'more')}")
    parts += [words for row in device_latencies(run) if (words := speed_words(row))][:1]
    text = " and ".join(parts) or "cost after, as a share of before"
    return text[0].upper() + text[1:]


def _bars(figure: Figure, shares: list[_Share]) -> None:
    axes = figure.add_subplot()
    right = max(max(share.ratio, *(share.interval or (0,)), share.limit or 0, 1) for share in shares) * 100
    for row, share in enumerate(shares):
        percent = 100 * share.ratio
        axes.barh(row, 100, height=0.5, color=COLOURS["rule"])
        axes.barh(row, percent, height=0.5, color=COLOURS["after" if share.ratio <= 1 else "bad"])
        end = percent
        if share.interval:
            low, high = (100 * bound for bound in share.interval)
            axes.plot([low, high], [row, row], color=COLOURS["ink"], linewidth=1.4)
            axes.plot([low, low, high, high], [row] * 4, color=COLOURS["ink"], marker="|", markersize=8, linestyle="")
            end = max(end, high)
        if share.limit is not None:
            axes.plot([100 * share.limit] * 2, [row - 0.36, row + 0.36], color=COLOURS["bad"], linewidth=2)
            end = max(end, 100 * share.limit) if 100 * share.limit < end + 0.2 * right else end
        axes.text(end + 0.02 * right, row, f"{fixed(percent, 1)} %", va="center", fontweight="bold")
    axes.axvline(100, color=COLOURS["muted"], linewidth=1)
    axes.set_xlim(0, right * 1.2)
    axes.set_xticks([tick for tick in (0, 25, 50, 75, 100) if right <= 130] or axes.get_xticks())
    axes.set_xlim(0, right * 1.2)
    horizontal(
        axes,
        ["\n".join(shorten(line, 20) for line in share.name.split("\n")) for share in shares],
        "share of the network before (%)",
    )
