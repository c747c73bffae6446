"""The verb: models and settings in, one report a model out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compress.artifact import require_file, sha256_file
from compress.errors import CompressError
from compress.onnx_io.file import total_bytes
from compress.profiling.device import Measurement, open_device
from compress.profiling.profile_report import ProfileReport
from compress.profiling.statistics import paired_ratio, percentiles
from compress.recipe import ProfileSettings


def profile(models: list[Path], settings: ProfileSettings) -> list[ProfileReport]:
    """Measures models against the first of them.

    Args:
        models: at least one file, `.onnx` or `.ort`; the same file may stand twice, which shows the noise.
        settings: device, threads, blocks, runs, warm-up, batch size.

    Returns:
        One report a model, in order; each but the first has a ratio to the first.

    Raises:
        CompressError: if there is no model, or no such device.
        ModelFileError: if a file is missing or damaged, or the device's runtime cannot open, feed or run it.
        MachineError: if the device fails.
    """
    if not models:
        raise CompressError("nothing to profile", next_step="name at least one ONNX file")
    device = open_device(settings.device)
    sizes = [_file_bytes(model) for model in models]
    hashes = [sha256_file(model) for model in models]
    measured = device.measure(models, settings)
    first = _minima(measured[0])
    reports = []
    for position, (model, measurement) in enumerate(zip(models, measured, strict=True)):
        minima = _minima(measurement)
        p50, p90, p99 = percentiles(np.array(measurement.blocks_us))
        reports.append(
            ProfileReport(
                model=str(model),
                model_sha256=hashes[position],
                file_bytes=sizes[position],
                device=settings.device,
                machine=measurement.machine,
                runtime=measurement.runtime,
                threads=settings.threads,
                batch_size=settings.batch_size,
                input_shapes=measurement.input_shapes,
                warmup=settings.warmup,
                blocks=settings.blocks,
                runs=settings.runs,
                p50_us=p50,
                p90_us=p90,
                p99_us=p99,
                minimum_us=float(minima.min()),
                block_minima_us=tuple(minima.tolist()),
                ratio=paired_ratio(minima, first) if position else None,
                compared_to=hashes[0] if position else None,
                load_ms=measurement.load_ms,
                runtime_rss_bytes=measurement.runtime_rss_bytes,
                peak_rss_bytes=measurement.peak_rss_bytes,
                operators=measurement.operators,
            )
        )
    return reports


def _minima(measurement: Measurement) -> np.ndarray:
    return np.array([min(block) for block in measurement.blocks_us])


def _file_bytes(model: Path) -> int:
    # The runtime's own format is no protobuf message; the runtime itself is its judge.
    return require_file(model, "model").stat().st_size if model.suffix == ".ort" else total_bytes(model)
