"""The norm of the filters that produce a channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from compress.channels.graph import Array
from compress.prune.criteria import Criterion, criteria
from compress.prune.problem import PruningProblem


@criteria.register("filter-l1")
@dataclass(frozen=True)
class FilterL1(Criterion):
    """The sum of the absolute weights of the filters that produce a channel.

    s_c = Σ |W[c, i, x, y]| over i, x, y. Where a sum couples layers, over the filters of all that produce the channel.

    Args:
        normalise: divide by the mean over the layer's channels, and average where a sum adds over layers, so that one
            ranking can compare layers.

    Source: H. Li, A. Kadav, I. Durdanovic, H. Samet, H. P. Graf, "Pruning Filters for Efficient ConvNets", 2016, §3.1.
        There a residual stream is ranked by its projection shortcut alone; here all of its layers count, as many
        streams have no projection.
    """

    normalise: bool = False

    def score(self, problem: PruningProblem) -> list[Array]:
        """Returns the norms, one array a group."""
        return _score(problem, np.abs, lambda sums: sums, self.normalise)


@criteria.register("filter-l2")
@dataclass(frozen=True)
class FilterL2(Criterion):
    """The Euclidean norm of the filters that produce a channel.

    s_c = √(Σ W[c, i, x, y]²) over i, x, y. Where a sum couples layers, the sum of its layers' norms.

    Args:
        normalise: divide by the mean over the layer's channels, and average where a sum adds over layers, so that one
            ranking can compare layers.

    Source: H. Li, A. Kadav, I. Durdanovic, H. Samet, H. P. Graf, "Pruning Filters for Efficient ConvNets", 2016, §4.4,
        where it is compared with `filter-l1`.
    """

    normalise: bool = False

    def score(self, problem: PruningProblem) -> list[Array]:
        """Returns the norms, one array a group."""
        return _score(problem, np.square, np.sqrt, self.normalise)


def _score(
    problem: PruningProblem, weigh: Callable[[Array], Array], norm: Callable[[Array], Array], normalise: bool
) -> list[Array]:
    scores = []
    for group in problem.groups.groups:
        score, producers = np.zeros(group.size), np.zeros(group.size)
        for member in group.producers:
            norms = norm(problem.per_unit(group, member, weigh(problem.array(member.parameter))))
            produced = np.unique(member.unit[member.unit >= 0])
            mean = norms[produced].mean()
            # A layer that is all zero has no scale; its norms are zero already.
            score += norms / mean if normalise and mean > 0 else norms
            producers[produced] += 1
        scores.append(score / producers if normalise else score)
    return scores
