"""Weight sharing: the weights of a layer take few values, found by k-means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 300


@dataclass(frozen=True)
class Shared:
    """Weights as a table and places in it.

    Attributes:
        centroids: the values. Shape: (k,), float32, ascending, none of them used by no weight.
        index: of each weight, its value's place; −1 where the weight is zero. Shape: that of the weights, int64.
    """

    centroids: NDArray[np.float32]
    index: NDArray[np.int64]

    def weights(self) -> NDArray[np.float32]:
        """Returns the weights: centroids[index], and 0 where that is −1."""
        table = np.append(self.centroids, np.float32(0))
        return np.asarray(table[self.index], dtype=np.float32)


def share(weights: NDArray[Any], bits: int) -> Shared:
    """Clusters the nonzero weights of a layer; zeros are no cluster and stay zero.

    min Σ_i Σ_{w ∈ c_i} |w − c_i|² over k = 2^bits clusters, by Lloyd's steps until nothing moves, from centroids at
    equal distances between the least and the largest weight. Weights that have no more than k values keep them.

    Args:
        weights: finite, of any shape.
        bits: of a place in the table, ≥ 1.

    Source: S. Han, H. Mao, W. Dally, "Deep Compression: Compressing Deep Neural Networks with Pruning, Trained
        Quantization and Huffman Coding", 2016, sections 3.1 and 3.2, equation (2), with the linear initialisation that
        it finds best. Clusters that end up empty leave the table.
    """
    nonzero = weights[weights != 0].astype(np.float64)
    values = np.unique(nonzero)
    count = 2**bits
    centroids = values if len(values) <= count else _lloyd(np.sort(nonzero), np.linspace(values[0], values[-1], count))
    # Rounded first: two that fall together are one, and each weight goes to the nearest as it will be stored.
    table = np.unique(centroids.astype(np.float32))
    index = np.full(weights.shape, -1, dtype=np.int64)
    if not len(table):
        return Shared(table, index)
    places = np.searchsorted(_midpoints(table.astype(np.float64)), nonzero)
    used, places = np.unique(places, return_inverse=True)
    index[weights != 0] = places
    return Shared(table[used], index)


def _lloyd(ordered: NDArray[np.float64], centroids: NDArray[np.float64]) -> NDArray[np.float64]:
    """Moves each centroid to the mean of the weights nearest to it, until none moves; drops those that have none.

    Clusters of sorted numbers are runs, whose sums are differences of running sums.
    """
    sums = np.append(0.0, np.cumsum(ordered))
    for _ in range(_ROUNDS):
        bounds = np.concatenate([[0], np.searchsorted(ordered, _midpoints(centroids)), [len(ordered)]])
        counts = np.diff(bounds)
        filled = counts > 0
        moved = centroids.copy()
        moved[filled] = np.diff(sums[bounds])[filled] / counts[filled]
        if (moved == centroids).all():
            break
        centroids = moved
    return centroids[filled]


def _midpoints(centroids: NDArray[np.float64]) -> NDArray[np.float64]:
    return (centroids[1:] + centroids[:-1]) / 2
