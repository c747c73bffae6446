"""Connected components of what is tied pair by pair."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compress.channels.graph import Array


def smallest_tied(count: int, ties: Sequence[tuple[Array, ...]]) -> Array:
    """Returns for each of so many numbers the smallest one that it is tied to, at once or by way of others.

    Args:
        count: how many numbers there are, from 0 on.
        ties: pairs of 1-D arrays of one length; what stands at the same place is tied.

    Returns:
        Shape: (count,).
    """
    parent = np.arange(count)
    if not ties:
        return parent
    a = np.concatenate([tie[0] for tie in ties])
    b = np.concatenate([tie[1] for tie in ties])
    # Hooking and pointer jumping, vectorised: each round links every root to the smallest root beside it.
    while True:
        while True:
            jumped = parent[parent]
            if (jumped == parent).all():
                break
            parent = jumped
        roots_a, roots_b = parent[a], parent[b]
        apart = roots_a != roots_b
        if not apart.any():
            return parent
        a, b = roots_a[apart], roots_b[apart]
        np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
