"""`compress unpack`: the ONNX file that was packed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compress.cli.options import Json, Output


def unpack(
    packed: Annotated[Path, typer.Argument(help="A file that `compress pack` wrote.")],
    output: Output,
    as_json: Json = False,
) -> None:
    """Unpack a packed ONNX file: the same bytes as before."""
    from compress.coding.verb import unpack_file
    from compress.console import print_json, print_line

    size = unpack_file(packed, output)
    if as_json:
        print_json({"path": str(output), "file_bytes": size})
    else:
        print_line(f"{output}: {size:,} bytes")
