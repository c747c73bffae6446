"""`compress profile`: latency or instructions, load time and memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compress.cli.options import Json, tell_on_stderr

if TYPE_CHECKING:
    from compress.profiling import ProfileReport


def profile(
    models: Annotated[list[Path], typer.Argument(help="ONNX files; the first is what the others are compared to.")],
    device: Annotated[
        str, typer.Option(help="Where: host, arm, arm-emu:CORE, estimate:CORE, or a name of devices.toml.")
    ] = "host",
    runs: Annotated[int, typer.Option(help="Runs a block.")] = 10,
    blocks: Annotated[int, typer.Option(help="Alternating blocks.")] = 20,
    warmup: Annotated[int, typer.Option(help="Runs before the first block.")] = 10,
    threads: Annotated[int, typer.Option(help="Of ONNX Runtime.")] = 1,
    batch_size: Annotated[int, typer.Option(help="Images a run.")] = 1,
    operators: Annotated[int, typer.Option(help="How many of the costliest operators to list.")] = 5,
    baseline: Annotated[Path | None, typer.Option(help="A kept profile.json that the models are compared to.")] = None,
    export: Annotated[Path, typer.Option(help="Results are kept in FOLDER/<model>/<device>/profile.json.")] = Path(
        "export"
    ),
    keep: Annotated[bool, typer.Option(help="Whether results are kept.")] = True,
    markdown: Annotated[Path | None, typer.Option(help="Write the tables as Markdown here.")] = None,
    as_json: Json = False,
) -> None:
    """Measure latency, load time and memory of ONNX files.

    The others are compared with the first, in alternating blocks; ratios come with their interval. Devices that count
    instructions or compute bounds say so.
    """
    from compress.artifact import require_target, write_text
    from compress.console import print_json, print_table, working
    from compress.profiling import keep as keep_reports
    from compress.profiling import profile as measure
    from compress.profiling import read_kept, tables
    from compress.recipe import ProfileSettings, validate

    given = {"device": device, "runs": runs, "blocks": blocks, "warmup": warmup, "threads": threads}
    settings = validate({**given, "batch_size": batch_size}, ProfileSettings, "options")
    earlier = read_kept(baseline) if baseline is not None else None
    if markdown is not None:
        require_target(markdown)
    with working("measuring"):
        reports = measure(models, settings, baseline=earlier, tell=tell_on_stderr)
    if keep:
        _keep(keep_reports(reports, export))
    found = [tables.models(reports), *(tables.operators(report, operators) for report in reports if operators)]
    if markdown is not None:
        write_text(markdown, tables.markdown(reports, found))
    if as_json:
        print_json([report.to_dict() for report in reports])
        return
    for table in found:
        print_table(table.title, table.columns, table.rows)
    _tell_notes(reports)


def _keep(written: list[Path]) -> None:
    for path in written:
        tell_on_stderr(f"kept as {path}")


def _tell_notes(reports: list[ProfileReport]) -> None:
    from compress.console import print_line

    for note in dict.fromkeys(note for report in reports for note in report.notes):
        print_line(f"note: {note}")
