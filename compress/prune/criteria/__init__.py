"""Criteria: a score for each unit; the lowest go. One paper a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from compress.channels.graph import Array
from compress.registry import Registry

if TYPE_CHECKING:
    from compress.prune.problem import PruningProblem


class Criterion(ABC):
    """A criterion is a frozen dataclass whose fields are its knobs.

    Attributes:
        equivariant: whether scores follow the channels when these are reordered; all but the random control.
    """

    equivariant: ClassVar[bool] = True

    @abstractmethod
    def score(self, problem: PruningProblem) -> list[Array]:
        """Returns one score for each unit, one array a group; the lowest go. The problem is not changed.

        Returns:
            For each of `problem.groups.groups` an array of shape (size,), finite, float64.
        """


criteria: Registry[type[Criterion]] = Registry("criterion", "compress.prune.criteria")
