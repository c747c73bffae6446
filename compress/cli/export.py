"""`compress export`: a checkpoint becomes an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compress.cli.options import Json, Output
from compress.cli.requirements import require_torch
from compress.errors import CompressError


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint (safetensors).")],
    output: Output,
    network: Annotated[str | None, typer.Option(help="For weights from elsewhere: name or path.py:factory.")] = None,
    input_shape: Annotated[str | None, typer.Option(help="For weights from elsewhere: C,H,W.")] = None,
    opset: Annotated[int, typer.Option(help="Version of the ONNX operators.")] = 18,
    fixed_batch: Annotated[bool, typer.Option(help="Fix the batch size to 1.")] = False,
    as_json: Json = False,
) -> None:
    """Export a checkpoint as ONNX, checked against torch."""
    require_torch()
    from compress.console import print_json, print_line, working
    from compress.pipeline.standalone import export_file
    from compress.recipe import OPTIONS, ExportSettings, validate

    settings = validate({"opset": opset, "dynamic_batch": not fixed_batch}, ExportSettings, OPTIONS)
    shape = _shape(input_shape) if input_shape is not None else None
    with working("exporting"):
        figures = export_file(checkpoint, output, settings, network=network, input_shape=shape)
    if as_json:
        print_json(figures)
    else:
        print_line(f"{output}: {figures['file_bytes']:,} bytes, within {figures['max_abs_diff']:.2g} of torch")


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError:
        raise CompressError("--input-shape is not a list of sizes", got=text, allowed="e.g. 3,32,32") from None
