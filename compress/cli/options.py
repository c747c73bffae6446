"""Arguments and options that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from compress.errors import CompressError

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
    str | None,
    typer.Option(
        help="With --round-to auto: x86, arm, or a calibrated device, without measuring. Default: this machine."
    ),
]
Stripes = Annotated[
    str,
    typer.Option(
        metavar="auto|int8|always|never",
        help="Whether kernels with stripes or columns of zeros become sums of smaller convolutions: where that is "
        "known to be faster; where it will be in int8; wherever it takes fewer MACs; never.",
    ),
]


def tell_on_stderr(text: str) -> None:
    """Tells the user a line that is no result."""
    sys.stderr.write(text + "\n")


def knobs(options: Sequence[str]) -> dict[str, Any]:
    """Reads knobs as a recipe's `options` would hold them.

    Args:
        options: ``NAME=VALUE`` each, the value in TOML; a bare word is text.

    Raises:
        CompressError: if one has no value.
    """
    from compress.options import toml_value

    found = {}
    for option in options:
        name, separator, value = option.partition("=")
        if not separator or not name:
            raise CompressError(f"--option {option!r} has no value", allowed="NAME=VALUE")
        found[name] = toml_value(value)
    return found
