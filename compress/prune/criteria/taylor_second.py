"""The second-order change of the loss when a channel goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from compress.channels.graph import Array
from compress.prune.criteria import Criterion, criteria
from compress.prune.curvature import Kind, hessian_diagonal
from compress.prune.gradients import batch_gradients
from compress.prune.problem import PruningProblem


@criteria.register("taylor-2")
@dataclass(frozen=True)
class TaylorSecond(Criterion):
    """The Taylor expansion of the loss when a channel is removed, to the diagonal second-order term.

    s_c = mean over batches of (Σ_{w ∈ c} (g_w w − ½ h_w w²))² over the filters that produce the channel, g the gradient
    of the batch's mean loss, h = ∂²L/∂w² of the loss of all samples.

    Args:
        batch: samples a batch, for g.
        hessian: `gauss-newton`, exact but for the network's own second derivatives; `hutchinson`, an unbiased estimate
            of h itself.
        draws: of random signs; `hutchinson` only.

    Raises:
        DataError: if there are no samples.
        NetworkError: if `gauss-newton` cannot differentiate the network sample by sample.

    Source: P. Molchanov, A. Mallya, S. Tyree, I. Frosio, J. Kautz, "Importance Estimation for Neural Network Pruning",
        2019, equation (7). There w_m H_m w takes a whole row of the Hessian; here its diagonal, as `obd` takes it.
        Where a sum couples layers, one unit has the filters of all.
    """

    batch: Annotated[int, Field(ge=1)] = 16
    hessian: Kind = "gauss-newton"
    draws: Annotated[int, Field(ge=1)] = 16

    def score(self, problem: PruningProblem) -> list[Array]:
        """Returns the terms, one array a group."""
        curvature = hessian_diagonal(problem, self.hessian, self.draws)
        total = [np.zeros(group.size) for group in problem.groups.groups]
        count = 0
        for gradients in batch_gradients(problem, self.batch):
            count += 1
            for index, group in enumerate(problem.groups.groups):
                terms = np.zeros(group.size)
                for member in group.producers:
                    weight = problem.array(member.parameter)
                    change = gradients[member.parameter] * weight - curvature[member.parameter] * weight**2 / 2
                    terms += problem.per_unit(group, member, change)
                total[index] += np.square(terms)
        return [sums / count for sums in total]
