"""Reports as tables, for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compress.profiling.device import SIGNS
from compress.profiling.profile_report import ProfileReport


@dataclass(frozen=True)
class Table:
    """A table of text; None is an empty cell."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]


def models(reports: Sequence[ProfileReport]) -> Table:
    """Returns one row a model. What a device does not know has no column, nor have outputs that do not differ."""
    first = reports[0]
    columns: dict[str, list[str | None]] = {
        "model": [report.model for report in reports],
        _cost_name(first): [cost(report.p50) for report in reports],
        "ratio (95 %)" if first.kind == "measured" else "ratio": [_against(report) for report in reports],
        "load ms": [None if r.load_ms is None else f"{r.load_ms:.1f}" for r in reports],
        "peak MiB": [_mebibytes(report.peak_rss_bytes) for report in reports],
        "activations KiB": [None if r.arena_bytes is None else f"{r.arena_bytes / 2**10:,.0f}" for r in reports],
        "outputs differ by": [f"{r.parity:.1e}" if r.parity else None for r in reports],
        "file bytes": [f"{report.file_bytes:,}" for report in reports],
    }
    shown = {name: cells for name, cells in columns.items() if any(cell is not None for cell in cells)}
    title = f"{first.device}, {first.runtime}, {first.threads} thread(s)"
    return Table(title, tuple(shown), tuple(zip(*shown.values(), strict=True)))


def operators(report: ProfileReport, most: int) -> Table:
    """Returns the costliest operators of a model."""
    rows = tuple((row.operator, row.node, cost(row.cost), f"{row.share:.1%}") for row in report.operators[:most])
    return Table(report.model, ("operator", "node", SIGNS[report.unit], "share"), rows)


def markdown(reports: Sequence[ProfileReport], tables: Sequence[Table]) -> str:
    """Returns tables, and what must be known besides, as Markdown."""
    lines = []
    for table in tables:
        lines += [f"### {_cell(table.title)}", ""]
        lines += ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
        lines += ["| " + " | ".join(_cell(cell or "") for cell in row) + " |" for row in table.rows]
        lines.append("")
    lines += [f"- {_cell(note)}" for note in dict.fromkeys(note for report in reports for note in report.notes)]
    return "\n".join(lines).rstrip() + "\n"


def cost(value: float) -> str:
    """Returns a cost in three digits at least, and no more than can be meant."""
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _cost_name(report: ProfileReport) -> str:
    if report.kind == "measured":
        return f"p50 {SIGNS[report.unit]}"
    return f"{SIGNS[report.unit]}, at least" if report.kind == "estimated" else SIGNS[report.unit]


def _against(report: ProfileReport) -> str:
    ratio = report.ratio
    if ratio is None:
        return "1"
    interval = "" if report.kind == "counted" else f" ({ratio.low:.3f}–{ratio.high:.3f})"
    return f"{ratio.ratio:.3f}{interval} {ratio.verdict}"


def _mebibytes(count: int | None) -> str | None:
    return None if count is None else f"{count / 2**20:.0f}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
