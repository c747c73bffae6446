"""Cost by kind of operator, before and after: time, or counted instructions; one panel a device."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from compress.report.model import Latency, RunFigures
from compress.report.plot import PLOTS, LegendEntry, Plot
from compress.report.summary import DeviceLatency, device_latencies
from compress.report.svg import COLOURS, horizontal, panel
from compress.report.wording import fixed, shorten, show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST = 8


@PLOTS.register("operators")
def draw(run: RunFigures) -> Plot | None:
    """Draws two bars an operator kind, the costliest first; kinds beyond the eighth are one row."""
    devices = [row for row in device_latencies(run) if _has_operators(row.before) or _has_operators(row.after)]
    if not devices:
        return None
    panels = tuple(_panel(row, index) for index, row in enumerate(devices))
    legend = []
    if any(_has_operators(row.before) for row in devices):
        legend.append(LegendEntry("before", "before"))
    if any(_has_operators(row.after) for row in devices):
        legend.append(LegendEntry("after", "after"))
    caption = "" if len(devices) == 1 else "One panel a device."
    return Plot(order=25, title=_title(devices[0]), panels=panels, legend=tuple(legend), caption=caption)


def kind_costs(model: Latency | None) -> dict[str, float]:
    """Returns the cost by kind of operator, costliest first: µs, or thousands of instructions."""
    times: dict[str, float] = defaultdict(float)
    for row in model.operators if model else ():
        times[row.operator] += row.cost / (1000 if model and model.kind == "counted" else 1)
    return dict(sorted(times.items(), key=lambda item: (-item[1], item[0])))


def _sum(times: dict[str, float], kinds: list[str]) -> float | None:
    known = [times[kind] for kind in kinds if kind in times]
    return sum(known) if known else None


def _has_operators(model: Latency | None) -> bool:
    return model is not None and bool(model.operators)


def _title(row: DeviceLatency) -> str:
    times = kind_costs(row.after if _has_operators(row.after) else row.before)
    kind, total = next(iter(times)), sum(times.values())
    share = fixed(100 * times[kind] / total, 0) if total else "0"
    what = {"measured": "the time", "counted": "the instructions", "estimated": "the estimated time"}[_kind(row)]
    return f"{shorten(kind, 24)} takes {share} % of {what} on {row.device}"


def _kind(row: DeviceLatency) -> str:
    model = row.after or row.before
    return model.kind if model else "measured"


def _axis(row: DeviceLatency) -> str:
    what = {
        "measured": ("time in one run on", "µs"),
        "counted": ("instructions of one run on", "thousands"),
        "estimated": ("bound of the time of one run on", "µs"),
    }
    words, unit = what[_kind(row)]
    return f"{words} {row.device} ({unit})"


def _panel(row: DeviceLatency, index: int) -> str:
    before, after = kind_costs(row.before), kind_costs(row.after)
    kinds = sorted({*before, *after}, key=lambda kind: (-max(before.get(kind, 0), after.get(kind, 0)), kind))
    rows = [(kind, before.get(kind), after.get(kind)) for kind in kinds[:_MOST]]
    if rest := kinds[_MOST:]:
        rows.append((f"{len(rest)} more", _sum(before, rest), _sum(after, rest)))
    both = bool(before) and bool(after)

    def bars(figure: Figure) -> None:
        axes = figure.add_subplot()
        longest = max(max(old or 0, new or 0) for _, old, new in rows) or 1.0
        for place, (_, old, new) in enumerate(rows):
            sides = [(old, "before", -0.19 if both else 0), (new, "after", 0.19 if both else 0)]
            for value, colour, shift in sides:
                if value is not None:
                    axes.barh(place + shift, value, height=0.34 if both else 0.6, color=COLOURS[colour])
                    axes.text(value + 0.02 * longest, place + shift, show(value, 3), va="center", fontsize=10)
        axes.set_xlim(0, longest * 1.25)
        axes.locator_params(axis="x", nbins=4)
        axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= longest * 1.05])
        horizontal(axes, [shorten(kind, 20) for kind, _, _ in rows], _axis(row))

    alt = "; ".join(f"{kind}: {show(old)} before, {show(new)} after, {_axis(row)}" for kind, old, new in rows)
    return panel(f"operators{index}", 58 + (36 if both else 26) * len(rows), alt, bars)
