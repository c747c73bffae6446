"""Channels by what the next layer's output loses with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from compress.channels.graph import Array
from compress.prune.criteria import Criterion, criteria
from compress.prune.problem import PruningProblem
from compress.prune.readings import readers
from compress.prune.refitting import Moments, damped, moments, rebuild, unit_gram

_RIDGE = 1e-6


@criteria.register("thinet")
@dataclass(frozen=True)
class ThiNet(Criterion):
    """The greedy subset of input channels that best rebuilds the next layer's output; what stays is then rescaled.

    With x̂_ic what channel c contributes to sampled output i, T grows by the channel of least Σ_i (Σ_{j ∈ T} x̂_ij)²;
    a channel's score is that error when it goes, over the output's energy, never below that of the channels gone
    before it. Then ŵ = argmin Σ_i (y_i − Σ_{c ∉ T} w_c x̂_ic)² scales the weights that read each remaining channel.

    Args:
        positions: drawn from each image.

    Raises:
        DataError: if there are no samples.
        NetworkError: if something else than a convolution or linear layer reads channels that may go.

    Source: J.-H. Luo, J. Wu, W. Lin, "ThiNet: A Filter Level Pruning Method for Deep Neural Network Compression",
        2017, equations (6) and (7), algorithm 1. There one output channel of each position is drawn, here all count;
        where several layers read a channel, their errors relative to their outputs' energies are added, and each layer
        has scales of its own. Layers are rescaled in order, on what the cut layers before them hand on. A survey (Ling,
        §3.1) describes clusters and a "feature reuse rate" instead: the paper has neither.
    """

    positions: Annotated[int, Field(ge=1)] = 10

    def score(self, problem: PruningProblem) -> list[Array]:
        """Returns the errors, one array a group; zeros for groups that stay."""
        scores = []
        for index, group in enumerate(problem.groups.groups):
            total = np.zeros((group.size, group.size))
            for layer, unit in readers(problem, index):
                seen = moments(problem, layer, positions=self.positions)
                found = unit_gram(seen.gram, layer.rows(problem.array(layer.parameter)), unit, group.size)
                energy = found.sum()
                total += found[:-1, :-1] / energy if energy > 0 else 0
            scores.append(greedy_errors(total))
        return scores

    def reconstruct(self, problem: PruningProblem, keep: Array) -> Mapping[str, Array]:
        """Returns the rescaled weights of all layers that lose inputs."""
        return rebuild(problem, keep, rescaled, self.positions)


def greedy_errors(gram: Array) -> Array:
    """Returns the error of each channel when the greedy algorithm takes it.

    Args:
        gram: Σ_i x̂_ic x̂_ic'. Shape: [C, C].

    Returns:
        Rising in the order of removal. Shape: (C,).
    """
    size = len(gram)
    scores, error, last = np.zeros(size), 0.0, -np.inf
    with_gone = np.zeros(size)
    left = list(range(size))
    while left:
        errors = error + np.diag(gram)[left] + 2 * with_gone[left]
        chosen = left[int(np.argmin(errors))]
        error = float(errors.min())
        last = scores[chosen] = max(error, float(np.nextafter(last, np.inf)))
        with_gone += gram[chosen]
        left.remove(chosen)
    return scores


def rescaled(seen: Moments, rows: Array, stays: Array, unit: Array) -> Array:
    """Returns a weight whose remaining channels are scaled to rebuild the whole layer's output.

    Args:
        seen: moments of what the layer reads now.
        rows: its weight, [g, O/g, D].
        stays: of each column. Shape: (D,).
        unit: of each column; columns of no unit keep their weights.
    """
    kept = rows * stays
    free = np.unique(unit[stays & (unit >= 0)])
    local = np.where(stays & (unit >= 0), np.searchsorted(free, unit), -1)
    gram = unit_gram(seen.gram, kept, local, free.size)
    goal = (kept * seen.cross.swapaxes(1, 2)).sum(axis=(0, 1)) @ np.eye(free.size + 1)[local]
    missing = (goal - gram.sum(axis=1))[:-1]
    scale = np.append(1 + np.linalg.solve(damped(gram[:-1, :-1], _RIDGE), missing), 1.0)
    found: Array = kept * scale[local]
    return found
