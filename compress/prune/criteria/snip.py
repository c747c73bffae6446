"""Connection sensitivity: what the loss feels of a weight before any training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compress.channels.graph import Array
from compress.errors import DataError
from compress.prune.criteria import WeightCriterion, criteria
from compress.prune.gradients import batch_gradients
from compress.prune.problem import PruningProblem, images_and_labels


@criteria.register("snip")
@dataclass(frozen=True)
class ConnectionSensitivity(WeightCriterion):
    """The share of a weight in the sensitivity of the loss to switching connections off; for `before-training`.

    s_j = |g_j| / Σ_k |g_k|, g_j = ∂L/∂c_j at c = 1 for weights c ⊙ w, which is w_j ∂L/∂w_j, over all weights at once;
    L is the mean loss of all samples as one batch, by which BatchNorm normalises, as in the first step of a training.

    Raises:
        DataError: if there are not at least two samples.

    Source: N. Lee, T. Ajanthan, P. H. S. Torr, "SNIP: Single-shot Network Pruning based on Connection Sensitivity",
        2019, equations (5) and (6), algorithm 1. Its scores compare layers only if the initial weights keep the
        variance of the signal from layer to layer (§4.2). That is up to the network's own initialisation: nothing is
        drawn anew here. Layers of torch, and the registered networks, start with variances in proportion to 1 / fan-in
        or 1 / fan-out; a network that does not needs `scope = "layer"`. Use it with schedule `before-training`.
    """

    def score(self, problem: PruningProblem) -> dict[str, Array]:
        """Returns the shares; they add up to 1."""
        _, labels = images_and_labels(problem)
        if len(labels) < 2:
            raise DataError("method 'snip' normalises by the batch", got="one image", next_step="raise [prune] samples")
        (gradients,) = batch_gradients(problem, len(labels), batch_statistics=True)
        found = {name: np.abs(gradients[name] * problem.array(name)) for name in problem.weights}
        total = sum(float(values.sum()) for values in found.values())
        return {name: values / total if total > 0 else values for name, values in found.items()}
