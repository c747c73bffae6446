"""Prune first, train afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from compress.prune.schedules import Schedule, schedules

if TYPE_CHECKING:
    from compress.prune.driver import PruneResult
    from compress.prune.procedure import Procedure


@schedules.register("before-training")
@dataclass(frozen=True)
class BeforeTraining(Schedule):
    """Everything goes at once from the network with its initial weights; [retrain] then is its only training.

    What [train] makes of the whole network is the figure that the pruned one is compared with.

    Source: N. Lee, T. Ajanthan, P. H. S. Torr, "SNIP: Single-shot Network Pruning based on Connection Sensitivity",
        2019, §4, algorithm 1; there with method `snip`, here with any.
    """

    start: ClassVar[Literal["trained", "initial"]] = "initial"

    def run(self, procedure: Procedure) -> PruneResult:
        """Cuts once."""
        return procedure.cut()
