"""The summary as a table in the terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from compress.report.model import RunFigures
from compress.report.summary import summary_rows, verdict
from compress.report.wording import shorten

_WORDS = {"pass": ("pass", "green"), "fail": ("FAIL", "bold red"), "none": ("–", "dim")}


def terminal_table(run: RunFigures) -> Table:
    """Returns before, after, change, budget and result of each row, with the verdict below.

    Names are shown as they are: what looks like markup in them is not markup.
    """
    outcome, line = verdict(run)
    rows = summary_rows(run)
    form = run.deployable.format if run.deployable is not None else "none"
    stored = f", stored as {form}" if form != "none" else ""
    table = Table(
        title=Text(shorten(run.name, 60) + stored, style="bold"),
        title_justify="left",
        caption=Text(line, style=_WORDS[outcome][1]),
        caption_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        show_header=bool(rows),
    )
    table.add_column("")
    for heading in ("before", "after", "change", "budget"):
        table.add_column(heading, justify="right")
    table.add_column("result")
    for row in rows:
        word, style = _WORDS[row.outcome]
        cells = [row.title, row.before, row.after, row.change, row.limit]
        table.add_row(*(Text(cell) for cell in cells), Text(word, style=style))
    return table
