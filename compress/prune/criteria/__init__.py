"""Criteria: a score for each unit or weight; the lowest go. One paper a file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from compress.channels.graph import Array
from compress.prune.method import Choice, Method, Progress
from compress.prune.select import select
from compress.prune.select_weights import select_weights, share_of_weights
from compress.recipe import PruneSettings
from compress.registry import Registry

if TYPE_CHECKING:
    from compress.prune.problem import PruningProblem
    from compress.prune.trainer import Trainer


class Criterion(Method):
    """Scores channels.

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

    def reconstruct(self, problem: PruningProblem, keep: Array) -> Mapping[str, Array]:
        """Returns new values of parameters that make up for what goes, by name; none unless the method has some.

        Args:
            problem: the network and the samples.
            keep: which units remain, over all groups in turn. Shape: (units,), booleans.
        """
        return {}

    def findings(self, problem: PruningProblem) -> dict[str, Any]:
        """Returns what the report should tell of the network, by section, as a JSON value; nothing by default."""
        return {}

    def choose(
        self,
        problem: PruningProblem,
        settings: PruneSettings,
        *,
        trainer: Trainer | None = None,
        progress: Progress | None = None,
    ) -> Choice:
        """Keeps the units with the highest scores."""
        scores = self.score(problem)
        keep = select(problem, scores, settings)
        details = {"scores": [score.tolist() for score in scores], **self.findings(problem)}
        return Choice(keep, values=self.reconstruct(problem, keep), details=details)


class WeightCriterion(Method):
    """Scores single weights: of convolutions and linear layers, not of biases and normalisations."""

    @abstractmethod
    def score(self, problem: PruningProblem) -> dict[str, Array]:
        """Returns one score for each weight; the lowest go. The problem is not changed.

        Returns:
            For each of `problem.weights` an array of its shape, finite, float64.
        """

    def reconstruct(self, problem: PruningProblem, held: Mapping[str, Array]) -> Mapping[str, Array]:
        """Returns new values of parameters that make up for what goes, by name; none unless the method has some.

        Args:
            problem: the network and the samples.
            held: by parameter, which of its weights remain.
        """
        return {}

    def choose(
        self,
        problem: PruningProblem,
        settings: PruneSettings,
        *,
        trainer: Trainer | None = None,
        progress: Progress | None = None,
    ) -> Choice:
        """Keeps the weights with the highest scores, and all channels."""
        held = select_weights(problem, self.score(problem), settings)
        kept = {name: int(mask.sum()) for name, mask in held.items()}
        return Choice(
            np.ones(problem.groups.size, dtype=bool),
            held=held,
            values=self.reconstruct(problem, held),
            details={"weights": {name: {"before": held[name].size, "kept": count} for name, count in kept.items()}},
        )

    def unit_ratio(self, settings: PruneSettings, problem: Callable[[], PruningProblem]) -> float:
        """Returns the share of the weights that has to go, so that a share of all parameters goes."""
        return share_of_weights(problem(), settings)


criteria: Registry[type[Criterion] | type[WeightCriterion]] = Registry("criterion", "compress.prune.criteria")
