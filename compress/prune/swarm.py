"""Particle swarms: places that fly between what each has found best and what all have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compress.channels.graph import Array

Fitness = tuple[float, ...]  # compared like any tuple, the larger the fitter

_INERTIA = (0.9, 0.4)


def inertia(cycle: int, cycles: int) -> float:
    """Returns ω of a cycle, counted from 0: it falls in equal steps from 0.9 in the first one to 0.4 in the last.

    Source: Y. Shi, R. C. Eberhart, "Empirical Study of Particle Swarm Optimization", 1999.
    """
    first, last = _INERTIA
    return first + (last - first) * cycle / max(1, cycles - 1)


class Swarm:
    """Particles that fly.

    Attributes:
        places: where each is. Shape: (S, D), float64.
        speeds: how each flies on. Shape: (S, D), float64.
        own_places: where each was fittest.
        own_fitness: of these.

    Source: J. Kennedy, R. Eberhart, "Particle Swarm Optimization", 1995; the constriction χ of M. Clerc, J. Kennedy,
        2002.
    """

    def __init__(self, places: Array, speeds: Array, fitness: Sequence[Fitness]) -> None:
        self.places, self.speeds = places, speeds
        self.own_places, self.own_fitness = places.copy(), list(fitness)

    @property
    def best_place(self) -> Array:
        """The fittest place that any of them has been to; of equal ones that of the first particle."""
        found: Array = self.own_places[self._best]
        return found

    @property
    def best_fitness(self) -> Fitness:
        """Its fitness."""
        return self.own_fitness[self._best]

    def fly(
        self, weight: float, own: float, best: float, constriction: float, fastest: float, rng: np.random.Generator
    ) -> None:
        """Moves all: v ← χ(ω v + c₁ r₁ (own best − x) + c₂ r₂ (best of all − x)), |v| ≤ vmax, x ← x + v.

        Args:
            weight: ω.
            own: c₁.
            best: c₂.
            constriction: χ.
            fastest: vmax.
            rng: of r₁ and r₂, uniform, for each particle and dimension.
        """
        to_own = own * rng.random(self.places.shape) * (self.own_places - self.places)
        to_best = best * rng.random(self.places.shape) * (self.best_place - self.places)
        self.speeds = np.clip(constriction * (weight * self.speeds + to_own + to_best), -fastest, fastest)
        self.places = self.places + self.speeds

    def land(self, fitness: Sequence[Fitness]) -> None:
        """Says how fit each is where it now is."""
        for particle, found in enumerate(fitness):
            if found > self.own_fitness[particle]:
                self.own_places[particle], self.own_fitness[particle] = self.places[particle], found

    @property
    def _best(self) -> int:
        return max(range(len(self.own_fitness)), key=self.own_fitness.__getitem__)
