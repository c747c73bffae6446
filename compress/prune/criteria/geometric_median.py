"""The distance of a filter to the layer's other filters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compress.channels.graph import Array
from compress.channels.groups import ChannelGroup
from compress.prune.criteria import Criterion, criteria
from compress.prune.criteria.filter_norm import FilterL2
from compress.prune.problem import PruningProblem

_NORM_EVERY = 4  # of each four filters that go, one goes by its norm


@criteria.register("fpgm")
@dataclass(frozen=True)
class GeometricMedian(Criterion):
    """The sum of the Euclidean distances of a filter to the layer's other filters; the most replaceable go.

    s_i = Σ_j ‖F_i − F_j‖₂. Where a sum couples layers, the sum over the layers that produce the channel.

    Source: Y. He, P. Liu, Z. Wang, Z. Hu, Y. Yang, "Filter Pruning via Geometric Median for Deep Convolutional Neural
        Networks Acceleration", 2019, equations (4) to (6).
    """

    def score(self, problem: PruningProblem) -> list[Array]:
        """Returns the distances, one array a group."""
        return [_distances(problem, group) for group in problem.groups.groups]


@criteria.register("fpgm-mix")
@dataclass(frozen=True)
class GeometricMedianMix(Criterion):
    """Three quarters of what goes by `fpgm`, one quarter by the norm.

    In each layer filters are ranked in turns: three times the one of least distance to the others, then the one of
    least norm, among those not yet ranked. s_i = (rank + 1) / size.

    Source: Y. He et al., "Filter Pruning via Geometric Median", 2019, §4.1, FPGM-mix; K. Mitsuno, "BonsaiNet", 2022,
        §3.2.4. There the shares are of a given number of filters; turns make them hold at any number.
    """

    def score(self, problem: PruningProblem) -> list[Array]:
        """Returns the ranks, one array a group."""
        norms = FilterL2().score(problem)
        scores = []
        for group, norm in zip(problem.groups.groups, norms, strict=True):
            by_distance = list(np.argsort(_distances(problem, group), kind="stable"))
            by_norm = list(np.argsort(norm, kind="stable"))
            score = np.zeros(group.size)
            for rank in range(group.size):
                chosen = (by_norm if (rank + 1) % _NORM_EVERY == 0 else by_distance)[0]
                by_distance.remove(chosen)
                by_norm.remove(chosen)
                score[chosen] = (rank + 1) / group.size
            scores.append(score)
        return scores


def _distances(problem: PruningProblem, group: ChannelGroup) -> Array:
    score = np.zeros(group.size)
    for member in group.producers:
        weight = np.moveaxis(problem.array(member.parameter), member.axis, 0)
        rows = weight.reshape(weight.shape[0], -1)
        mine = member.unit >= 0
        rows, unit = rows[mine], member.unit[mine]
        squares = np.square(rows).sum(axis=1)
        distances = np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2 * rows @ rows.T, 0))
        score += np.bincount(unit, weights=distances.sum(axis=1), minlength=group.size)
    return score
