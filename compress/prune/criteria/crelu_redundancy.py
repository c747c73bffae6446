"""Filters that another one of opposite phase stands for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from compress.channels.graph import Array
from compress.channels.groups import ChannelGroup
from compress.prune.criteria import Criterion, criteria
from compress.prune.phases import cosines, phase_report
from compress.prune.problem import PruningProblem


@criteria.register("crelu-redundancy")
@dataclass(frozen=True)
class OppositePhase(Criterion):
    """How far a filter is from the negative of another one; of each pair of opposite phase one goes.

    μ_i = min_j cos(φ_i, φ_j). Of the two filters with the least cosine the one of smaller norm goes, with score
    1 + cos; then of those that are left, and so on. The last one has score 2, filters that are zero have 0. The cut
    reports the phases of every layer beside those of random filters.

    Source: W. Shang, K. Sohn, D. Almeida, H. Lee, "Understanding and Improving Convolutional Neural Networks via
        Concatenated Rectified Linear Units", 2016, §2.1. The paper finds this redundancy and builds it into the
        activation; taking the filters away instead is ours: `crelu.rebuild_as_crelu` keeps both phases at half the
        filters. Where a sum couples layers, a channel's filter is those of all layers that produce it, one after the
        other.
    """

    def findings(self, problem: PruningProblem) -> dict[str, Any]:
        """Returns the phases of every convolution."""
        return {"phases": [layer.to_dict() for layer in phase_report(problem.network, seed=problem.seed)]}

    def score(self, problem: PruningProblem) -> list[Array]:
        """Returns 1 + cos, one array a group."""
        return [redundancy(_filters(problem, group)) for group in problem.groups.groups]


def redundancy(filters: Array) -> Array:
    """Returns the scores of filters [C, D]. Shape: (C,)."""
    norms = np.linalg.norm(filters, axis=1)
    scores = np.where(norms > 0, 2.0, 0.0)
    left = [int(one) for one in np.flatnonzero(norms > 0)]
    angles = cosines(filters)
    while len(left) > 1:
        among = angles[np.ix_(left, left)]
        first, second = (left[index] for index in np.unravel_index(np.argmin(among), among.shape))
        gone = first if norms[first] <= norms[second] else second
        scores[gone] = 1 + angles[first, second]
        left.remove(gone)
    return scores


def _filters(problem: PruningProblem, group: ChannelGroup) -> Array:
    """Returns for each unit all the weights that produce it, one after the other. Shape: [size, weights]."""
    parts = []
    for member in group.producers:
        weight = problem.array(member.parameter)
        rows = np.moveaxis(weight, member.axis, 0).reshape(weight.shape[member.axis], -1)
        positions = [np.flatnonzero(member.unit == unit) for unit in range(group.size)]
        most = max(len(found) for found in positions)
        part = np.zeros((group.size, most, rows.shape[1]))
        for unit, found in enumerate(positions):
            part[unit, : len(found)] = rows[found]
        parts.append(part.reshape(group.size, -1))
    return np.concatenate(parts, axis=1) if parts else np.zeros((group.size, 1))
