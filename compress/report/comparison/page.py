"""A comparison as one HTML page, and its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compress import artifact
from compress.report.comparison.model import ComparisonFigures
from compress.report.comparison.rows import HEAD, rows, verdict
from compress.report.comparison.tables import EXPLAINED, markdown_comparison
from compress.report.page import render
from compress.report.plot import COMPARISON_PLOTS, Plot, draw_plots
from compress.report.svg_file import svg_document
from compress.report.toml_text import toml_text


@dataclass(frozen=True)
class ComparisonPaths:
    """Where a comparison was written."""

    json: Path
    markdown: Path
    html: Path
    plots: tuple[Path, ...]


def html_comparison(figures: ComparisonFigures) -> str:
    """Returns the page; the same bytes for the same figures."""
    return _html(figures, draw_plots(COMPARISON_PLOTS, figures))


def _html(figures: ComparisonFigures, plots: Sequence[tuple[str, Plot]]) -> str:
    return render(
        "comparison.html.jinja",
        plots,
        {
            "figures": figures,
            "verdict": verdict(figures),
            "head": HEAD,
            "rows": rows(figures),
            "explained": EXPLAINED,
            "recipe": toml_text(figures.recipe),
        },
    )


def write_comparison(figures: ComparisonFigures, folder: Path) -> ComparisonPaths:
    """Writes `comparison.json`, `comparison.md`, `comparison.html`, and each plot as `comparison-<name>.svg`.

    Each file appears complete or not at all.

    Raises:
        MachineError: if the folder cannot be written.
    """
    plots = draw_plots(COMPARISON_PLOTS, figures)
    drawn = {folder / f"comparison-{name}.svg": svg_document(plot) for name, plot in plots}
    json, md, page = (folder / f"comparison.{kind}" for kind in ("json", "md", "html"))
    paths = ComparisonPaths(json, md, page, tuple(drawn))
    # Everything is rendered before anything is written: the files are of one comparison.
    markdown, html = markdown_comparison(figures), _html(figures, plots)
    artifact.write_json(paths.json, figures.to_dict())
    artifact.write_text(paths.markdown, markdown)
    artifact.write_text(paths.html, html)
    for path, text in drawn.items():
        artifact.write_text(path, text)
    return paths
