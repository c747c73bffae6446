"""`compress quantize`: an ONNX file in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compress.cli.options import Json, Output, knobs


def quantize(
    model: Annotated[Path, typer.Argument(help="A float32 ONNX file.")],
    output: Output,
    recipe: Annotated[Path | None, typer.Option(help="Recipe whose training images calibrate.")] = None,
    inputs: Annotated[Path | None, typer.Option(help=".npz whose first array [N, …] calibrates.")] = None,
    format_name: Annotated[str, typer.Option("--format", help="A format; see `compress methods`.")] = "int8",
    option: Annotated[list[str] | None, typer.Option(help="A knob of the format, NAME=VALUE; repeatable.")] = None,
    samples: Annotated[int, typer.Option(help="How many images calibrate.")] = 256,
    as_json: Json = False,
) -> None:
    """Write an ONNX file in another format.

    Formats that calibrate do so on real inputs.
    """
    from compress.console import print_json, print_line, working
    from compress.pipeline.standalone import quantize_file
    from compress.recipe import OPTIONS, QuantizeSettings, validate

    given = {"format": format_name, "samples": samples, "options": knobs(option or [])}
    settings = validate(given, QuantizeSettings, OPTIONS)
    with working("quantizing"):
        figures = quantize_file(model, output, settings, recipe_path=recipe, inputs=inputs)
    if as_json:
        print_json(figures)
        return
    print_line(f"{output}: {figures['file_bytes_before']:,} → {figures['file_bytes_after']:,} bytes")
    if "test_accuracy_before" in figures:
        before, after = figures["test_accuracy_before"], figures["test_accuracy_after"]
        print_line(f"test accuracy {before:.2f} → {after:.2f} %")
