"""The loss without a unit."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass

import numpy as np

from compress.channels.graph import Array
from compress.prune.criteria import Criterion, criteria
from compress.prune.problem import PruningProblem, Samples, images_and_labels
from compress.prune.trial import UnitTrial


@criteria.register("loss-increase")
@dataclass(frozen=True)
class LossIncrease(Criterion):
    """How much the loss on fixed training samples rises when a unit is masked.

    s_c = L(f(s, W without c), y) − L(f(s, W), y), the mean over the samples, in float64.

    Args:
        absolute: take the absolute value, so that a unit whose removal lowers the loss counts as one that raises it.

    Source: K. Mitsuno, "BonsaiNet", 2022, equation (3.2), which takes the absolute value; algorithm 1 there takes the
        least loss, as is done here by default. `backward-selection` measures anew after each removal, this once.
    """

    absolute: bool = False

    def score(self, problem: PruningProblem) -> list[Array]:
        """Returns the increases, one array a group."""
        images, labels = images_and_labels(problem)
        exact = dataclasses.replace(
            problem, network=copy.deepcopy(problem.network).double(), samples=Samples(images.double(), labels)
        )
        trial = UnitTrial(exact, np.ones(problem.groups.size, dtype=bool))
        before = float(trial.sample_losses.mean())
        scores = np.zeros(problem.groups.size)
        for unit, losses in trial.losses().items():
            scores[unit] = float(losses.mean()) - before
        return problem.groups.split(np.abs(scores) if self.absolute else scores)
