"""Weights as products of thinner ones: truncated SVD of matrices, Tucker-2 of convolution kernels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Factors:
    """A weight's factors.

    Attributes:
        arrays: in the order in which an input meets them.
        ranks: between them.
        full_ranks: that would lose nothing.
        energy: share of the weight's squared norm that is left.
    """

    arrays: tuple[Array, ...]
    ranks: tuple[int, ...]
    full_ranks: tuple[int, ...]
    energy: float


def split_matrix(W: Array, energy: float) -> Factors:
    """Returns W ≈ (U_r √S_r)(√S_r V_rᵀ), of the least rank that holds `energy` of Σ s².

    Args:
        W: shape (O, I).
        energy: in (0, 1].

    Returns:
        Factors of shape (r, I) and (O, r).
    """
    U, s, Vt = np.linalg.svd(W, full_matrices=False)
    r = rank_of(s, energy)
    root = np.sqrt(s[:r])
    return Factors((root[:, None] * Vt[:r], U[:, :r] * root), (r,), (len(s),), _share(float((s[:r] ** 2).sum()), W))


def split_kernel(W: Array, energy: float) -> Factors:
    """Returns W ≈ G ×₁ A ×₂ B by the singular vectors of its two unfoldings, each of which keeps `energy` of its own.

    Args:
        W: shape (O, I, k…).
        energy: in (0, 1].

    Returns:
        Factors Bᵀ of shape (r_I, I), G of shape (r_O, r_I, k…), A of shape (O, r_O).
    """
    O, I = W.shape[:2]  # noqa: E741
    A, s_out, _ = np.linalg.svd(W.reshape(O, -1), full_matrices=False)
    B, s_in, _ = np.linalg.svd(np.moveaxis(W, 1, 0).reshape(I, -1), full_matrices=False)
    r_out, r_in = rank_of(s_out, energy), rank_of(s_in, energy)
    A, B = A[:, :r_out], B[:, :r_in]
    G = np.einsum("oi...,or,is->rs...", W, A, B)
    return Factors((B.T, G, A), (r_in, r_out), (len(s_in), len(s_out)), _share(float((G**2).sum()), W))


def rank_of(singular: Array, energy: float) -> int:
    """Returns the least r ≥ 1 with Σ_{i ≤ r} s_i² ≥ energy · Σ s².

    Args:
        singular: values, descending.
        energy: in (0, 1]; 1 leaves out what rounding alone could have made.
    """
    squares = np.cumsum(singular**2)
    # Rounding: a share of 1 must not ask for singular values that are zero but for the last bits.
    wanted = min(energy, 1 - 1e-14) * squares[-1]
    return int(np.searchsorted(squares, wanted)) + 1


def _share(kept: float, W: Array) -> float:
    whole = float((W**2).sum())
    return min(1.0, kept / whole) if whole else 1.0
