"""The share of zeros in a feature map."""

from __future__ import annotations

from dataclasses import dataclass

from compress.channels.graph import Array
from compress.prune.activations import mean_over_maps
from compress.prune.criteria import Criterion, criteria
from compress.prune.problem import PruningProblem


@criteria.register("apoz")
@dataclass(frozen=True)
class AveragePercentageOfZeros(Criterion):
    """The mean share of values that are not zero after the activation; channels that are mostly zero go.

    s_c = 1 − APoZ_c, APoZ_c = mean over samples and positions of [a_c = 0]. Where several layers read a channel at
    different places of a residual stream, the mean over these places.

    Source: H. Hu, R. Peng, Y.-W. Tai, C.-K. Tang, "Network Trimming: A Data-Driven Neuron Pruning Approach towards
        Efficient Deep Architectures", 2016, equation (1).
    """

    def score(self, problem: PruningProblem) -> list[Array]:
        """Returns the shares, one array a group."""
        return mean_over_maps(problem, _alive)


def _alive(maps: Array) -> Array:
    shares: Array = (maps != 0).reshape(maps.shape[0], maps.shape[1], -1).mean(axis=(0, 2))
    return shares
