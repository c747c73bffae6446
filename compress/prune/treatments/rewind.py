"""The surviving weights go back to what they were early in the training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from compress.compact import apply_plan
from compress.errors import NetworkError
from compress.prune.treatments import Survivors, Treatment, treatments
from compress.train.weights import put_weights, weights_of


@treatments.register("rewind")
@dataclass(frozen=True)
class Rewind(Treatment):
    """The surviving weights go back to what they were before the training, or after `rewind_epochs` of it.

    Source: J. Frankle, M. Carbin, "The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks", 2019,
        §1: rewound to the initial weights; J. Frankle, G. K. Dziugaite, D. M. Roy, M. Carbin, "Linear Mode
        Connectivity and the Lottery Ticket Hypothesis", 2020, §3: rewound to an early epoch. Statistics of BatchNorm
        go back with the weights.
    """

    needs_initial: ClassVar[bool] = True

    def prepare(self, survivors: Survivors) -> None:
        """Cuts the initial weights as the network has been cut, and puts them in."""
        if survivors.initial is None:
            raise NetworkError(
                "the initial weights are not known",
                got="a [model] checkpoint without [train]",
                next_step="give [train], or set [retrain] weights = 'fine-tune'",
            )
        initial = survivors.initial.model
        apply_plan(initial, survivors.cut)
        put_weights(survivors.network, weights_of(initial), "the initial weights, cut")
