"""`compress profile`: latency, load time and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compress.cli.options import Json


def profile(
    models: Annotated[list[Path], typer.Argument(help="ONNX files; the first is what the others are compared to.")],
    device: Annotated[str, typer.Option(help="Where.")] = "host",
    runs: Annotated[int, typer.Option(help="Runs a block.")] = 10,
    blocks: Annotated[int, typer.Option(help="Alternating blocks.")] = 20,
    warmup: Annotated[int, typer.Option(help="Runs before the first block.")] = 10,
    threads: Annotated[int, typer.Option(help="Of ONNX Runtime.")] = 1,
    batch_size: Annotated[int, typer.Option(help="Images a run.")] = 1,
    operators: Annotated[int, typer.Option(help="How many of the slowest operators to list.")] = 5,
    as_json: Json = False,
) -> None:
    """Measure latency, load time and memory of ONNX files.

    The others are compared with the first, in alternating blocks; ratios come with their interval.
    """
    from compress.console import print_json, print_table, working
    from compress.profiling import profile as measure
    from compress.recipe import ProfileSettings, validate

    given = {"device": device, "runs": runs, "blocks": blocks, "warmup": warmup, "threads": threads}
    with working("measuring"):
        reports = measure(models, validate({**given, "batch_size": batch_size}, ProfileSettings, "options"))
    if as_json:
        print_json([report.to_dict() for report in reports])
        return
    rows = []
    for report in reports:
        ratio = report.ratio
        against = f"{ratio.ratio:.3f} ({ratio.low:.3f}–{ratio.high:.3f}) {ratio.verdict}" if ratio else "1"
        memory = f"{report.peak_rss_bytes / 2**20:.0f}" if report.peak_rss_bytes is not None else None
        load = f"{report.load_ms:.1f}" if report.load_ms is not None else None
        rows.append((report.model, f"{report.p50_us:.0f}", against, load, memory, f"{report.file_bytes:,}"))
    columns = ("model", "p50 µs", "ratio (95 %)", "load ms", "peak MiB", "file bytes")
    print_table(f"{reports[0].device}, {reports[0].runtime}, {threads} thread(s)", columns, rows)
    for report in reports if operators else ():
        slowest = ((o.operator, o.node, f"{o.us:.1f}", f"{o.share:.1%}") for o in report.operators[:operators])
        print_table(report.model, ("operator", "node", "µs", "share"), slowest)
