"""Costs for the rewriter: it decides by them how to round, and does not know how they are taken."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from onnx import ModelProto

from compress.onnx_io.file import write_model
from compress.profiling import profile
from compress.profiling.compare import ratio_of
from compress.profiling.statistics import Ratio
from compress.recipe import ProfileSettings
from compress.rewrite.rounding import Latencies, Measure


def latencies(settings: ProfileSettings) -> Measure:
    """Returns what times models against each other, in alternating blocks, on a device.

    Args:
        settings: the device, and how to measure.
    """

    def measure(models: Sequence[ModelProto], effort: int) -> Latencies:
        # Rounds of one process do not differ independently: more of them alone would not narrow an interval.
        more = {"blocks": settings.blocks * effort, "processes": settings.processes * effort, "details": False}
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{index}.onnx" for index in range(len(models))]
            for model, path in zip(models, paths, strict=True):
                write_model(model, path)
            reports = profile(paths, settings.model_copy(update=more))
        first = reports[0]

        @cache
        def pairs(one: int, other: int) -> Ratio:
            return ratio_of(reports[one], reports[other])

        architecture = first.machine.get("architecture", "unknown")
        return Latencies(f"{first.device} ({architecture})", pairs, timed=first.kind == "measured")

    return measure
