"""Cut, train, cut again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from compress.prune.schedules import Schedule, schedules


@schedules.register("iterative")
@dataclass(frozen=True)
class Iterative(Schedule):
    """The ratio is reached in equal steps, with training between them; each cut ranks the weights anew.

    After cut r of R the share r/R of the ratio is gone.

    Args:
        rounds: R, how many cuts.
        epochs: of training between two cuts; everything else of it is as [retrain] says.

    Source: S. Han, J. Pool, J. Tran, W. J. Dally, "Learning both Weights and Connections for Efficient Neural
        Networks", 2015, §3.4: iterative pruning. There connections go; here whatever the method ranks.
    """

    rounds: Annotated[int, Field(ge=2)] = 3
    epochs: Annotated[int, Field(ge=1)] = 5

    def ratios(self, ratio: float) -> tuple[float, ...]:
        """Returns R shares in equal steps."""
        return tuple(ratio * (index + 1) / self.rounds for index in range(self.rounds))

    @property
    def epochs_between(self) -> int:
        """Returns the knob `epochs`."""
        return self.epochs
