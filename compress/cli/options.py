"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="The file to write.")]
RecipeFile = Annotated[Path, typer.Argument(help="A recipe (TOML).")]
Model = Annotated[Path, typer.Argument(help="An ONNX file.")]
Epsilon = Annotated[float | None, typer.Option(help="Weights below ε × the largest count as zero.")]
Exact = Annotated[bool, typer.Option(help="Only true zeros count.")]
