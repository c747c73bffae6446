"""Costs for the rewriter: it decides by them how to round, and does not know how they are taken."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from onnx import ModelProto

from compress.onnx_io.file import write_model
from compress.profiling import profile
from compress.profiling.compare import ratio_of
from compress.recipe import ProfileSettings
from compress.rewrite.rounding import Latencies, Measure


def latencies(settings: ProfileSettings) -> Measure:
    """Returns what times models against each other, in alternating blocks, on a device.

    Args:
        settings: the device, and how to measure.
    """

    def measure(models: Sequence[ModelProto]) -> Latencies:
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{index}.onnx" for index in range(len(models))]
            for model, path in zip(models, paths, strict=True):
                write_model(model, path)
            reports = profile(paths, settings)
        best = min(reports, key=lambda report: ratio_of(report, reports[0]).ratio)
        architecture = reports[0].machine.get("architecture", "unknown")
        return Latencies(f"{reports[0].device} ({architecture})", [ratio_of(report, best) for report in reports])

    return measure
