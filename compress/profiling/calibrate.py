"""What convolutions cost on one device over the number of their channels: the table that widths are chosen by."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compress.errors import CompressError
from compress.onnx_io.file import write_model
from compress.profiling.device import Tell
from compress.profiling.probes import SITES, Element, probe_model
from compress.profiling.verb import profile
from compress.recipe import ProfileSettings
from compress.targets.table import PERIOD, WidthTable, row

WIDTHS = 48


def calibrate(
    device: str, *, widths: int = WIDTHS, elements: Sequence[Element] = ("float32", "int8"), tell: Tell | None = None
) -> WidthTable:
    """Measures probes of every width, all in turn, in alternating blocks.

    Args:
        device: its name, as `profile` takes it.
        widths: the largest number of channels.
        elements: types of weights.
        tell: who is told what is done.

    Returns:
        costs by width. A cost is the median over blocks of its least time over that of the first probe, times the
        median least time of the first probe.

    Raises:
        CompressError: if the table would be too short, or there is no such device.
        MachineError: if the device fails.
    """
    if widths < PERIOD:
        raise CompressError("too few widths", got=widths, allowed=f"{PERIOD} or more", next_step="leave --widths out")
    plan = [
        (kind, role, element, width) for element in elements for kind, role in SITES for width in range(1, widths + 1)
    ]
    settings = ProfileSettings(device=device, blocks=12, runs=5, warmup=3, details=False)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{index}.onnx" for index in range(len(plan))]
        for (kind, role, element, width), path in zip(plan, paths, strict=True):
            write_model(probe_model(kind, role, width, element), path)
        reports = profile(paths, settings, tell=tell)
    first = np.array(reports[0].block_minima)
    costs: dict[str, list[float]] = {}
    for (kind, role, element, _), report in zip(plan, reports, strict=True):
        cost = float(np.median(np.array(report.block_minima) / first) * np.median(first))
        costs.setdefault(row(kind, role, element), []).append(round(cost, 4))
    one = reports[0]
    how = f"{one.blocks} alternating blocks of {one.runs} runs, {one.threads} thread, 28 × 28 pixels"
    return WidthTable(
        device=device,
        architecture=str(one.machine.get("architecture", "unknown")),
        runtime=one.runtime,
        unit=one.unit,
        protocol=f"{one.kind}; {how}",
        costs=costs,
    )


def elements_named(names: Sequence[str]) -> list[Element]:
    """Returns types of weights by name.

    Raises:
        CompressError: if a name is none.
    """
    known: dict[str, Element] = {"float32": "float32", "int8": "int8"}
    if unknown := [name for name in names if name not in known]:
        raise CompressError("unknown type of weights", got=unknown[0], allowed=", ".join(known), next_step="name one")
    return [known[name] for name in dict.fromkeys(names)]
