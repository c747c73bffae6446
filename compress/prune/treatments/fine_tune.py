"""The surviving weights are kept."""

from __future__ import annotations

from dataclasses import dataclass

from compress.prune.treatments import Survivors, Treatment, treatments


@treatments.register("fine-tune")
@dataclass(frozen=True)
class FineTune(Treatment):
    """The surviving weights stay as they are.

    Source: S. Han, J. Pool, J. Tran, W. J. Dally, "Learning both Weights and Connections for Efficient Neural
        Networks", 2015, §3.3.
    """

    def prepare(self, survivors: Survivors) -> None:
        """Changes nothing."""
