"""Neuron importance score propagation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from compress.channels.graph import Array
from compress.prune.criteria import Criterion, criteria
from compress.prune.passing_back import pass_back
from compress.prune.problem import PruningProblem
from compress.prune.readings import final_inputs


@criteria.register("nisp")
@dataclass(frozen=True)
class ImportancePropagation(Criterion):
    """The importance of the final responses, passed back to every channel.

    Final responses are what the last layer reads. Inf-FS ranks them: A_ij = α max(σ_i, σ_j) + (1 − α)(1 − |ρ_ij|), σ
    their deviations over the samples, the largest being 1, ρ their rank correlations; s = ((I − r A)⁻¹ − I) 1,
    r = factor / ρ(A). Before layer n, s_{n−1} = |W_n|ᵀ s_n; a channel's score is the sum over its positions.

    Args:
        alpha: α, the weight of deviation beside that of difference.
        factor: of r; long paths through the graph of responses count the more the nearer it is to 1.

    Raises:
        DataError: if there are no samples.
        NetworkError: if responses are multiplied or normalised with one another.

    Source: R. Yu et al., "NISP: Pruning Networks using Neuron Importance Score Propagation", 2018, §3.3 and equation
        (19); G. Roffo, S. Melzi, M. Cristani, "Infinite Feature Selection", 2015, §2. A channel's responses are those
        of the layers that produce it, before their BatchNorm, whose |γ| / √(v + ε) is a weight like others; of all of
        them where a sum couples layers. A maximum shares its importance evenly in its window. A response that never
        changes counts as like all others.
    """

    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.9

    def score(self, problem: PruningProblem) -> list[Array]:
        """Returns the importances, one array a group; zeros for groups that stay."""
        final, inputs = final_inputs(problem)
        scores = infinite_feature_selection(inputs.flatten(1).cpu().numpy().astype(np.float64), self.alpha, self.factor)
        importance = torch.from_numpy(scores).reshape(1, *inputs.shape[1:]).to(inputs.device)
        prunable = problem.groups.split(problem.prunable)
        groups = [g for g, may_go in zip(problem.groups.groups, prunable, strict=True) if may_go.any()]
        names = sorted({member.parameter for group in groups for member in group.producers})
        passed = pass_back(problem, final, importance, names)
        found = []
        for group in problem.groups.groups:
            score = np.zeros(group.size)
            for member in group.producers:
                if member.parameter in passed:
                    mine = member.unit >= 0
                    np.add.at(score, member.unit[mine], passed[member.parameter].cpu().numpy()[mine])
            found.append(score)
        return found


def infinite_feature_selection(responses: Array, alpha: float, factor: float) -> Array:
    """Returns the importance of each response.

    Args:
        responses: [N, F].
        alpha: see `ImportancePropagation`.
        factor: see `ImportancePropagation`.

    Returns:
        Not negative. Shape: (F,).
    """
    deviations = responses.std(axis=0)
    if not deviations.any():
        return np.ones(len(deviations))
    relative = deviations / deviations.max()
    ranks = np.stack([_ranks(column) for column in responses.T], axis=1)
    ranks -= ranks.mean(axis=0)
    lengths = np.sqrt(np.square(ranks).sum(axis=0))
    scale = np.outer(lengths, lengths)
    alike = np.divide(np.abs(ranks.T @ ranks), scale, out=np.ones_like(scale), where=scale > 0)
    affinity = alpha * np.maximum.outer(relative, relative) + (1 - alpha) * (1 - np.minimum(alike, 1))
    radius = np.abs(np.linalg.eigvalsh(affinity)).max()
    if radius == 0:
        return np.ones(len(deviations))
    size = len(affinity)
    found: Array = np.linalg.solve(np.eye(size) - factor / radius * affinity, np.ones(size)) - 1
    return found


def _ranks(values: Array) -> Array:
    """Returns the ranks of values; equal ones share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    found: Array = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return found
