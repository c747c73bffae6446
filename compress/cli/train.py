"""`compress train`: the network of a recipe."""

from __future__ import annotations

from compress.cli.options import Json, Output, RecipeFile
from compress.cli.requirements import require_recipe, require_torch


def train(recipe: RecipeFile, output: Output, as_json: Json = False) -> None:
    """Train the network of a recipe. Interrupted, the same command goes on."""
    require_torch()
    require_recipe(recipe)
    from compress.console import TerminalReporter, print_json, print_line
    from compress.pipeline.standalone import train_file

    with TerminalReporter() as reporter:
        reporter.stage("train", "running")
        figures = train_file(recipe, output, reporter=reporter)
        reporter.stage("train", "done")
    if as_json:
        print_json({"path": str(output), **figures})
    else:
        print_line(f"{output}: {figures['parameters']:,} parameters, test accuracy {figures['test_accuracy']:.2f} %")
