"""`compress check`: models against their budgets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from compress.cli.options import Json


def check(
    path: Annotated[Path, typer.Argument(help="A model, its folder, or a folder of such folders.")] = Path("export"),
    budget: Annotated[
        Path | None, typer.Option(help="Budget of every model there; default: budget.toml beside each.")
    ] = None,
    accept: Annotated[bool, typer.Option(help="Write baseline.json: later models must not be larger.")] = False,
    github: Annotated[bool, typer.Option(help="Print GitHub annotations too.")] = False,
    markdown: Annotated[Path | None, typer.Option(help="Write a Markdown summary here.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML here.")] = None,
    as_json: Json = False,
) -> None:
    """Hold the models of export/ against their budgets.

    Exit 1 if a limit is exceeded.
    """
    from compress.artifact import write_text
    from compress.check import accept as accept_models
    from compress.check import check as check_models
    from compress.check import output as check_output
    from compress.check.output import figure
    from compress.console import print_json, print_line, print_table
    from compress.recipe import load_budget

    for written in accept_models(path, every=budget is not None) if accept else ():
        sys.stderr.write(f"{written} written\n")
    result = check_models(path, load_budget(budget) if budget is not None else None)
    if markdown is not None:
        write_text(markdown, check_output.markdown(result))
    if junit is not None:
        write_text(junit, check_output.junit(result))
    if as_json:
        print_json(result.to_dict())
    else:
        rows = (
            (r.model, r.name, figure(r.measured), figure(r.limit), "ok" if r.passed else "FAIL", r.note)
            for r in result.rows
        )
        print_table("budget", ("model", "figure", "measured", "limit", "", "note"), rows)
        for row in result.violations:
            print_line(f"over budget: {check_output.sentence(row)}")
    if github:
        # GitHub reads both streams; stdout must stay JSON where that is asked for.
        (sys.stderr if as_json else sys.stdout).write(check_output.github_annotations(result, budget))
    raise typer.Exit(result.exit_code)
