"""ACP: as many channels as there are kinds of feature maps, then a swarm of structures around that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field
from sklearn.cluster import DBSCAN

from compress.channels.graph import Array
from compress.prune.activations import mean_maps
from compress.prune.criteria.filter_norm import FilterL1
from compress.prune.problem import PruningProblem, Stratum
from compress.prune.search import Choice, Progress, TrainingSearch, searches
from compress.prune.select import allowed_counts, amount, nearest, target, unreachable
from compress.prune.students import student_of, whole_values
from compress.prune.swarm import Fitness, Swarm, inertia
from compress.recipe import PruneSettings
from compress.train.evaluate import evaluate

if TYPE_CHECKING:
    from compress.prune.trainer import Trainer

Structure = tuple[int, ...]

_BISECTIONS = 30  # of a share: far below one channel


@searches.register("acp")
@dataclass(frozen=True)
class ACP(TrainingSearch):
    """Clusters the feature maps of each layer for a first structure, and lets a swarm of structures fly around it.

    A structure is how many channels each layer has. In the first one a layer has as many as there are clusters of its
    mean feature maps by cosine and density (DBSCAN), maps that fit into none counted one by one. Each particle starts
    from it, every layer moved by −i, 0 or i channels. Its fitness is the accuracy on the validation images after a
    short training. It flies by v ← χ(ω v + c₁ r₁ (own best − x) + c₂ r₂ (best of all − x)), |v| ≤ vmax, x ← x + v,
    rounded, ω falling from 0.9 to 0.4. The best structure and its weights are the result, for [retrain] to fine-tune.

    Args:
        distance: largest cosine distance of neighbours (DBSCAN's ε).
        neighbours: of a map in the midst of a cluster, itself included.
        particles: of the swarm.
        cycles: how often all of them fly.
        spread: i.
        own: c₁.
        best: c₂.
        constriction: χ.
        fastest: vmax, in channels.
        epochs: of each short training; all else of it is as [retrain] says.
        enforce: make every structure fit the ratio by taking the same share from all its layers; false: the ratio is
            whatever the swarm finds best.

    Raises:
        DataError: if there are no samples, nothing to train with, or no validation images.
        NetworkError: if channels that may go have no feature map, or the ratio cannot be reached.

    Source: J. Chang, Y. Lu, P. Xue, Y. Xu, Z. Wei, "ACP: Automatic Channel Pruning via Clustering and Swarm
        Intelligence Optimization for CNN", 2021; numbers as in the authors' code, which takes test images for both the
        clusters and the fitness: here training and validation images. There the channels that stay are drawn by
        chance or by L1 norm; here one of each cluster stays first, the one of largest norm, then the largest of what
        is left. Where a map is one number its values on the samples are compared, not their mean. Dead channels are no
        cluster. A structure that has been trained is not trained again; of equal accuracies the lower loss is better.
    """

    judges: ClassVar[str | None] = "accuracy"
    distance: Annotated[float, Field(gt=0, lt=1)] = 0.007
    neighbours: Annotated[int, Field(ge=1)] = 5
    particles: Annotated[int, Field(ge=1)] = 10
    cycles: Annotated[int, Field(ge=0)] = 8
    spread: Annotated[int, Field(ge=0)] = 2
    own: Annotated[float, Field(ge=0)] = 2.0
    best: Annotated[float, Field(ge=0)] = 2.0
    constriction: Annotated[float, Field(gt=0, le=1)] = 0.729
    fastest: Annotated[float, Field(gt=0)] = 2.0
    epochs: Annotated[int, Field(ge=0)] = 3
    enforce: bool = True

    def search(self, problem: PruningProblem, settings: PruneSettings, trainer: Trainer, progress: Progress) -> Choice:
        """Clusters, then flies."""
        colony = _Colony(self, problem, settings, trainer)
        rng = np.random.default_rng(problem.seed)
        start = np.asarray(colony.clusters, dtype=np.float64)
        moves = self.spread * rng.integers(-1, 2, (self.particles, start.size))
        places = np.stack([colony.fitting(start + move) for move in moves])
        speeds = rng.uniform(-self.fastest, self.fastest, places.shape)
        swarm = Swarm(places, speeds, [colony.fitness(place) for place in places])
        told = [swarm.best_fitness[0]]
        for cycle in range(self.cycles):
            swarm.fly(inertia(cycle, self.cycles), self.own, self.best, self.constriction, self.fastest, rng)
            swarm.places = np.stack([colony.fitting(place) for place in swarm.places])
            swarm.land([colony.fitness(place) for place in swarm.places])
            told.append(swarm.best_fitness[0])
            progress((cycle + 1) / self.cycles, f"best validation accuracy {told[-1]:.2f} %")
        keep = colony.keep(swarm.best_place)
        details: dict[str, Any] = {
            "clusters": list(colony.clusters),
            "structure": [int(count) for count in swarm.best_place],
            "accuracies": told,
            "evaluations": len(colony.known),
        }
        return Choice(keep, values=colony.best_values, details=details)


class _Colony:
    """What all particles have in common; a layer is a stratum of units that may go.

    Attributes:
        clusters: of each layer, how many kinds of feature maps there are.
        known: the fitness of each structure that has been trained: accuracy in per cent, and minus the loss.
        best_values: of the fittest of them, the parameters in the network's shapes.
    """

    def __init__(self, method: ACP, problem: PruningProblem, settings: PruneSettings, trainer: Trainer) -> None:
        self.method, self.problem, self.settings, self.trainer = method, problem, settings, trainer
        self.layers = [stratum for stratum in problem.strata if stratum.prunable]
        self.allowed = [allowed_counts(layer, settings) for layer in self.layers]
        self.limit = target(problem, settings) if method.enforce else float("inf")
        self.known: dict[Structure, Fitness] = {}
        self.best_values: dict[str, Array] = {}
        maps, norms = mean_maps(problem), FilterL1().score(problem)
        found = [self._sorted(layer, maps[layer.group], norms[layer.group]) for layer in self.layers]
        self.order, self.clusters = [order for order, _ in found], [count for _, count in found]
        least = self._cost([int(counts[0]) for counts in self.allowed])
        if least > self.limit:
            raise unreachable(problem, least, settings)

    def keep(self, structure: Iterable[float]) -> Array:
        """Returns the units of a structure."""
        keep = ~self.problem.prunable
        for order, count in zip(self.order, structure, strict=True):
            keep[order[: int(count)]] = True
        return keep

    def fitting(self, place: Array) -> Array:
        """Returns the structure that a place stands for: whole channels, as many as a layer may have, and the ratio."""
        wanted = self._shrunk(place, 1.0)
        low, high = 0.0, 1.0
        if self._cost(wanted) > self.limit:
            for _ in range(_BISECTIONS):
                middle = (low + high) / 2
                low, high = (middle, high) if self._cost(self._shrunk(place, middle)) <= self.limit else (low, middle)
            wanted = self._shrunk(place, low)
        return np.asarray(wanted, dtype=np.float64)

    def fitness(self, place: Array) -> Fitness:
        """Returns how fit a structure is; it is trained once."""
        structure = tuple(int(count) for count in place)
        if structure not in self.known:
            student, plan = student_of(self.problem, self.keep(structure))
            self.trainer.train(
                student, f"acp-{len(self.known)}", epochs=self.method.epochs, changes={"early_stop_epochs": None}
            )
            found = evaluate(student, self.trainer.dataset.validation, device=self.trainer.settings.device)
            fit = (found.accuracy, -found.loss)
            if fit > max(self.known.values(), default=(-1.0,)):
                self.best_values = whole_values(self.problem, student, plan)
            self.known[structure] = fit
        return self.known[structure]

    def _shrunk(self, place: Array, share: float) -> list[int]:
        return [nearest(counts, share * wanted) for counts, wanted in zip(self.allowed, place, strict=True)]

    def _cost(self, structure: Sequence[int]) -> int:
        return amount(self.problem, self.keep(structure), self.settings.of)

    def _sorted(self, layer: Stratum, maps: Array, norms: Array) -> tuple[Array, int]:
        """Returns the units of a layer, those that stay longest first, and how many kinds there are."""
        local = layer.units - self.problem.groups.offsets[layer.group]
        kinds = clusters(maps[local], self.method.distance, self.method.neighbours)
        by_norm = np.argsort(-norms[local], kind="stable")
        _, firsts = np.unique(kinds[by_norm], return_index=True)
        # The dead are of kind −1, which stands last and has no first.
        rank = np.where(kinds[by_norm] < 0, 2, 1)
        alive = firsts[kinds[by_norm][firsts] >= 0]
        rank[alive] = 0
        return layer.units[by_norm[np.argsort(rank, kind="stable")]], alive.size


def clusters(maps: Array, distance: float, neighbours: int) -> Array:
    """Returns a number for the kind of each feature map: its cluster's, or one of its own; −1 where it is zero.

    Args:
        maps: [C, P].
        distance: largest cosine distance of neighbours.
        neighbours: of a map in the midst of a cluster, itself included.
    """
    kinds = np.full(len(maps), -1)
    alive = np.flatnonzero(np.linalg.norm(maps, axis=1) > 0)
    if alive.size:
        found = DBSCAN(eps=distance, min_samples=neighbours, metric="cosine").fit(maps[alive]).labels_
        alone = np.flatnonzero(found < 0)
        found[alone] = found.max() + 1 + np.arange(alone.size)
        kinds[alive] = found
    return kinds
