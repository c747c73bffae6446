"""Channels by how much their share in the next layer's outputs varies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from compress.channels.graph import Array
from compress.prune.criteria import Criterion, criteria
from compress.prune.problem import PruningProblem
from compress.prune.readings import Layer, read, readers


@criteria.register("activity-variance")
@dataclass(frozen=True)
class ActivityVariance(Criterion):
    """The variance over samples of what a channel contributes to the outputs that read it.

    σ_ts = var ‖W_ts ∗ X_s‖_F over samples, X_s channel s, W_ts the weights by which output t reads it; s_s = mean of
    σ_ts over the outputs t of all layers that read it.

    Raises:
        DataError: if there are no samples.
        NetworkError: if something else than a convolution or linear layer reads channels that may go.

    Source: A. Polyak, L. Wolf, "Channel-Level Acceleration of Deep Face Representations", 2015, "inbound pruning".
        There the inputs of each output are pruned by themselves; a channel goes for all that read it, hence the mean.
    """

    def score(self, problem: PruningProblem) -> list[Array]:
        """Returns the variances, one array a group; zeros for groups that stay."""
        scores = []
        for index, group in enumerate(problem.groups.groups):
            found = [_variances(problem, layer, unit, group.size) for layer, unit in readers(problem, index)]
            outputs = sum(len(one) for one in found)
            scores.append(sum((one.sum(axis=0) for one in found), np.zeros(group.size)) / max(outputs, 1))
        return scores


def _variances(problem: PruningProblem, layer: Layer, unit: Array, size: int) -> Array:
    """Returns σ_ts for each output t of a layer and each unit s. Shape: [O, size]."""
    weight = torch.from_numpy(layer.rows(problem.array(layer.parameter)))  # [g, O/g, D]
    columns = [torch.from_numpy(np.flatnonzero(unit == number)) for number in range(size)]
    norms: list[torch.Tensor] = []
    for calls in read(problem, layer):
        squares = torch.zeros(calls[0].shape[0], *weight.shape[:2], size, dtype=torch.float64)
        for inputs in calls:
            x = inputs.cpu().double()
            for number, index in enumerate(columns):
                parts = torch.einsum("npgd,god->npgo", x[..., index], weight[..., index])
                squares[..., number] += parts.square().sum(1)
        norms.append(squares.sqrt())
    found: Array = torch.cat(norms).var(0, correction=0).reshape(-1, size).numpy()
    return found
