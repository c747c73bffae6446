"""`compress report`: the report of a run or a comparison, again, or of several runs together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compress.cli.options import Json
from compress.errors import CompressError

if TYPE_CHECKING:
    from compress.report import ReportPaths
    from compress.report.comparison import ComparisonPaths

_RUN, _COMPARISON = "report.json", "comparison.json"


def report(
    sources: Annotated[
        list[Path], typer.Argument(help="A run folder or its report.json, or a comparison's; or several runs.")
    ],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder to write to.")] = None,
    as_json: Json = False,
) -> None:
    """Write the report of a run again, or one page of several runs.

    JSON, Markdown, and one HTML page with everything inside. Several runs are shown beside each other: accuracy over
    what is kept, channels by layer.
    """
    from compress.console import print_json, print_line

    paths = _one(sources[0], output) if len(sources) == 1 else _several(sources, output)
    if as_json:
        print_json(vars(paths))
    else:
        for value in vars(paths).values():
            for path in value if isinstance(value, tuple) else (value,):
                print_line(str(path))


def _one(source: Path, output: Path | None) -> ReportPaths | ComparisonPaths:
    from compress.artifact import read_json, require_file
    from compress.report import RunFigures, write_report
    from compress.report.comparison import ComparisonFigures, write_comparison

    if (source / _COMPARISON).is_file() or source.name == _COMPARISON:
        path = require_file(source / _COMPARISON if source.is_dir() else source, "comparison")
        return write_comparison(ComparisonFigures.from_dict(read_json(path)), output or path.parent)
    path = require_file(source / _RUN if source.is_dir() else source, "report")
    return write_report(RunFigures.from_dict(read_json(path)), output or path.parent)


def _several(sources: list[Path], output: Path | None) -> ComparisonPaths:
    from compress.artifact import read_json, require_file
    from compress.report import RunFigures
    from compress.report.comparison import comparison_of, write_comparison

    if output is None:
        raise CompressError("a page of several runs needs a folder", next_step="give it with --output")
    paths = [require_file(source / _RUN if source.is_dir() else source, "report") for source in sources]
    return write_comparison(comparison_of([RunFigures.from_dict(read_json(path)) for path in paths]), output)
