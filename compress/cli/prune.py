"""`compress prune`: channels of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compress.cli.options import Json, Output
from compress.cli.requirements import require_torch


def prune(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint (safetensors).")],
    output: Output,
    recipe: Annotated[
        Path | None, typer.Option(help="Recipe that says what goes, and brings data; options here take precedence.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="Criterion or search; see `compress methods`.")] = None,
    ratio: Annotated[float | None, typer.Option(help="Share of the cost that goes; default: 0.5.")] = None,
    of: Annotated[str | None, typer.Option(help="The cost: macs (default), parameters or channels.")] = None,
    scope: Annotated[
        str | None, typer.Option(help="The same share a layer (layer, default), or one ranking (global).")
    ] = None,
    plan: Annotated[Path | None, typer.Option(help="Write the plan here too.")] = None,
    as_json: Json = False,
) -> None:
    """Prune a checkpoint and cut the pruned channels out."""
    require_torch()
    from compress.console import TerminalReporter, print_json, print_table
    from compress.pipeline.standalone import prune_file

    given = {"method": method, "ratio": ratio, "of": of, "scope": scope}
    settings = {name: value for name, value in given.items() if value is not None}
    with TerminalReporter() as reporter:
        reporter.stage("prune", "running")
        summary = prune_file(checkpoint, output, settings, recipe_path=recipe, plan_path=plan, reporter=reporter)
        reporter.stage("prune", "done")
    if as_json:
        print_json({"path": str(output), **summary})
        return
    before, after = summary["cost_before"], summary["cost_after"]
    rows = [(name, f"{before[name]:,}", f"{after[name]:,}", f"{after[name] / before[name]:.1%}") for name in before]
    print_table(str(output), ("", "before", "after", "kept"), rows)
