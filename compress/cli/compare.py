"""`compress compare`: several methods at the same budgets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from compress.cli.options import Json, RecipeFile
from compress.cli.requirements import require_recipe, require_torch
from compress.errors import CompressError

_FAILED = 1
Number = TypeVar("Number", int, float)


def compare(
    recipe: RecipeFile,
    methods: Annotated[
        str,
        typer.Option(
            metavar="A,B,…",
            help="Each [REGULARIZER+]METHOD[/SCHEDULE], knobs as NAME:KNOB=VALUE; see `compress methods`. E.g. "
            "fpgm,hsq-gl12:strength=1e-5+backward-selection,filter-l1/iterative:rounds=3",
        ),
    ],
    ratios: Annotated[str, typer.Option(metavar="R,R,…", help="Shares of the cost that go.")] = "0.5",
    seeds: Annotated[str | None, typer.Option(metavar="N,N,…", help="Default: the recipe's.")] = None,
    budget_by: Annotated[
        str | None, typer.Option(metavar="params|macs", help="The cost; default: the recipe's [prune] of.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; default: runs/NAME-comparison.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
    as_json: Json = False,
) -> None:
    """Compare pruning methods at the same budgets.

    Accuracy with its interval over seeds, kept parameters and MACs, bytes, seconds; a table and plots.
    Interrupted, the same command goes on; methods, ratios and seeds can be added. Exit 1 if a method failed.
    """
    require_torch()
    require_recipe(recipe)
    from compress.console import TerminalReporter, print_json, print_line, results
    from compress.pipeline.comparing import compare as compare_methods
    from compress.report.comparison import markdown_comparison, terminal_comparison

    given = _numbers(ratios, float, "--ratios"), _numbers(seeds, int, "--seeds") if seeds is not None else None
    with TerminalReporter() as reporter:
        result = compare_methods(recipe, methods, *given, budget_by=budget_by, folder=out, reporter=reporter)
    figures = result.figures
    if as_json:
        print_json(figures.to_dict())
    elif markdown:
        print_line(markdown_comparison(figures, whole=False).rstrip())
    else:
        results().print(terminal_comparison(figures))
        for entry in figures.entries:
            for failure in entry.failures:
                print_line(f"{entry.method}, seed {failure.seed}: {failure.reason}")
        print_line(f"report: {result.paths.html}")
    raise typer.Exit(_FAILED if figures.failed else 0)


def _numbers(text: str, kind: Callable[[str], Number], option: str) -> list[Number]:
    try:
        return [kind(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise CompressError(f"{option} is not a list of numbers", got=text, allowed="e.g. 0.3,0.5 or 0,1,2") from None
