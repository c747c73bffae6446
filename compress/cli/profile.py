"""`compress profile`: latency or instructions, load time and memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compress.cli.options import Json, tell_on_stderr
from compress.errors import CompressError

if TYPE_CHECKING:
    from compress.profiling import ProfileReport
    from compress.profiling.several import Outcome


def profile(
    models: Annotated[list[Path], typer.Argument(help="ONNX files; the first is what the others are compared to.")],
    device: Annotated[
        list[str],
        typer.Option(
            help="Where: host, arm, arm-emu:CORE, estimate:CORE, or a name of devices.toml; repeat it for several."
        ),
    ] = ["host"],  # noqa: B006 - typer reads defaults, and nobody writes to this one
    runs: Annotated[int, typer.Option(help="Runs a block.")] = 10,
    blocks: Annotated[int, typer.Option(help="Alternating blocks.")] = 20,
    processes: Annotated[int, typer.Option(help="Fresh processes that the blocks are spread over.")] = 10,
    warmup: Annotated[int, typer.Option(help="Runs before a process's first block.")] = 10,
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
    from compress.profiling import profile_on, read_kept, tables
    from compress.recipe import OPTIONS, ProfileSettings, validate

    given = {"device": device[0], "runs": runs, "blocks": blocks, "processes": processes, "warmup": warmup}
    settings = validate({**given, "threads": threads, "batch_size": batch_size}, ProfileSettings, OPTIONS)
    if baseline is not None and len(device) > 1:
        raise CompressError("a baseline is of one device", got=", ".join(device), next_step="name that device alone")
    earlier = read_kept(baseline) if baseline is not None else None
    if markdown is not None:
        require_target(markdown, *models)
    with working("measuring"):
        if len(device) == 1:
            outcomes: dict[str, Outcome] = {device[0]: measure(models, settings, baseline=earlier, tell=tell_on_stderr)}
        else:
            outcomes = profile_on(device, models, settings, tell_on_stderr)
    found = [reports for reports in outcomes.values() if isinstance(reports, list)]
    shown = [
        (reports, [tables.models(reports), *(tables.operators(one, operators) for one in reports if operators)])
        for reports in found
    ]
    if as_json:
        print_json([report.to_dict() for reports in found for report in reports])
    else:
        for reports, these in shown:
            for table in these:
                print_table(table.title, table.columns, table.rows)
            _tell_notes(reports)
    # What was measured has been shown by now, if a file cannot be written.
    if markdown is not None:
        write_text(markdown, "\n".join(tables.markdown(reports, these) for reports, these in shown))
    if keep:
        for reports in found:
            _keep(keep_reports(reports, export, but=baseline))
    _fail_for([error for error in outcomes.values() if isinstance(error, CompressError)])


def _fail_for(errors: list[CompressError]) -> None:
    """Ends as the last error would, once all are told; what was measured has been shown by then."""
    for error in errors[:-1]:
        tell_on_stderr(f"error: {error}")
    if errors:
        raise errors[-1]


def _keep(written: list[Path]) -> None:
    for path in written:
        tell_on_stderr(f"kept as {path}")


def _tell_notes(reports: list[ProfileReport]) -> None:
    from compress.console import print_line

    for note in dict.fromkeys(note for report in reports for note in report.notes):
        print_line(f"note: {note}")
