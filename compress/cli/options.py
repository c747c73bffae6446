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
RoundTo = Annotated[
    str,
    typer.Option(
        metavar="none|N|auto|all",
        help="Which dead channels stay because that is faster: none; as many as make a multiple of N; what is fastest "
        "on this machine, measured, or what is known of --target; all.",
    ),
]
Target = Annotated[
    str | None, typer.Option(help="With --round-to auto: x86 or arm, without measuring. Default: this machine.")
]
