"""Filters of opposite phase: how near to the negative of another filter each filter of a layer is.

Source: W. Shang, K. Sohn, D. Almeida, H. Lee, "Understanding and Improving Convolutional Neural Networks via
Concatenated Rectified Linear Units", 2016, §2.1, figure 2.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import nn

from compress.channels.graph import Array

_BINS = 20
_DRAWS = 10  # layers of random filters that a layer is compared with


@dataclass(frozen=True)
class LayerPhases:
    """One layer of the report.

    Attributes:
        layer: path of the convolution.
        filters: how many.
        mean: of μ_i = min_j cos(φ_i, φ_j), −1 where every filter has its negative.
        random: the same of random filters of the same shape.
        counts: filters by μ, in equal bins from −1 to 1.
        random_counts: the same of random filters, the mean of several draws.
    """

    layer: str
    filters: int
    mean: float
    random: float
    counts: tuple[int, ...]
    random_counts: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures as a JSON value."""
        return asdict(self) | {"counts": list(self.counts), "random_counts": list(self.random_counts)}


def phase_report(network: nn.Module, *, seed: int = 0) -> list[LayerPhases]:
    """Returns the phases of every convolution of at least two filters of at least two weights, in order of depth.

    Args:
        network: it is not changed.
        seed: of the random filters, drawn from a normal distribution.
    """
    generator = np.random.default_rng(seed)
    found = []
    for path, module in network.named_modules():
        if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            continue
        weight = module.weight.detach().cpu().numpy().astype(np.float64)
        filters = weight.reshape(weight.shape[0], -1)
        if min(filters.shape) < 2:
            continue
        phases = nearest_phase(filters)
        random = np.stack([nearest_phase(generator.standard_normal(filters.shape)) for _ in range(_DRAWS)])
        found.append(
            LayerPhases(
                path,
                len(filters),
                float(phases.mean()),
                float(random.mean()),
                tuple(int(count) for count in _histogram(phases)),
                tuple(float(count) / _DRAWS for count in _histogram(random)),
            )
        )
    return found


def cosines(filters: Array) -> Array:
    """Returns the cosines between filters [C, D]; of a filter with itself, or with one that is zero, 1."""
    norms = np.linalg.norm(filters, axis=1)
    scale = np.outer(norms, norms)
    found: Array = np.divide(filters @ filters.T, scale, out=np.ones_like(scale), where=scale > 0)
    np.fill_diagonal(found, 1)
    return np.clip(found, -1, 1)


def nearest_phase(filters: Array) -> Array:
    """Returns μ_i = min over j ≠ i of cos(φ_i, φ_j) for filters [C, D]. Shape: (C,)."""
    found: Array = cosines(filters).min(axis=1)
    return found


def pairs(filters: Array) -> list[tuple[int, int | None]]:
    """Pairs filters [C, D] with their opposites, the most opposite first; the one of larger norm stands first.

    Returns:
        Each filter once; of an odd number the last has no partner.
    """
    angles, norms = cosines(filters), np.linalg.norm(filters, axis=1)
    angles[np.tril_indices(len(filters))] = np.inf
    left, found = set(range(len(filters))), []
    for position in np.argsort(angles, axis=None, kind="stable"):
        first, second = (int(index) for index in np.unravel_index(position, angles.shape))
        if first < second and first in left and second in left:
            left -= {first, second}
            found.append((first, second) if norms[first] >= norms[second] else (second, first))
    result: list[tuple[int, int | None]] = [*found, *((one, None) for one in left)]
    return result


def _histogram(phases: Array) -> Array:
    counts, _ = np.histogram(phases, bins=_BINS, range=(-1, 1))
    return counts
