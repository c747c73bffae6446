"""Binary differential evolution: populations of states, each unit on or off."""

from __future__ import annotations

import numpy as np

from compress.channels.graph import Array


def candidates(states: Array, mutation: float, crossover: float, rng: np.random.Generator) -> Array:
    """Returns one new candidate for each state of a population.

    For state i three others i1, i2, i3 are drawn, all different. Where i2 and i3 differ, and a draw is below F, the
    mutant has the opposite of i1, else i1's own; the candidate has the mutant's where a draw is at most C_r, else i's.

    Args:
        states: booleans [S, D], S ≥ 4.
        mutation: F.
        crossover: C_r.
        rng: of all draws.

    Source: H. Salehinejad, S. Valaee, "A Framework for Pruning Deep Neural Networks Using Energy-Based Models", 2021,
        equations (4) and (5).
    """
    parents = np.stack([_three_others(len(states), i, rng) for i in range(len(states))])
    first, second, third = states[parents[:, 0]], states[parents[:, 1]], states[parents[:, 2]]
    flips = (second != third) & (rng.random(states.shape) < mutation)
    mutants = first ^ flips
    return np.where(rng.random(states.shape) <= crossover, mutants, states)


def _three_others(count: int, index: int, rng: np.random.Generator) -> Array:
    others = np.delete(np.arange(count), index)
    return rng.choice(others, 3, replace=False)
