"""Does a device work? A small model of its own, measured there, with outputs held against this machine's."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.onnx_io.file import write_model
from compress.profiling.device import SIGNS, Tell
from compress.profiling.profile_report import ProfileReport
from compress.profiling.tables import cost
from compress.profiling.trial_model import small_model
from compress.profiling.verb import profile
from compress.recipe import ProfileSettings

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Trial:
    """What came of it.

    Attributes:
        report: of the small model.
    """

    report: ProfileReport

    @property
    def passed(self) -> bool | None:
        """Whether the outputs were compared and agree; None where nothing runs that could have any."""
        if self.report.kind == "estimated":
            return None
        return self.report.parity is not None and self.report.parity <= TOLERANCE

    def to_dict(self) -> dict[str, Any]:
        """Returns the trial as a JSON value."""
        return {"passed": self.passed, **self.report.to_dict()}

    def rows(self) -> list[tuple[str, str]]:
        """Returns what a person wants to know."""
        report = self.report
        about = [
            ("device", report.device),
            ("runtime", report.runtime),
            ("one inference", f"{cost(report.minimum)} {SIGNS[report.unit]}"),
        ]
        notes = [("note", note) for note in report.notes]
        if self.passed is None:
            return [*about, *notes, ("outputs", "none: this is computed, no model runs")]
        parity = "not compared" if report.parity is None else f"{report.parity:.1e}, allowed {TOLERANCE:.0e}"
        return [*about, *notes, ("outputs differ by", parity), ("works", "yes" if self.passed else "NO")]


def try_device(name: str, tell: Tell | None = None) -> Trial:
    """Measures the small model on a device.

    Raises:
        CompressError: if nothing is called so.
        MachineError: if the device fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.onnx"
        write_model(small_model(), path)
        (report,) = profile([path], ProfileSettings(device=name, blocks=6, runs=5, warmup=2), tell=tell)
    return Trial(report)
