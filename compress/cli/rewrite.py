"""`compress rewrite`: dead channels leave an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compress.cli.options import Epsilon, Exact, Json, Model, Output, RoundTo, Stripes, Target
from compress.cli.rewriting import rewrite_settings


def rewrite(
    model: Model,
    output: Output,
    epsilon: Epsilon = None,
    exact: Exact = False,
    round_to: RoundTo = "none",
    target: Target = None,
    stripes: Stripes = "auto",
    tolerance: Annotated[float, typer.Option(help="Largest relative difference of outputs.")] = 1e-5,
    inputs: Annotated[Path | None, typer.Option(help=".npz of real inputs, by name, to compare on too.")] = None,
    as_json: Json = False,
) -> None:
    """Remove dead channels from an ONNX file, with proof.

    By default all that can go goes. Some counts of channels run faster than a few fewer: --round-to keeps dead
    channels for that.
    """
    from compress.onnx_io.runtime import prepare_runtime

    # The process that the proof needs starts while the rest is imported here.
    prepare_runtime()
    from compress.console import print_json, print_line, print_table, working
    from compress.rewrite import rewrite_file

    settings = rewrite_settings(epsilon, exact, round_to, target, stripes, tolerance=tolerance)
    measure = None
    if settings.round_to == "auto" and target is None:
        from compress.pipeline.measuring import latencies
        from compress.recipe import ProfileSettings

        measure = latencies(ProfileSettings())
    with working("rewriting"):
        result = rewrite_file(model, output, settings, inputs=inputs, measure=measure)
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
    rounding = result.rounding
    if rounding.tried:
        tried = (
            (one.round_to, f"{one.file_bytes:,}", f"{one.ratio:.3f} ({one.low:.3f}–{one.high:.3f})")
            for one in rounding.tried
        )
        columns = ("round to", "file bytes", f"latency over that of {rounding.reference} (95 %)")
        print_table("rounding, measured", columns, tried)
    if rounding.asked != "none":
        place = f" for {rounding.target}" if rounding.target else ""
        print_line(f"rounded to {rounding.used}{place}: {rounding.why}")
    if rounding.uncertain:
        print_line("not settled by measuring: " + "; ".join(rounding.uncertain))
    for note in result.notes:
        print_line(f"  {note}")
    if result.blocked:
        stay: dict[str, int] = {}
        for row in result.blocked:
            stay[row.reason] = stay.get(row.reason, 0) + row.channels
        print_table(
            "constant and unread channels that stay", ("channels", "why"), ((n, why) for why, n in stay.items())
        )
        print_line("where, and what keeps them: compress explain, or --json")
