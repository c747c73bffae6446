"""The scale that BatchNorm gives a channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compress.channels.graph import Array
from compress.errors import NetworkError
from compress.prune.criteria import Criterion, criteria
from compress.prune.problem import PruningProblem


@criteria.register("bn-scale")
@dataclass(frozen=True)
class BatchNormScale(Criterion):
    """The magnitude of a channel's BatchNorm scale.

    s_c = |γ_c|. Where a sum couples layers, the sum over the scales of all of them.

    Raises:
        NetworkError: if channels that may go have no scale; the group is named.

    Source: Z. Liu, J. Li, Z. Shen, G. Huang, S. Yan, C. Zhang, "Learning Efficient Convolutional Networks through
        Network Slimming", 2017, §3. There a residual stream is read through a selection layer and never cut; here it
        is cut like any other group.
    """

    def score(self, problem: PruningProblem) -> list[Array]:
        """Returns |γ|, one array a group; zeros for groups that stay."""
        scores = []
        for group, may_go in zip(problem.groups.groups, problem.groups.split(problem.prunable), strict=True):
            score = np.zeros(group.size)
            scaled = np.zeros(group.size, dtype=bool)
            for member in problem.members(group, "scale"):
                score += problem.per_unit(group, member, np.abs(problem.array(member.parameter)))
                scaled[member.unit[member.unit >= 0]] = True
            if (may_go & ~scaled).any():
                raise NetworkError(
                    f"channel group {group.name!r} has no BatchNorm scale to rank its channels by",
                    next_step=f"leave {group.name!r} out in [prune] exclude, or choose method 'filter-l1'",
                )
            scores.append(score)
        return scores
