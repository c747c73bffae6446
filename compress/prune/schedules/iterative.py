"""Cut, train, cut again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from compress.prune.schedules import Schedule, schedules

if TYPE_CHECKING:
    from compress.prune.driver import PruneResult
    from compress.prune.procedure import Procedure


@schedules.register("iterative")
@dataclass(frozen=True)
class Iterative(Schedule):
    """The ratio is reached in equal steps, with training between them; each cut ranks the weights anew.

    After cut r of R the share r/R of the ratio is gone; it stays gone in the trainings that follow.

    Args:
        rounds: R, how many cuts.
        epochs: of training between two cuts; everything else of it is as [retrain] says.

    Source: S. Han, J. Pool, J. Tran, W. J. Dally, "Learning both Weights and Connections for Efficient Neural
        Networks", 2015, §3.4: iterative pruning. There connections go; here whatever the method ranks.
    """

    trains: ClassVar[bool] = True
    rounds: Annotated[int, Field(ge=2)] = 3
    epochs: Annotated[int, Field(ge=1)] = 5

    def run(self, procedure: Procedure) -> PruneResult:
        """Cuts R times."""
        for index in range(self.rounds - 1):
            result = procedure.cut(procedure.ratio * (index + 1) / self.rounds)
            result.apply(procedure.network)
            procedure.train(str(index), epochs=self.epochs, masks=result.mask)
        return procedure.cut()
