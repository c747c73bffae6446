"""What layers that read channels lose with them: a quadratic form in which channels there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from compress.channels.graph import Array
from compress.prune.problem import PruningProblem
from compress.prune.readings import Layer, readers
from compress.prune.refitting import moments, unit_gram


@dataclass(frozen=True)
class ReadingError:
    """Σ over layers of E‖y − Σ_c k_c z_c‖² / E‖y‖² = constant − 2 b·k + kᵀ G k.

    y is what a layer that reads a group computes in the whole network, z_c what channel c adds to it as the network is
    now, k_c whether it is there. With δw the weights that go, and x the layer's inputs, it is the second-order
    expansion ½ δwᵀ H δw of the layer's squared error, H = 2 E[x xᵀ], when nothing before it has been cut.

    Attributes:
        constant: how many layers there are.
        linear: b, the last entry of what belongs to no channel of the group. Shape: (C + 1,).
        gram: G. Shape: (C + 1, C + 1).
    """

    constant: float
    linear: Array
    gram: Array

    def __call__(self, there: Array) -> Array:
        """Returns the error of each of some choices.

        Args:
            there: which channels of the group there are, one choice a row. Shape: (S, C), booleans.

        Returns:
            Shape: (S,), float64.
        """
        k = np.append(there, np.ones((len(there), 1)), axis=1).astype(np.float64)
        found: Array = self.constant - 2 * k @ self.linear + np.einsum("si,ij,sj->s", k, self.gram, k, optimize=True)
        return found


def reading_error(problem: PruningProblem, index: int, cut: nn.Module, *, positions: int | None = None) -> ReadingError:
    """Returns the error of the layers that read a group, on the samples.

    Args:
        problem: with samples.
        index: of the group.
        cut: the problem's network as it is now, other channels having gone.
        positions: drawn from each image; default: all.

    Raises:
        DataError: if there are no samples.
        NetworkError: if something else than a convolution or linear layer reads channels that may go.
    """
    size = problem.groups.groups[index].size
    parts = [_of_layer(problem, layer, unit, size, cut, positions) for layer, unit in readers(problem, index)]
    return _sum(parts, size)


def _of_layer(
    problem: PruningProblem, layer: Layer, unit: Array, size: int, cut: nn.Module, positions: int | None
) -> ReadingError:
    rows = layer.rows(problem.array(layer.parameter))
    whole = moments(problem, layer, positions=positions)
    now = moments(problem, layer, cut=cut, positions=positions)
    energy = float(unit_gram(whole.gram, rows, unit, size).sum())
    if energy <= 0:
        return ReadingError(0.0, np.zeros(size + 1), np.zeros((size + 1, size + 1)))
    linear = (rows * now.cross.swapaxes(1, 2)).sum(axis=(0, 1)) @ np.eye(size + 1)[unit]
    return ReadingError(1.0, linear / energy, unit_gram(now.gram, rows, unit, size) / energy)


def _sum(parts: Sequence[ReadingError], size: int) -> ReadingError:
    linear, gram = np.zeros(size + 1), np.zeros((size + 1, size + 1))
    for part in parts:
        linear, gram = linear + part.linear, gram + part.gram
    return ReadingError(sum(part.constant for part in parts), linear, gram)
