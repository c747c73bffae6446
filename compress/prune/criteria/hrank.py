"""The rank of a feature map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compress.channels.graph import Array
from compress.prune.activations import mean_over_maps
from compress.prune.criteria import Criterion, criteria
from compress.prune.problem import PruningProblem


@criteria.register("hrank")
@dataclass(frozen=True)
class HighRank(Criterion):
    """The mean rank of a channel's feature maps over a batch; channels of low rank carry least.

    s_c = Σ_t rank(o_c(t)) / T over T samples, each map a matrix [H, W].

    Source: M. Lin, R. Ji, Y. Wang, Y. Zhang, B. Zhang, Y. Tian, L. Shao, "HRank: Filter Pruning using High-Rank Feature
        Map", 2020, equations (4) and (6). Where several layers read a channel at different places of a residual
        stream, the mean over these places; a channel that is one value, as in a linear layer, has rank 1 or 0.
    """

    def score(self, problem: PruningProblem) -> list[Array]:
        """Returns the ranks, one array a group."""
        return mean_over_maps(problem, mean_rank)


def mean_rank(maps: Array) -> Array:
    """Returns the mean rank over samples of maps [N, C, H, W]. Shape: (C,)."""
    matrices = maps.reshape(*maps.shape[:2], maps.shape[2] if maps.ndim > 3 else 1, -1)
    ranks: Array = np.linalg.matrix_rank(matrices).mean(axis=0)
    return ranks
