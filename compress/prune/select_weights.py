"""From scores of single weights to those that remain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from compress.channels.graph import Array
from compress.errors import NetworkError, RecipeError
from compress.recipe import PruneSettings

if TYPE_CHECKING:
    from compress.prune.problem import PruningProblem


def select_weights(problem: PruningProblem, scores: Mapping[str, Array], settings: PruneSettings) -> dict[str, Array]:
    """Keeps the weights with the highest scores; equal ones fall by parameter, then by position, the first first.

    Args:
        problem: the network.
        scores: by parameter; the lowest go.
        settings: `ratio` is the share of these weights that goes, of each layer or of all together as `scope` says;
            `threshold` lets all go whose score is not above it.

    Returns:
        By parameter, which of its weights remain. Booleans of its shape.

    Raises:
        RecipeError: if the ratio counts something else than parameters.
        NetworkError: if a score is not a number.
    """
    for name, score in scores.items():
        if not np.isfinite(score).all():
            raise NetworkError(f"parameter {name!r} has scores that are not finite numbers", next_step="check it")
    if settings.threshold is not None:
        return {name: score > settings.threshold for name, score in scores.items()}
    if settings.of != "parameters":
        raise RecipeError(
            f"[prune] method {settings.method!r} takes single weights, which leave no channel and no MAC of a layer",
            got=f"of = {settings.of!r}",
            allowed="of = 'parameters'",
        )
    if settings.scope == "layer":
        return {name: _keep(score, settings.ratio) for name, score in scores.items()}
    flat = _keep(np.concatenate([score.reshape(-1) for score in scores.values()]), settings.ratio)
    ends = np.cumsum([score.size for score in scores.values()])[:-1]
    pieces = zip(scores.items(), np.split(flat, ends), strict=True)
    return {name: piece.reshape(score.shape) for (name, score), piece in pieces}


def share_of_weights(problem: PruningProblem, settings: PruneSettings) -> float:
    """Returns the ratio of `select_weights` with which at least a share of all parameters goes.

    Args:
        problem: the network; its biases and normalisations stay, so more of its weights go.
        settings: `ratio` is the share of all parameters.

    Raises:
        NetworkError: if even without any weight too much is left.
    """
    weights = sum(problem.tensor(name).numel() for name in problem.weights)
    parameters = problem.cost.everything().parameters
    # Rounding leaves up to half a weight of each layer.
    share = (settings.ratio * parameters + len(problem.weights) / 2) / weights
    if share >= 1:
        raise NetworkError(
            f"[prune] ratio {settings.ratio} of parameters cannot be reached: weights are {weights / parameters:.3f}",
            next_step="lower ratio, or let more weights go (exclude)",
        )
    return share


def _keep(score: Array, ratio: float) -> Array:
    keep = np.ones(score.size, dtype=bool)
    keep[np.argsort(score.reshape(-1), kind="stable")[: round(score.size * ratio)]] = False
    return keep.reshape(score.shape)
