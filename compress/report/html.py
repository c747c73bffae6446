"""The report of a run as one HTML page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from compress.report.markdown import BLOCKED_SHOWN
from compress.report.model import Latency, OperatorCost, RunFigures
from compress.report.page import render
from compress.report.plot import PLOTS, draw_plots
from compress.report.summary import device_latencies, lead, summary_rows, verdict
from compress.report.toml_text import toml_text

_NODES_SHOWN = 15


@dataclass(frozen=True)
class _Nodes:
    """The slowest nodes of one model."""

    model: Latency
    rows: tuple[OperatorCost, ...]
    left_out: int


def html_report(run: RunFigures) -> str:
    """Returns the page; the same bytes for the same figures."""
    outcome, line = verdict(run)
    blocked = sorted(run.rewrite.blocked, key=lambda entry: -entry.channels) if run.rewrite else []
    context: dict[str, Any] = {
        "run": run,
        "outcome": outcome,
        "verdict": line,
        "lead": lead(run),
        "rows": summary_rows(run),
        "nodes": _slowest_nodes(run),
        "blocked": blocked[:BLOCKED_SHOWN],
        "blocked_more": max(len(blocked) - BLOCKED_SHOWN, 0),
        "recipe": toml_text(run.recipe),
    }
    return render("report.html.jinja", draw_plots(PLOTS, run), context)


def _slowest_nodes(run: RunFigures) -> list[_Nodes]:
    models = [row.after or row.before for row in device_latencies(run)]
    return [
        _Nodes(model, tuple(sorted(model.operators, key=lambda row: -row.cost)[:_NODES_SHOWN]), more)
        for model in models
        if model and model.operators
        for more in [max(len(model.operators) - _NODES_SHOWN, 0)]
    ]
