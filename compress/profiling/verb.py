"""The verb: models and settings in, one report a model out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from compress.artifact import require_file, sha256_file
from compress.errors import CompressError
from compress.onnx_io.file import total_bytes
from compress.profiling.compare import against, ratio_of
from compress.profiling.device import Measurement, Tell
from compress.profiling.profile_report import ProfileReport
from compress.profiling.resolve import resolve
from compress.profiling.statistics import percentiles
from compress.recipe import ProfileSettings
from compress.version import __version__


def profile(
    models: list[Path],
    settings: ProfileSettings,
    *,
    baseline: ProfileReport | None = None,
    tell: Tell | None = None,
) -> list[ProfileReport]:
    """Measures models against the first of them.

    Args:
        models: at least one file, `.onnx` or `.ort`; the same file may stand twice, which shows the noise.
        settings: device, threads, blocks, runs, warm-up, batch size.
        baseline: an earlier report that the first model is compared with. If its file is still what it was, it is
            measured again, in turn with the models, and its report comes first.
        tell: who is told which device was chosen and why, and what it does.

    Returns:
        One report a model, in order; each but the first has a ratio to the first.

    Raises:
        CompressError: if there is no model, no such device, or the baseline is of another one.
        ModelFileError: if a file is missing or damaged, or the device's runtime cannot open, feed or run it.
        MachineError: if the device fails.
    """
    if not models:
        raise CompressError("nothing to profile", next_step="name at least one ONNX file")
    resolved = resolve(settings.device, tell)
    if tell and resolved.reason:
        tell(f"device {settings.device!r} is {resolved.name}: {resolved.reason}")
    again = baseline is not None and _unchanged(baseline)
    if baseline is not None and again:
        if tell:
            tell(f"{baseline.model} is what the baseline was made of, and measured again, in turn with the others")
        models = [Path(baseline.model), *models]
    files = [(model, sha256_file(require_file(model, "model")), _file_bytes(model)) for model in models]
    measured = resolved.device.measure(models, settings)
    notes = (resolved.reason,) if resolved.reason else ()
    reports = [
        _report(*file, resolved.name, measurement, settings, notes)
        for file, measurement in zip(files, measured, strict=True)
    ]
    if baseline is not None and not again:
        return [against(report, baseline) for report in reports]
    first = reports[0]
    compared = [replace(r, ratio=ratio_of(r, first), compared_to=first.model_sha256) for r in reports[1:]]
    return [first, *compared]


def _report(
    model: Path,
    sha256: str,
    file_bytes: int,
    device: str,
    measured: Measurement,
    settings: ProfileSettings,
    notes: tuple[str, ...],
) -> ProfileReport:
    minima = np.array([min(block) for block in measured.blocks])
    p50, p90, p99 = percentiles(np.array(measured.blocks))
    return ProfileReport(
        model=str(model),
        model_sha256=sha256,
        file_bytes=file_bytes,
        device=device,
        kind=measured.kind,
        unit=measured.unit,
        machine=measured.machine,
        runtime=measured.runtime,
        product=f"compress {__version__}",
        threads=settings.threads,
        batch_size=settings.batch_size,
        input_shapes=measured.input_shapes,
        processes=measured.processes,
        warmup=measured.warmup,
        blocks=len(measured.blocks),
        runs=len(measured.blocks[0]),
        p50=p50,
        p90=p90,
        p99=p99,
        minimum=float(minima.min()),
        block_minima=tuple(minima.tolist()),
        ratio=None,
        compared_to=None,
        load_ms=measured.load_ms,
        runtime_rss_bytes=measured.runtime_rss_bytes,
        peak_rss_bytes=measured.peak_rss_bytes,
        arena_bytes=measured.arena_bytes,
        parity=measured.parity,
        operators=measured.operators,
        notes=notes + measured.notes + _disturbed(measured),
    )


def _disturbed(measured: Measurement) -> tuple[str, ...]:
    """Returns a note if more was at work on the machine than it has cores: times read high then, ratios hardly."""
    load, cores = measured.machine.get("load_average"), measured.machine.get("cores")
    if measured.kind != "measured" or not load or not cores or load <= cores:
        return ()
    return (
        f"the machine was busy (load average {load:g} on {cores} cores): ratios are meant to bear that, times are not",
    )


def _unchanged(baseline: ProfileReport) -> bool:
    """Tells whether the file that a report is of is still there, and timing it again would say more."""
    path = Path(baseline.model)
    return baseline.kind == "measured" and path.is_file() and sha256_file(path) == baseline.model_sha256


def _file_bytes(model: Path) -> int:
    # The runtime's own format is no protobuf message; the runtime itself is its judge.
    return require_file(model, "model").stat().st_size if model.suffix == ".ort" else total_bytes(model)
