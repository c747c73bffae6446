"""Optimal brain surgeon: a weight goes, and all others of its layer make up for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from compress.channels.graph import Array
from compress.prune.criteria import WeightCriterion, criteria
from compress.prune.problem import PruningProblem
from compress.prune.readings import layer_of
from compress.prune.refitting import damped, moments


@criteria.register("obs")
@dataclass(frozen=True)
class OptimalBrainSurgeon(WeightCriterion):
    """What a layer's output loses with a weight when its other weights make up for it as well as they can.

    s_q = w_q² / (2 [H⁻¹]_qq), H = E[x xᵀ] + λI over what the layer reads, one block for each output. Of the weights Q
    that go from an output, all at once, the others change by the minimiser of ½ δᵀHδ with δ_Q = −w_Q:
    δ_S = H_SS⁻¹ H_SQ w_Q.

    Args:
        damping: λ over the mean of H's diagonal.

    Raises:
        DataError: if there are no samples.
        NetworkError: if a weight is not that of a convolution or linear layer; it is named.

    Source: B. Hassibi, D. G. Stork, "Second Order Derivatives for Network Pruning: Optimal Brain Surgeon", 1993,
        equation (5). There H is that of the loss, and weights go one by one; here it is that of ½‖y − y'‖² of each
        layer's output, which is exact for it (X. Dong, S. Chen, S. J. Pan, "Learning to Prune Deep Neural Networks via
        Layer-wise Optimal Brain Surgeon", 2017, equation (4)), and the update is the exact one for all of Q together.
    """

    damping: Annotated[float, Field(gt=0)] = 1e-3

    def score(self, problem: PruningProblem) -> dict[str, Array]:
        """Returns the saliencies."""
        scores = {}
        for name in problem.weights:
            layer, weight = layer_of(problem, name), problem.array(name)
            inverse = np.linalg.inv(damped(moments(problem, layer).gram, self.damping))
            diagonal = np.diagonal(inverse, axis1=1, axis2=2)[:, None]
            scores[name] = (np.square(layer.rows(weight)) / (2 * diagonal)).reshape(weight.shape)
        return scores

    def reconstruct(self, problem: PruningProblem, held: Mapping[str, Array]) -> Mapping[str, Array]:
        """Returns the updated weights of all layers that lose some."""
        values = {}
        for name, mask in held.items():
            if not mask.all():
                layer, weight = layer_of(problem, name), problem.array(name)
                hessian = damped(moments(problem, layer).gram, self.damping)
                values[name] = updated(layer.rows(weight), hessian, layer.rows(mask)).reshape(weight.shape)
        return values


def updated(rows: Array, hessian: Array, stays: Array) -> Array:
    """Returns the weights after the update.

    Args:
        rows: [g, O/g, D].
        hessian: [g, D, D].
        stays: which weights remain. Shape: [g, O/g, D], booleans.
    """
    found = np.where(stays, rows, 0.0)
    for group, output in np.argwhere(~stays.all(axis=2)):
        kept = np.flatnonzero(stays[group, output])
        gone = np.flatnonzero(~stays[group, output])
        block = hessian[group]
        pull = block[np.ix_(kept, gone)] @ rows[group, output, gone]
        found[group, output, kept] += np.linalg.solve(block[np.ix_(kept, kept)], pull)
    return found
