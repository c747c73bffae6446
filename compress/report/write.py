"""Writes the report of a run into a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compress import artifact
from compress.report.html import html_report
from compress.report.markdown import markdown_report
from compress.report.model import RunFigures


@dataclass(frozen=True)
class ReportPaths:
    """Where the report was written."""

    json: Path
    markdown: Path
    html: Path


def write_report(run: RunFigures, folder: Path) -> ReportPaths:
    """Writes `report.json`, `report.md` and `report.html`, each complete or not at all.

    Args:
        run: the figures; `report.json` holds all of them and is read back by `RunFigures.from_dict`.
        folder: made if it is missing; an earlier report in it is replaced.

    Raises:
        MachineError: if the folder cannot be written.
    """
    paths = ReportPaths(folder / "report.json", folder / "report.md", folder / "report.html")
    # Everything is rendered before anything is written: the three files are of one run.
    markdown, html = markdown_report(run), html_report(run)
    artifact.write_json(paths.json, run.to_dict())
    artifact.write_text(paths.markdown, markdown)
    artifact.write_text(paths.html, html)
    return paths
