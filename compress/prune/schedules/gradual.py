"""Gradual pruning: the share rises along a cubic curve while the network trains."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field

from compress.prune.schedules import Schedule, schedules
from compress.train.hooks import Hook

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from compress.prune.driver import PruneResult
    from compress.prune.procedure import Procedure


@dataclass
class _Ramp(Hook):
    """Cuts after every epoch of the ramp, and holds what has gone at zero."""

    procedure: Procedure
    schedule: Gradual
    ratio: float = 0.0
    last: PruneResult | None = field(default=None, repr=False)

    def after_step(self, model: nn.Module, learning_rate: float) -> None:
        if self.last is not None:
            self.last.mask.apply(model)

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        if epoch % self.schedule.every == 0 and epoch <= self.schedule.ramp_epochs:
            self._cut(self.schedule.share(epoch) * self.procedure.ratio)
            assert self.last is not None
            self.last.apply(model)

    def state_dict(self) -> Mapping[str, Tensor]:
        return {"ratio": torch.tensor(self.ratio, dtype=torch.float64)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        # What has gone is zero in the weights that were loaded with this: the same cut finds it again.
        if float(state["ratio"]) > 0:
            self._cut(float(state["ratio"]))

    def _cut(self, ratio: float) -> None:
        self.ratio = ratio
        self.last = self.procedure.cut(ratio)


@schedules.register("gradual")
@dataclass(frozen=True)
class Gradual(Schedule):
    """The share that is gone rises along a cubic curve, fast at first, while the network trains.

    s_t = s_f · (1 − (1 − t / T)³) after epoch t of T; what has gone is held at zero, and each cut ranks anew.

    Args:
        epochs: of this training; everything else of it is as [retrain] says.
        ramp: share of the epochs in which the cuts take place; the rest trains what is left.
        every: epochs between two cuts.

    Source: M. Zhu, S. Gupta, "To Prune, or Not to Prune: Exploring the Efficacy of Pruning for Model Compression",
        2017, equation (1), with s_i = 0 and t_0 = 0. The paper cuts every 100 to 1000 steps; here after epochs.
    """

    trains: ClassVar[bool] = True
    epochs: Annotated[int, Field(ge=1)] = 20
    ramp: Annotated[float, Field(gt=0, le=1)] = 0.75
    every: Annotated[int, Field(ge=1)] = 1

    @property
    def ramp_epochs(self) -> int:
        """T, the epoch after which the whole share is gone."""
        return max(1, round(self.epochs * self.ramp))

    def share(self, epoch: int) -> float:
        """Returns s_t / s_f after `epoch` epochs."""
        return 1 - (1 - min(1.0, epoch / self.ramp_epochs)) ** 3

    def run(self, procedure: Procedure) -> PruneResult:
        """Trains along the ramp, then cuts."""
        procedure.train("gradual", epochs=self.epochs, hooks=(_Ramp(procedure, self),))
        return procedure.cut()
