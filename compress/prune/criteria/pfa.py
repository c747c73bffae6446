"""Principal filter analysis: the spectrum of a layer's responses says how many channels, correlation says which."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compress.channels.graph import Array
from compress.errors import NetworkError
from compress.prune.activations import FeatureMaps, feature_maps
from compress.prune.criteria import Criterion, criteria
from compress.prune.problem import PruningProblem


@criteria.register("pfa")
@dataclass(frozen=True)
class PrincipalFilterAnalysis(Criterion):
    """The share of a layer's response energy that is lost with the channel, the most correlated channel going first.

    A channel's response to a sample is the maximum of its feature map. Channels go in the order of the sum of their
    absolute correlations with those that are left; the one that goes when k are left has the k-th largest eigenvalue of
    the covariance, over the sum of all, as its score. With scope `global` a ratio then leaves each layer those that
    explain its spectrum.

    Raises:
        NetworkError: if units that may go have no feature map.

    Source: X. Suau, L. Zappella, N. Apostoloff, "Filter Distillation for Network Compression" ("Principal Filter
        Analysis"), 2018, §3.2 (PFA-En) and §3.4. There the energy to keep is given and the ratio follows; here the
        ratio is given, and one energy threshold for all layers follows. Where several tensors carry a residual stream,
        its responses to a sample are those of all of them, one after the other.
    """

    def score(self, problem: PruningProblem) -> list[Array]:
        """Returns the eigenvalues' shares, one array a group."""
        scores = []
        may_go = problem.groups.split(problem.prunable)
        for group, prunable, found in zip(problem.groups.groups, may_go, feature_maps(problem), strict=True):
            seen = [maps for maps in found if set(range(group.size)) <= set(maps.unit.tolist())]
            if not seen and prunable.any():
                raise NetworkError(
                    f"channel group {group.name!r} has no feature map [N, C, …] that carries all of its channels",
                    next_step=f"leave {group.name!r} out in [prune] exclude, or choose method 'hrank'",
                )
            responses = [_responses(maps, group.size) for maps in seen]
            scores.append(spectrum_scores(np.concatenate(responses)) if responses else np.zeros(group.size))
        return scores


def _responses(maps: FeatureMaps, size: int) -> Array:
    """Returns the largest value of each unit in each sample. Shape: [N, size]."""
    highest = maps.values.reshape(*maps.values.shape[:2], -1).max(axis=2).astype(np.float64)
    found = np.full((len(highest), size), -np.inf)
    for position, unit in enumerate(maps.unit):
        if unit >= 0:
            found[:, unit] = np.maximum(found[:, unit], highest[:, position])
    return found


def spectrum_scores(responses: Array) -> Array:
    """Returns the scores of channels from their responses [N, C]. Shape: (C,)."""
    size = responses.shape[1]
    centred = responses - responses.mean(axis=0)
    covariance = centred.T @ centred / len(responses)
    spectrum = np.maximum(np.linalg.eigvalsh(covariance)[::-1], 0)
    shares = spectrum / spectrum.sum() if spectrum.sum() > 0 else np.zeros(size)
    deviations = np.sqrt(np.diag(covariance))
    scale = np.outer(deviations, deviations)
    correlation = np.divide(np.abs(covariance), scale, out=np.zeros_like(covariance), where=scale > 0)
    # A channel that never changes says nothing: it goes before all others.
    correlation[:, deviations == 0] = correlation[deviations == 0, :] = 1
    left, scores = list(range(size)), np.zeros(size)
    while left:
        sums = correlation[np.ix_(left, left)].sum(axis=1)
        # Of two that are correlated alike, the one that varies less goes.
        position = min(range(len(left)), key=lambda i: (-round(float(sums[i]), 9), deviations[left[i]], left[i]))
        scores[left[position]] = shares[len(left) - 1]
        del left[position]
    return scores
