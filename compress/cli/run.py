"""`compress run`: a recipe, from training to report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compress.cli.options import Json, RecipeFile
from compress.cli.requirements import require_recipe, require_torch


def run(
    recipe: RecipeFile,
    folder: Annotated[Path | None, typer.Option(help="Run folder; default: runs/NAME.")] = None,
    export: Annotated[Path, typer.Option(help="Where artefacts are published.")] = Path("export"),
    as_json: Json = False,
) -> None:
    """Run a recipe from training to report, or what has changed of it.

    Train, prune, compact, retrain, export, rewrite, quantize, profile, check, report.
    Interrupted, the same command goes on; unchanged, it does nothing.
    """
    require_torch()
    require_recipe(recipe)
    from compress.console import TerminalReporter, print_json, print_line, results
    from compress.pipeline import run as run_recipe
    from compress.report import terminal_table

    with TerminalReporter() as reporter:
        result = run_recipe(recipe, folder, export=export, reporter=reporter)
    if as_json:
        print_json(result.figures.to_dict())
    else:
        results().print(terminal_table(result.figures))
        print_line(f"report: {result.report}\nmodel:  {result.model}")
    raise typer.Exit(result.check.exit_code if result.check else 0)
