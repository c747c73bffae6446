"""The summary of a run: one verdict, one lead line, and the rows before / after / budget that every format shows."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from compress.report.model import Accuracy, BudgetRow, Latency, RunFigures
from compress.report.wording import MINUS, fixed, show, show_apart, times

Outcome = Literal["pass", "fail", "none"]

_LISTED = 4  # a longer list of allowed operators is only counted

# Key of a size and of its limit in budget.toml → name, unit.
SIZES = {
    "file_bytes": ("File size", "bytes"),
    "parameters": ("Parameters", ""),
    "macs": ("MACs", ""),
    "peak_activation_bytes": ("Peak activations", "bytes"),
}


@dataclass(frozen=True)
class SummaryRow:
    """One line of the summary, as text that is ready to be shown; a dash where nothing is known."""

    name: str
    unit: str = ""
    before: str = "–"
    after: str = "–"
    change: str = "–"
    limit: str = "–"
    outcome: Outcome = "none"
    note: str = ""

    @property
    def title(self) -> str:
        """The name with its unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


@dataclass(frozen=True)
class DeviceLatency:
    """The baseline of a device and its last other model; either may be absent."""

    device: str
    before: Latency | None
    after: Latency | None


def device_latencies(run: RunFigures) -> list[DeviceLatency]:
    """Returns one entry a device, in the order of the run."""
    rows: dict[str, DeviceLatency] = {}
    for entry in run.latency:
        row = rows.get(entry.device, DeviceLatency(entry.device, None, None))
        baseline = entry.ratio is None and row.before is None
        rows[entry.device] = replace(row, before=entry) if baseline else replace(row, after=entry)
    return list(rows.values())


def accuracy_ends(run: RunFigures) -> tuple[Accuracy, Accuracy] | None:
    """Returns the first and the last accuracy on the test images, or, without those, on the last split measured."""
    if not run.accuracies:
        return None
    splits = [entry.split for entry in run.accuracies]
    split = "test" if "test" in splits else splits[-1]
    entries = [entry for entry in run.accuracies if entry.split == split]
    return entries[0], entries[-1]


def verdict(run: RunFigures) -> tuple[Outcome, str]:
    """Returns the outcome of the budget and its one line."""
    if not run.budget:
        return "none", "No budget was given, so nothing was checked"
    failed = [_budget_title(row) for row in run.budget if not row.passed]
    total = len(run.budget)
    if not failed:
        return (
            "pass",
            "Within budget: the one limit is kept" if total == 1 else f"Within budget: all {total} limits kept",
        )
    return "fail", f"Over budget: {len(failed)} of {total} limits broken – {', '.join(failed)}"


def lead(run: RunFigures) -> str:
    """Returns what the run achieved, in one line; empty if neither sizes, latency nor accuracy are known twice."""
    parts = []
    before, after = run.sizes.before, run.sizes.after
    if before.file_bytes and after.file_bytes:
        parts.append(f"file {times(after.file_bytes / before.file_bytes, 'smaller', 'larger')}")
    if before.macs and after.macs:
        parts.append(f"MACs {times(after.macs / before.macs, 'fewer', 'more')}")
    parts += [speed for row in device_latencies(run) if (speed := speed_words(row))]
    ends = accuracy_ends(run)
    if ends and ends[0] is not ends[1]:
        parts.append(f"{ends[1].split} accuracy {_points(ends[1].accuracy - ends[0].accuracy)}")
    return _upper_first(", ".join(parts))


def speed_words(row: DeviceLatency) -> str:
    """Returns the latency after / before in words; a difference that the interval does not support is not claimed."""
    after = row.after
    if after is None or not after.ratio:
        return ""
    if after.ratio_low is not None and after.ratio_high is not None and after.ratio_low <= 1 <= after.ratio_high:
        return f"no measurable change of latency on {row.device}"
    words = {
        "measured": ("faster", "slower", "as fast"),
        "counted": ("fewer instructions", "more instructions", "as many instructions"),
        "estimated": ("faster by estimate", "slower by estimate", "as fast by estimate"),
    }
    return f"{times(after.ratio, *words[after.kind])} on {row.device}"


