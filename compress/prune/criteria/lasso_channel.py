"""Channels by LASSO on what they contribute to the next layer's output."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import lars_path_gram

from compress.channels.graph import Array
from compress.prune.criteria import Criterion, criteria
from compress.prune.problem import PruningProblem
from compress.prune.readings import readers
from compress.prune.refitting import Moments, damped, moments, rebuild, unit_gram

_RIDGE = 1e-6


@criteria.register("lasso-channel")
@dataclass(frozen=True)
class LassoChannel(Criterion):
    """LASSO on what input channels contribute to the next layer's output; then its weights by least squares.

    β(λ) = argmin ½ ‖Y − Σ_c β_c X_c W_cᵀ‖² + λ ‖β‖₁; a channel's score is the largest λ, over the output's energy, at
    which β_c ≠ 0, so that a rising λ drops the lowest scores first. Then W' = argmin ‖Y − Σ_{c left} X_c W'_cᵀ‖².

    Args:
        positions: drawn from each image.

    Raises:
        DataError: if there are no samples.
        NetworkError: if something else than a convolution or linear layer reads channels that may go.

    Source: Y. He, X. Zhang, J. Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", 2017, equations (1)
        to (5), LASSO by scikit-learn's LARS. There λ rises until enough coefficients are zero; the whole path gives the
        same choice for every ratio but where a coefficient returns to zero. Where several layers read a channel, their
        errors relative to their outputs' energies are added; layers are refitted in order, on what the cut layers
        before them hand on. A channel that others replace exactly has score 0.
    """

    positions: Annotated[int, Field(ge=1)] = 10

    def score(self, problem: PruningProblem) -> list[Array]:
        """Returns the λ, one array a group; zeros for groups that stay."""
        scores = []
        for index, group in enumerate(problem.groups.groups):
            gram, goal = np.zeros((group.size, group.size)), np.zeros(group.size)
            for layer, unit in readers(problem, index):
                seen = moments(problem, layer, positions=self.positions)
                found = unit_gram(seen.gram, layer.rows(problem.array(layer.parameter)), unit, group.size)
                energy = found.sum()
                if energy > 0:
                    gram += found[:-1, :-1] / energy
                    # Y holds what channels of other groups contribute too.
                    goal += found[:-1].sum(axis=1) / energy
            scores.append(entries(gram, goal))
        return scores

    def reconstruct(self, problem: PruningProblem, keep: Array) -> Mapping[str, Array]:
        """Returns the refitted weights of all layers that lose inputs."""
        return rebuild(problem, keep, refitted, self.positions)


def entries(gram: Array, goal: Array) -> Array:
    """Returns the largest λ at which each coefficient is not zero.

    Args:
        gram: Σ x_c x_c'. Shape: [C, C].
        goal: Σ x_c y. Shape: (C,).
    """
    scores = np.zeros(goal.size)
    if not goal.any():
        return scores
    with warnings.catch_warnings():
        # Channels that others replace exactly are dropped from the path, which is what is wanted.
        warnings.simplefilter("ignore", ConvergenceWarning)
        levels, _, path = lars_path_gram(goal, gram, n_samples=1, method="lasso")
    for channel, coefficients in enumerate(path):
        nonzero = np.flatnonzero(coefficients)
        if nonzero.size:
            # It has left zero at the knot before the first at which it is seen off it.
            scores[channel] = levels[max(nonzero[0] - 1, 0)]
    return scores


def refitted(seen: Moments, rows: Array, stays: Array, unit: Array) -> Array:
    """Returns the weight that rebuilds the whole layer's output from the columns that remain.

    Args:
        seen: moments of what the layer reads now.
        rows: its weight, [g, O/g, D].
        stays: of each column. Shape: (D,).
        unit: of each column; all columns are fitted one by one.
    """
    found = np.zeros_like(rows)
    index = np.flatnonzero(stays)
    gram = seen.gram[:, index[:, None], index]
    missing = seen.cross[:, index] - gram @ rows[:, :, index].swapaxes(1, 2)
    # The ridge pulls towards the weights as they were: positions too few to settle them change them least.
    found[:, :, index] = rows[:, :, index] + np.linalg.solve(damped(gram, _RIDGE), missing).swapaxes(1, 2)
    return found
