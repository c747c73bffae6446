"""The control of every comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from compress.channels.graph import Array
from compress.prune.criteria import Criterion, criteria
from compress.prune.problem import PruningProblem


@criteria.register("random")
@dataclass(frozen=True)
class Random(Criterion):
    """Uniform random scores from the run's seed: the control of every comparison.

    Source: D. Mittal, S. Bhardwaj, M. M. Khapra, B. Ravindran, "Recovering from Random Pruning", 2018.
    """

    equivariant: ClassVar[bool] = False

    def score(self, problem: PruningProblem) -> list[Array]:
        """Returns numbers in [0, 1), one array a group; the same for the same seed."""
        return problem.groups.split(np.random.default_rng(problem.seed).random(problem.groups.size))
