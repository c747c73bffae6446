"""`compress bundle`: what goes onto a board that has no Python."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from compress.cli.options import Json, tell_on_stderr


def bundle(
    model: Annotated[Path, typer.Argument(help="ONNX file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to make.")],
    target: Annotated[str, typer.Option(help="Architecture of the board, as `uname -m` says there.")] = "aarch64",
    as_json: Json = False,
) -> None:
    """Put a model and all that runs it into a folder for a board.

    Loader, libraries, ONNX Runtime and a small runner: the board needs neither Python nor anything else.
    """
    from compress.console import print_json, print_line
    from compress.profiling.bundle import bundle as make

    made = make(model, target, output, tell_on_stderr)
    if as_json:
        print_json({**asdict(made), "folder": str(made.folder)})
        return
    print_line(f"{made.folder}: {made.total_bytes:,} bytes for {made.target}, {made.runtime}")
    print_line(f"on the board: {made.folder.name}/run.sh; what it prints: {made.folder.name}/README.txt")
