"""The report as Markdown, for pull requests and job summaries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from compress.report.model import RunFigures
from compress.report.summary import lead, summary_rows, verdict
from compress.report.toml_text import toml_text
from compress.report.wording import show

_SIGNS = {"pass": "✅ pass", "fail": "❌ FAIL", "none": "–"}
BLOCKED_SHOWN = 20


def markdown_table(run: RunFigures) -> str:
    """Returns the summary as a Markdown table, without a heading."""
    rows = [[row.title, row.before, row.after, row.change, row.limit, _SIGNS[row.outcome]] for row in summary_rows(run)]
    return _table(["", "before", "after", "change", "budget", "result"], rows) if rows else ""


def markdown_report(run: RunFigures) -> str:
    """Returns the whole report as Markdown."""
    outcome, line = verdict(run)
    sign = {"pass": "✅ ", "fail": "❌ ", "none": ""}[outcome]
    parts = [f"# {escape(run.name)}", f"**{sign}{escape(line)}**", escape(lead(run)), markdown_table(run)]
    parts += [f"- {escape(row.title)}: {escape(row.note)}" for row in summary_rows(run) if row.note]
    if run.deployable:
        parts.append(f"Deployable model: {_code(run.deployable.path)}{_suffix(run.deployable.format)}")
        if run.deployable.sha256:
            parts.append(f"SHA-256: {_code(run.deployable.sha256)}")
    if run.accuracies:
        rows = [[entry.stage, entry.split, show(entry.accuracy)] for entry in run.accuracies]
        parts += ["## Accuracy", _table(["stage", "split", "accuracy (%)"], rows)]
    if run.latency:
        parts += ["## Latency", _latency_table(run)]
    if run.channels:
        rows = [[entry.layer, show(entry.group), show(entry.before), show(entry.kept)] for entry in run.channels]
        parts += ["## Channels", _table(["layer", "group", "before", "kept"], rows)]
    parts += _rewrite(run)
    if run.stages:
        rows = [[entry.name, entry.status, show(entry.seconds), figures_line(entry.figures)] for entry in run.stages]
        parts += ["## Stages", _table(["stage", "status", "seconds", "figures"], rows)]
    machine = dict(run.machine) | ({"seed": run.seed} if run.seed is not None else {})
    if machine:
        rows = [[key, machine_value(value)] for key, value in machine.items()]
        parts += ["## Machine", _table(["", ""], rows)]
    if run.recipe:
        parts += ["## Recipe", recipe_block(run.recipe)]
    if run.notes:
        parts += ["## Notes", "\n".join(f"- {escape(note)}" for note in run.notes)]
    return "\n\n".join(part for part in parts if part) + "\n"


def figures_line(figures: dict[str, object]) -> str:
    """Returns a stage's own figures on one line."""
    return ", ".join(f"{key.replace('_', ' ')} {machine_value(value)}" for key, value in figures.items())


def machine_value(value: object) -> str:
    """Returns a value of a free table: text as it is, numbers shown, tables on one line."""
    return figures_line(value) if isinstance(value, dict) else show(value)


def _latency_table(run: RunFigures) -> str:
    head = ["model", "device", "p50 (ms)", "p90 (ms)", "ratio", "interval", "verdict", "load (ms)", "peak RSS (bytes)"]
    rows = []
    for entry in run.latency:
        interval = f"{show(entry.ratio_low)}–{show(entry.ratio_high)}" if entry.ratio_low is not None else "–"
        figures, costs = [entry.p90_ms, entry.ratio], [entry.load_ms, entry.peak_rss_bytes]
        first = f"{show(entry.instructions)} instructions" if entry.kind == "counted" else show(entry.p50_ms)
        rows.append(
            [entry.model, entry.device, first, *map(show, figures), interval, entry.verdict or "–", *map(show, costs)]
        )
    return _table(head, rows)


def _rewrite(run: RunFigures) -> list[str]:
    rewrite = run.rewrite
    if rewrite is None:
        return []
    rows = [
        [name, show(getattr(rewrite, f"{key}_before")), show(getattr(rewrite, f"{key}_after"))]
        for name, key in (("Parameters", "params"), ("Multiply-accumulates", "macs"), ("File (bytes)", "file_bytes"))
        if getattr(rewrite, f"{key}_before") is not None or getattr(rewrite, f"{key}_after") is not None
    ]
    parts = ["## Rewrite"]
    if rows:
        parts.append(_table(["", "before", "after"], rows))
    facts = {
        "channels removed": rewrite.channels_removed,
        "largest difference of the outputs": rewrite.max_abs_diff,
        "seconds": rewrite.seconds,
    }
    parts.append("\n".join(f"- {name}: {show(value)}" for name, value in facts.items() if value is not None))
    if rewrite.blocked:
        blocked = sorted(rewrite.blocked, key=lambda entry: -entry.channels)
        cells = [[entry.tensor, entry.op, entry.node, show(entry.channels), entry.reason] for entry in blocked]
        parts.append("Dead channels that had to stay:")
        parts.append(_table(["tensor", "operator", "node", "channels", "reason"], cells[:BLOCKED_SHOWN]))
        if len(cells) > BLOCKED_SHOWN:
            parts.append(f"{len(cells) - BLOCKED_SHOWN} more stand in report.json.")
    return parts


def recipe_block(recipe: Mapping[str, Any]) -> str:
    """Returns a recipe as a block of code."""
    text = toml_text(recipe)
    fence = "`" * max(3, 1 + max((len(ticks) for ticks in re.findall("`+", text)), default=0))
    return f"{fence}toml\n{text}\n{fence}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return table(head, ([escape(cell) for cell in row] for row in rows))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table of cells that are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape(text: str) -> str:
    """Makes text stand for itself, in a table too."""
    escaped = re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("\\<", "&lt;").replace("\\>", "&gt;")


def _code(text: str) -> str:
    flat = " ".join(text.split())
    fence = "`" * (1 + max((len(ticks) for ticks in re.findall("`+", flat)), default=0))
    pad = " " if "`" in flat else ""
    return f"{fence}{pad}{flat}{pad}{fence}"


def _suffix(text: str | None) -> str:
    return f" ({escape(text)})" if text else ""