def summary_rows(run: RunFigures) -> list[SummaryRow]:
    """Returns the rows of the summary: sizes, accuracy, latency, and then whatever else the budget limits."""
    limits = {row.name: row for row in run.budget}
    rows = []
    for key, (name, unit) in SIZES.items():
        before, after = getattr(run.sizes.before, key), getattr(run.sizes.after, key)
        limit = limits.pop(key, None)
        if before is None and after is None and limit is None:
            continue
        row = SummaryRow(name, unit, show(before), show(after))
        if before and after is not None:
            row = replace(row, change=_percent(after / before - 1))
        rows.append(_judge(row, limit, "≤"))
    ends = accuracy_ends(run)
    limit = limits.pop("accuracy", None)
    if ends:
        row = SummaryRow(f"Accuracy, {ends[1].split}", "%", after=show(ends[1].accuracy))
        if ends[0] is not ends[1]:
            change = _points(ends[1].accuracy - ends[0].accuracy)
            row = replace(row, before=show(ends[0].accuracy), change=change)
        rows.append(_judge(row, limit, "≥"))
    elif limit:
        rows.append(_judge(SummaryRow("Accuracy", "%"), limit, "≥"))
    if limit := limits.pop("accuracy_drop", None):
        rows.append(_judge(SummaryRow("Accuracy lost", "points"), limit, "≤"))
    ratios = {device: name for name in limits if (device := latency_device(name))}
    for latency in device_latencies(run):
        rows.append(_latency_row(latency, limits.pop(ratios.pop(latency.device, ""), None)))
    for limit in limits.values():
        sign = "≤" if latency_device(limit.name) else "only" if limit.name == "operators" else ""
        rows.append(_judge(SummaryRow(_upper_first(_budget_title(limit))), limit, sign))
    return rows


def _latency_row(latency: DeviceLatency, limit: BudgetRow | None) -> SummaryRow:
    before, after = latency.before, latency.after
    kind = (after or before or Latency(model="")).kind
    name, unit = {"measured": ("Latency", "ms"), "counted": ("Instructions", "M"), "estimated": ("Bound", "ms")}[kind]
    row = SummaryRow(f"{name}, {latency.device}", unit, show(_cost(before)), show(_cost(after)))
    if after and after.ratio is not None:
        change = f"{show(after.ratio, 3)}×"
        if after.ratio_low is not None and after.ratio_high is not None:
            change += f" ({show(after.ratio_low, 3)}–{show(after.ratio_high, 3)})"
        row = replace(row, change=change)
    if limit is None:
        return row
    # The limit is on the ratio: the figures themselves stay what was measured.
    judged = _judge(row, limit, "≤")
    outcome: Outcome = "pass" if limit.passed else "fail"
    note = limit.note or ""
    if isinstance(limit.measured, int | float) and after and limit.measured not in (after.ratio, after.ratio_high):
        note = f"judged at {show(limit.measured)}×{'; ' + note if note else ''}"
    return replace(row, limit=f"{judged.limit}×", outcome=outcome, note=note)


def _cost(model: Latency | None) -> float | None:
    if model is None:
        return None
    if model.kind == "counted":
        return None if model.instructions is None else model.instructions / 1e6
    return model.p50_ms


def _judge(row: SummaryRow, limit: BudgetRow | None, sign: str) -> SummaryRow:
    """Adds the limit. What was judged is what is shown as "after", should the two differ."""
    if limit is None:
        return row
    measured, bound = show(limit.measured), show(limit.limit)
    if isinstance(limit.limit, tuple) and len(limit.limit) > _LISTED:
        bound = f"{len(limit.limit)} kinds"
    if isinstance(limit.measured, int | float) and isinstance(limit.limit, int | float) and not limit.passed:
        measured, bound = show_apart(limit.measured, limit.limit)
    note = limit.note or ""
    if limit.measured is None:
        measured = row.after
    elif row.after not in ("–", show(limit.measured)):
        note = f"measured before the check: {row.after}{'; ' + note if note else ''}"
    return replace(
        row,
        after=measured,
        limit=f"{sign} {bound}".strip() if limit.limit is not None else "–",
        outcome="pass" if limit.passed else "fail",
        note=note,
    )


def latency_device(name: str) -> str | None:
    """Returns the device that a budget row's name limits, e.g. ``host`` of ``latency_ratio.host``."""
    found = re.fullmatch(r"latency_ratio\W+(.+?)\W?", name)
    return found[1] if found else None


def _budget_title(row: BudgetRow) -> str:
    key, _, against = row.name.partition(" against ")
    if against:
        return f"{SIZES[key][0] if key in SIZES else key} against {against}"
    if row.name in SIZES:
        name = SIZES[row.name][0]
        return name if row.name == "macs" else name.lower()
    if device := latency_device(row.name):
        return f"latency on {device}"
    return {"accuracy_drop": "accuracy lost", "operators": "operators off the list"}.get(row.name, row.name)


def _upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]


def _percent(change: float) -> str:
    return f"{fixed(100 * change, 1, sign=True)} %"


def _points(difference: float) -> str:
    text = fixed(difference, 2, sign=True)
    return f"{text} points" if text.startswith(("+", MINUS)) else "unchanged"
