"""Weight sharing by k-means, by hand and against a plain implementation."""

import numpy as np
import pytest

from compress.coding.clusters import share


def test_two_clusters_by_hand():
    # From 1 and 9: {1, 2} and {8, 9} at once; their means are 1.5 and 8.5.
    shared = share(np.array([[1.0, 8.0, 0.0], [2.0, 9.0, 0.0]]), 1)
    np.testing.assert_array_equal(shared.centroids, np.float32([1.5, 8.5]))
    np.testing.assert_array_equal(shared.index, [[0, 1, -1], [0, 1, -1]])
    np.testing.assert_array_equal(shared.weights(), np.float32([[1.5, 8.5, 0], [1.5, 8.5, 0]]))


def test_linear_initialisation_and_two_steps_by_hand():
    # From 0.5 and 10: the midpoint 5.25 gives {0.5, 1, 5} → 13/6 and {6, 10} → 8; their midpoint 5.083 changes nothing.
    # A start from quantiles (0.5 | 5 …) would be another.
    shared = share(np.array([0.5, 1.0, 5.0, 6.0, 10.0]), 1)
    np.testing.assert_allclose(shared.centroids, [13 / 6, 8.0], rtol=1e-6)
    # The same with 5.5: {0.5, 1} → 0.75 and {5.5, 6, 10} → 43/6, whose midpoint is 3.96.
    np.testing.assert_allclose(share(np.array([0.5, 1.0, 5.5, 6.0, 10.0]), 1).centroids, [0.75, 43 / 6], rtol=1e-6)


def test_zeros_are_no_cluster_and_few_values_stay_as_they_are():
    weights = np.float32([0.0, -0.25, 0.1, 0.1, 0.7, 0.0])
    shared = share(weights, 2)
    np.testing.assert_array_equal(shared.weights(), weights)
    assert len(shared.centroids) == 3
    again = share(shared.weights(), 2)
    np.testing.assert_array_equal(again.index, shared.index)
    empty = share(np.zeros((2, 3)), 4)
    assert empty.centroids.size == 0
    np.testing.assert_array_equal(empty.weights(), np.zeros((2, 3), np.float32))


@pytest.mark.parametrize("bits", [1, 3, 5])
def test_agrees_with_plain_lloyd_steps(bits):
    weights = np.random.default_rng(bits).normal(size=500)
    centroids = np.linspace(weights.min(), weights.max(), 2**bits)
    for _ in range(300):
        nearest = np.abs(weights[:, None] - centroids).argmin(axis=1)
        moved = np.array([weights[nearest == i].mean() if (nearest == i).any() else c for i, c in enumerate(centroids)])
        if np.allclose(moved, centroids, rtol=0, atol=1e-15):
            break
        centroids = moved
    shared = share(weights, bits)
    np.testing.assert_allclose(shared.weights(), centroids[nearest], rtol=1e-5)
    assert set(shared.index.tolist()) == set(range(len(shared.centroids)))


def test_more_bits_lose_less():
    weights = np.random.default_rng(0).normal(size=(64, 64))
    errors = [np.square(share(weights, bits).weights() - weights).sum() for bits in range(1, 9)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3 * errors[0]
