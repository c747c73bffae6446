"""Optimal brain damage: the second-order increase of the loss when a weight goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from compress.channels.graph import Array
from compress.prune.criteria import WeightCriterion, criteria
from compress.prune.curvature import Kind, hessian_diagonal
from compress.prune.problem import PruningProblem


@criteria.register("obd")
@dataclass(frozen=True)
class OptimalBrainDamage(WeightCriterion):
    """The increase of the loss when a weight goes, to second order, at a minimum, other weights left as they are.

    s_k = ½ h_kk w_k², h_kk = ∂²L/∂w_k² on the samples.

    Args:
        hessian: `gauss-newton`, exact but for the network's own second derivatives; `hutchinson`, an unbiased estimate
            of h_kk itself, which may be negative.
        draws: of random signs; `hutchinson` only.

    Raises:
        DataError: if there are no samples.
        NetworkError: if `gauss-newton` cannot differentiate the network sample by sample.

    Source: Y. LeCun, J. S. Denker, S. A. Solla, "Optimal Brain Damage", 1990, equation (5). There h_kk is passed back
        layer by layer, leaving out all that is off the diagonal at each layer; `gauss-newton` leaves nothing out on the
        way, as the paper's Levenberg-Marquardt form does it drops the second derivatives of the activations.
    """

    hessian: Kind = "gauss-newton"
    draws: Annotated[int, Field(ge=1)] = 16

    def score(self, problem: PruningProblem) -> dict[str, Array]:
        """Returns the saliencies."""
        diagonal = hessian_diagonal(problem, self.hessian, self.draws)
        return {name: diagonal[name] * np.square(problem.array(name)) / 2 for name in problem.weights}
