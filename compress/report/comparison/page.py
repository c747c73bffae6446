"""A comparison as one HTML page, and its three files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compress import artifact
from compress.report.comparison.model import ComparisonFigures
from compress.report.comparison.rows import HEAD, rows, verdict
from compress.report.comparison.tables import EXPLAINED, markdown_comparison
from compress.report.page import render
from compress.report.plot import COMPARISON_PLOTS, draw_plots
from compress.report.toml_text import toml_text


@dataclass(frozen=True)
class ComparisonPaths:
    """Where a comparison was written."""

    json: Path
    markdown: Path
    html: Path


def html_comparison(figures: ComparisonFigures) -> str:
    """Returns the page; the same bytes for the same figures."""
    return render(
        "comparison.html.jinja",
        draw_plots(COMPARISON_PLOTS, figures),
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
    """Writes `comparison.json`, `comparison.md` and `comparison.html`, each complete or not at all.

    Raises:
        MachineError: if the folder cannot be written.
    """
    paths = ComparisonPaths(*(folder / f"comparison.{kind}" for kind in ("json", "md", "html")))
    # Everything is rendered before anything is written: the three files are of one comparison.
    markdown, html = markdown_comparison(figures), html_comparison(figures)
    artifact.write_json(paths.json, figures.to_dict())
    artifact.write_text(paths.markdown, markdown)
    artifact.write_text(paths.html, html)
    return paths
