"""`compress rewrite`: dead channels leave an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from compress.cli.options import Epsilon, Exact, Json, Model, Output


def rewrite(
    model: Model,
    output: Output,
    epsilon: Epsilon = None,
    exact: Exact = False,
    round_to: Annotated[int, typer.Option(help="Keep multiples of this many channels; 8 or 16 suit x86.")] = 1,
    tolerance: Annotated[float, typer.Option(help="Largest relative difference of outputs.")] = 1e-5,
    inputs: Annotated[Path | None, typer.Option(help=".npz of real inputs, by name, to compare on too.")] = None,
    as_json: Json = False,
) -> None:
    """Remove dead channels from an ONNX file, with proof."""
    from compress.console import print_json, print_line, print_table, working
    from compress.recipe import RewriteSettings, validate
    from compress.rewrite import rewrite_file

    given: dict[str, Any] = {"tolerance": tolerance, "round_to": round_to}
    if exact or epsilon is not None:
        given["epsilon"] = 0.0 if exact else epsilon
    with working("rewriting"):
        result = rewrite_file(model, output, validate(given, RewriteSettings, "options"), inputs=inputs)
    if as_json:
        print_json(result.to_dict())
        return
    figures = result.to_dict()
    rows = [
        (label, f"{figures[f'{key}_before']:,}", f"{figures[f'{key}_after']:,}")
        for label, key in (("parameters", "params"), ("MACs", "macs"), ("file bytes", "file_bytes"))
    ]
    print_table(str(output), ("", "before", "after"), rows)
    proof = f"outputs within {result.max_abs_diff:.2g}" if result.proven else "not proven: the original is kept"
    if result.samples is not None:
        proof += f", within {result.samples_abs_diff:.2g} on {result.samples} samples"
    print_line(f"{result.channels_removed} channels removed, {proof}, {result.seconds:.1f} s")
    for note in result.notes:
        print_line(f"  {note}")
    if result.blocked:
        columns = ("tensor", "channels", "why they stay")
        reasons = ((b.tensor, b.channels, f"{b.reason} ({b.node})" if b.node else b.reason) for b in result.blocked)
        print_table("constant channels that stay", columns, reasons)
