"""Soft filter pruning: what is zeroed may come back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from compress.prune.schedules import Schedule, schedules
from compress.train.hooks import Hook

if TYPE_CHECKING:
    from torch import nn

    from compress.prune.driver import PruneResult
    from compress.prune.procedure import Procedure


@dataclass(frozen=True)
class _ZeroAfterEpochs(Hook):
    """Zeroes the lowest units every few epochs, and holds nothing there."""

    procedure: Procedure
    every: int

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        if epoch % self.every == 0:
            self.procedure.cut().apply(model)


@schedules.register("soft")
@dataclass(frozen=True)
class Soft(Schedule):
    """Trains, and after each epoch sets the lowest units to zero, which go on training; the last choice is the cut.

    Args:
        epochs: of this training; everything else of it is as [retrain] says.
        every: epochs between two choices.

    Source: Y. He, G. Kang, X. Dong, Y. Fu, Y. Yang, "Soft Filter Pruning for Accelerating Deep Convolutional Neural
        Networks", 2018, algorithm 1; there with method `filter-l2` and the same share of each layer, here with any
        criterion. The paper zeroes filters alone; here a channel's columns, scale and shift are zeroed with it, as
        BatchNorm would else revive it in the same pass.
    """

    trains: ClassVar[bool] = True
    epochs: Annotated[int, Field(ge=1)] = 20
    every: Annotated[int, Field(ge=1)] = 1

    def run(self, procedure: Procedure) -> PruneResult:
        """Trains with zeroing, then cuts."""
        procedure.train("soft", epochs=self.epochs, hooks=(_ZeroAfterEpochs(procedure, self.every),))
        return procedure.cut()
