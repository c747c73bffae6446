"""The magnitude of single weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from compress.channels.graph import Array
from compress.prune.criteria import WeightCriterion, criteria
from compress.prune.problem import PruningProblem

# Axes of W[O, I, kH, kW] over which the weights of one part are added up.
_PARTS = {"weight": (), "kernel": (2, 3, 4), "stripe": (1,), "shape": (0,)}


@criteria.register("magnitude")
@dataclass(frozen=True)
class Magnitude(WeightCriterion):
    """The absolute value of each weight; or of parts of a filter, which go as a whole.

    s = |w|. For parts, the Euclidean norm of the part over the square root of its size, given to each of its weights.

    Args:
        part: `weight`; `kernel` W[o, i, :, :]; `stripe` W[o, :, x, y]; `shape` W[:, i, x, y], the column that all
            filters share.

    Source: S. Han, J. Pool, J. Tran, W. J. Dally, "Learning both Weights and Connections for Efficient Neural
        Networks", 2015, §3. Stripes: F. Meng et al., "Pruning Filter in Filter", 2020; shapes: W. Wen, C. Wu, Y. Wang,
        Y. Chen, H. Li, "Learning Structured Sparsity in Deep Neural Networks", 2016.
    """

    part: Literal["weight", "kernel", "stripe", "shape"] = "weight"

    def score(self, problem: PruningProblem) -> dict[str, Array]:
        """Returns the magnitudes."""
        return {name: self._score(problem.array(name)) for name in problem.weights}

    def _score(self, weight: Array) -> Array:
        axes = tuple(axis for axis in _PARTS[self.part] if axis < weight.ndim)
        if not axes:
            return np.abs(weight)
        norms: Array = np.sqrt(np.square(weight).mean(axis=axes, keepdims=True))
        return np.broadcast_to(norms, weight.shape)
