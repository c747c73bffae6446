"""`compress report`: the report of a run, again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compress.cli.options import Json


def report(
    source: Annotated[Path, typer.Argument(help="A run folder, or its report.json.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder to write to.")] = None,
    as_json: Json = False,
) -> None:
    """Write the report of a run again.

    JSON, Markdown, and one HTML page with everything inside.
    """
    from compress.artifact import read_json, require_file
    from compress.console import print_json, print_line
    from compress.report import RunFigures, write_report

    path = require_file(source / "report.json" if source.is_dir() else source, "report")
    paths = write_report(RunFigures.from_dict(read_json(path)), output or path.parent)
    if as_json:
        print_json({name: str(value) for name, value in vars(paths).items()})
    else:
        print_line("\n".join(str(value) for value in vars(paths).values()))
