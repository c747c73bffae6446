"""The first-order change of the loss when a channel goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from compress.channels.graph import Array
from compress.prune.criteria import Criterion, criteria
from compress.prune.gradients import batch_gradients
from compress.prune.problem import PruningProblem


@criteria.register("taylor")
@dataclass(frozen=True)
class Taylor(Criterion):
    """The first-order Taylor term of the loss when a channel is removed.

    `weights`: s_c = mean over batches of (Σ_{w ∈ c} g_w w)² over the filters that produce the channel, g the gradient
    of the batch's mean loss. `activations`: s_c = mean over samples of |Σ g_a a| over the channel's values wherever
    they are read, divided by the layer's Euclidean norm of these.

    Args:
        of: `weights` (2019) or `activations` (2016).
        batch: samples a batch; `weights` only.

    Raises:
        DataError: if there are no samples.

    Source: P. Molchanov, A. Mallya, S. Tyree, I. Frosio, J. Kautz, "Importance Estimation for Neural Network Pruning",
        2019, equation (8); P. Molchanov, S. Tyree, T. Karras, T. Aila, J. Kautz, "Pruning Convolutional Neural Networks
        for Resource Efficient Inference", 2017, equations (7) and (9). Σ g_a a over all reads of a channel equals
        Σ g_w w over the columns that read it, which is what is computed. Where a sum couples layers, one unit has the
        filters, or columns, of all.
    """

    of: Literal["weights", "activations"] = "weights"
    batch: Annotated[int, Field(ge=1)] = 16

    def score(self, problem: PruningProblem) -> list[Array]:
        """Returns the terms, one array a group."""
        role, size = ("out", self.batch) if self.of == "weights" else ("in", 1)
        total = [np.zeros(group.size) for group in problem.groups.groups]
        count = 0
        for gradients in batch_gradients(problem, size):
            count += 1
            for index, group in enumerate(problem.groups.groups):
                terms = np.zeros(group.size)
                for member in problem.members(group, role):
                    products = gradients[member.parameter] * problem.array(member.parameter)
                    terms += problem.per_unit(group, member, products)
                total[index] += np.square(terms) if self.of == "weights" else np.abs(terms)
        means = [sums / count for sums in total]
        return means if self.of == "weights" else [_normalised(mean) for mean in means]


def _normalised(score: Array) -> Array:
    norm = np.linalg.norm(score)
    return score / norm if norm > 0 else score
