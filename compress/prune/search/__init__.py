"""Searches: which units stay, found by trying. One paper a file."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from compress.errors import DataError
from compress.prune.method import Choice, Method, Progress
from compress.registry import Registry

if TYPE_CHECKING:
    from compress.prune.problem import PruningProblem
    from compress.prune.trainer import Trainer
    from compress.recipe import PruneSettings

__all__ = ["Choice", "Progress", "Search", "TrainingSearch", "searches"]


class Search(Method):
    """Looks for what remains by trying; `choose` is all of it. The scope of the settings has no meaning for it.

    A search that removes units one after the other tells `order`, the units in the order in which they went, and
    `losses`, the mean loss on the samples after each of these steps; every search tells `evaluations`, how many
    candidates were tried, wholly or in part.
    """


class TrainingSearch(Search):
    """A search that trains networks; `search` is all of it.

    Attributes:
        judges: what it judges candidates by, where that takes validation images.
    """

    trains: ClassVar[bool] = True
    judges: ClassVar[str | None] = None

    def choose(
        self,
        problem: PruningProblem,
        settings: PruneSettings,
        *,
        trainer: Trainer | None = None,
        progress: Progress | None = None,
    ) -> Choice:
        """See `Method.choose`."""
        if trainer is None:
            raise DataError(f"search {settings.method!r} trains", next_step="give a recipe with --recipe")
        if self.judges is not None and not len(trainer.dataset.validation):
            raise DataError(
                f"search {settings.method!r} chooses by the {self.judges} on validation images",
                next_step="set [data] validation above 0",
            )
        return self.search(problem, settings, trainer, progress or _silence)

    @abstractmethod
    def search(self, problem: PruningProblem, settings: PruneSettings, trainer: Trainer, progress: Progress) -> Choice:
        """Chooses what remains; see `Method.choose`."""


def _silence(_done: float, _text: str) -> None:
    pass


searches: Registry[type[Search]] = Registry("search", "compress.prune.search")
