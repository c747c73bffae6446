"""Schedules: in how many cuts the ratio is reached, and how much is trained between them. One paper a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from compress.registry import Registry

if TYPE_CHECKING:
    from compress.prune.driver import PruneResult
    from compress.prune.procedure import Procedure


class Schedule(ABC):
    """A schedule is a frozen dataclass whose fields are its knobs.

    Attributes:
        start: whether the network is pruned once trained, or with its initial weights.
        trains: whether it trains between cuts.
    """

    start: ClassVar[Literal["trained", "initial"]] = "trained"
    trains: ClassVar[bool] = False

    @abstractmethod
    def run(self, procedure: Procedure) -> PruneResult:
        """Prunes; returns the last cut, which the caller applies.

        Args:
            procedure: the network, which may be trained and masked on the way.
        """


schedules: Registry[type[Schedule]] = Registry("schedule", "compress.prune.schedules")
