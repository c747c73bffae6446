"""Schedules: in how many cuts the ratio is reached, and how much is trained between them. One paper a file."""

from __future__ import annotations

from abc import ABC, abstractmethod

from compress.registry import Registry


class Schedule(ABC):
    """A schedule is a frozen dataclass whose fields are its knobs."""

    @abstractmethod
    def ratios(self, ratio: float) -> tuple[float, ...]:
        """Returns the share that is gone after each cut; the last is `ratio`.

        Args:
            ratio: share of the cost that is to go in the end, 0…1.
        """

    @property
    def epochs_between(self) -> int:
        """Epochs of training between two cuts, with what has gone held at zero."""
        return 0


schedules: Registry[type[Schedule]] = Registry("schedule", "compress.prune.schedules")
