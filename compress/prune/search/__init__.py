"""Searches: which units stay, found by trying. One paper a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.channels.graph import Array
from compress.recipe import PruneSettings
from compress.registry import Registry

if TYPE_CHECKING:
    from compress.prune.problem import PruningProblem

Progress = Callable[[float, str], None]  # share of the work that is done, 0…1, and a word on where it stands


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        keep: which units remain, over all groups in turn. Shape: (units,), booleans.
        order: the units in the order in which they went, where the search has one.
        losses: the mean loss on the samples after each of these steps.
        evaluations: how many candidates were tried, wholly or in part.
    """

    keep: Array
    order: tuple[int, ...]
    losses: tuple[float, ...]
    evaluations: int


class Search(ABC):
    """A search is a frozen dataclass whose fields are its knobs."""

    @abstractmethod
    def run(self, problem: PruningProblem, settings: PruneSettings, progress: Progress | None = None) -> SearchResult:
        """Chooses the units that remain. The problem is not changed.

        Args:
            problem: the network and the samples.
            settings: ratio, of, minimum_channels, round_to; `scope` has no meaning for a search.
            progress: called after each step.

        Raises:
            NetworkError: if the ratio cannot be reached.
        """


searches: Registry[type[Search]] = Registry("search", "compress.prune.search")
