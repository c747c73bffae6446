"""One cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.prune.schedules import Schedule, schedules

if TYPE_CHECKING:
    from compress.prune.driver import PruneResult
    from compress.prune.procedure import Procedure


@schedules.register("one-shot")
@dataclass(frozen=True)
class OneShot(Schedule):
    """Everything goes at once; the retraining follows.

    Source: H. Li, A. Kadav, I. Durdanovic, H. Samet, H. P. Graf, "Pruning Filters for Efficient ConvNets", 2017, §3.4,
        "prune once and retrain".
    """

    def run(self, procedure: Procedure) -> PruneResult:
        """Cuts once."""
        return procedure.cut()
