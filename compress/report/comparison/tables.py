"""A comparison as Markdown, and as a table in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.report.comparison.model import ComparisonFigures
from compress.report.comparison.rows import ACCURACY, BRIEF_HEAD, HEAD, rows, verdict
from compress.report.markdown import escape, machine_value, recipe_block, table

if TYPE_CHECKING:
    from rich.table import Table

EXPLAINED = (
    "Accuracy on the test images: mean over seeds and 95 % interval (Student's t). Nothing was chosen by it. "
    "Difference: points to the first method at the same budget, paired by seed. Files are float32 ONNX. Time without "
    "the training that all methods share."
)


def markdown_comparison(figures: ComparisonFigures, *, whole: bool = True) -> str:
    """Returns a comparison as Markdown.

    Args:
        figures: of the comparison.
        whole: with machine and recipe; else the table and the reasons alone.
    """
    found = rows(figures)
    cells = []
    for row in found:
        texts = [escape(cell) for cell in row.cells]
        cells.append([f"**{text}**" if row.best and place == ACCURACY else text for place, text in enumerate(texts)])
    parts = [f"# {escape(figures.name)}", f"**{escape(verdict(figures))}**"] if whole else []
    parts += [table(HEAD, cells), EXPLAINED]
    reasons = [f"- {escape(row.cells[0])}, {escape(reason)}" for row in found for reason in row.reasons]
    if reasons:
        parts += ["Networks that could not be made:", "\n".join(reasons)]
    if whole and figures.machine:
        machine = [[escape(key), escape(machine_value(value))] for key, value in figures.machine.items()]
        parts += ["## Machine", table(["", ""], machine)]
    if whole and figures.recipe:
        parts += ["## Recipe", recipe_block(figures.recipe)]
    return "\n\n".join(parts) + "\n"


def terminal_comparison(figures: ComparisonFigures) -> Table:
    """Returns the rows as a table; names are shown as they are, whatever looks like markup in them."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    drawn = Table(
        title=Text(f"{figures.name}: what is kept of the parameters and MACs", style="bold"),
        title_justify="left",
        caption=Text(verdict(figures), style="bold red" if figures.failed else ""),
        caption_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    drawn.add_column(BRIEF_HEAD[0], overflow="fold")
    for heading in BRIEF_HEAD[1:]:
        drawn.add_column(heading, justify="right", no_wrap=True)
    for row in rows(figures):
        bold = ACCURACY if row.best else -1
        drawn.add_row(*(Text(text, style="bold" if place == bold else "") for place, text in enumerate(row.brief)))
    return drawn
