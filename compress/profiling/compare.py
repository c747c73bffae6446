"""One report against another: what may be said depends on how the figures came about."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compress.errors import CompressError
from compress.profiling.profile_report import ProfileReport
from compress.profiling.statistics import Ratio, bounded_ratio, counted_ratio, distant_ratio, paired_ratio

# Share by which a roofline is off: the median over operators of networks that it was not fitted on.
ESTIMATE_ERROR = 0.41


def ratio_of(report: ProfileReport, other: ProfileReport, together: bool = True) -> Ratio:
    """Returns the cost of one model over that of another on the same device.

    Args:
        report: of the one.
        other: of the other.
        together: whether both were measured in one run, taking turns.
    """
    if report.kind == "counted":
        return counted_ratio(report.minimum, other.minimum)
    if report.kind == "estimated":
        return bounded_ratio(report.minimum, other.minimum, ESTIMATE_ERROR)
    if not together:
        return distant_ratio(report.minimum, other.minimum)
    return paired_ratio(np.array(report.block_minima), np.array(other.block_minima), report.processes)


def against(report: ProfileReport, baseline: ProfileReport) -> ProfileReport:
    """Returns the report with its ratio to one that was kept from an earlier run.

    Raises:
        CompressError: if the two were not measured the same way on the same device.
    """
    for what in ("device", "unit", "threads", "batch_size"):
        mine, kept = getattr(report, what), getattr(baseline, what)
        if mine != kept:
            raise CompressError(
                f"the baseline was measured with {what} {kept!r}, this with {mine!r}",
                next_step="profile with the baseline's settings, or make another baseline",
            )
    notes = list(report.notes)
    if report.kind == "measured":
        notes.append(
            "the baseline was timed in another run, which may be off by 7 %: give both files for an exact ratio"
        )
    if report.runtime != baseline.runtime:
        notes.append(f"the baseline was measured with {baseline.runtime}, this with {report.runtime}")
    ratio = ratio_of(report, baseline, together=False)
    return replace(report, ratio=ratio, compared_to=baseline.model_sha256, notes=tuple(notes))
