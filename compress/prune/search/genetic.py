"""Genetic channel selection: layer by layer, the subset of channels whose loss its readers notice least."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field
from torch import nn

from compress.channels.graph import Array
from compress.prune.criteria.filter_norm import FilterL1
from compress.prune.masks import ChannelMask
from compress.prune.problem import PruningProblem, Stratum, images_and_labels, sample_losses
from compress.prune.reading_error import reading_error
from compress.prune.search import Choice, Progress, TrainingSearch, searches
from compress.prune.select import select
from compress.prune.students import student_of, whole_values
from compress.recipe import DistillSettings, PruneSettings

if TYPE_CHECKING:
    from compress.prune.trainer import Trainer


@searches.register("genetic")
@dataclass(frozen=True)
class Genetic(TrainingSearch):
    """A genetic algorithm picks the channels of each layer, the least sensitive layer first; then it distils.

    Every layer keeps the same share of its channels, as many as the ratio asks for. An individual is a subset of that
    size. Its fitness is approximate, in two steps: in every generation the second-order expansion ½ δwᵀ H δw of what
    the layers that read the channels lose, relative to their outputs' energy, from moments that are measured once a
    layer, so that no individual costs a pass of the network; for the best of the last generation the loss on the
    samples itself, all layers before being cut. Selection is by tournaments of two; a child has what both parents have
    and is filled up from what one of them has; a mutation swaps a channel that is there for one that is not; the best
    live on. In the end the cut network learns from the whole one.

    A layer's sensitivity is the rise of the loss when it alone loses its channels of smallest L1 norm.

    Args:
        population: individuals a layer.
        generations: of each layer.
        crossover: share of the children that have two parents.
        mutation: probability that a channel that is there is swapped.
        elite: individuals that live on as they are.
        finalists: individuals of the last generation that are tried on the samples.
        positions: drawn from each image for the moments.
        epochs: of the distillation; all else of it is as [retrain] says.
        temperature: T of the distillation.
        weight: share of the teacher's term.

    Raises:
        DataError: if there are no samples, or nothing to train with.
        NetworkError: if something else than a convolution or linear layer reads channels that may go, or the ratio
            cannot be reached.

    Source: Y. Hu, S. Sun, J. Li, X. Wang, Q. Gu, "A novel channel pruning method for deep neural network compression",
        2018: layer by layer by sensitivity, a genetic algorithm with a two-step approximate fitness, then
        distillation. The two steps are given above as they are here: a survey (Ling, §3.1) names them without their
        equations. Layers here are strata of channel groups, with what a sum couples going together. Later layers are
        judged by what the cut layers before them hand on.
    """

    population: Annotated[int, Field(ge=2)] = 50
    generations: Annotated[int, Field(ge=1)] = 50
    crossover: Annotated[float, Field(ge=0, le=1)] = 0.8
    mutation: Annotated[float, Field(ge=0, le=1)] = 0.1
    elite: Annotated[int, Field(ge=1)] = 2
    finalists: Annotated[int, Field(ge=1)] = 5
    positions: Annotated[int, Field(ge=1)] = 10
    epochs: Annotated[int, Field(ge=0)] = 40
    temperature: Annotated[float, Field(gt=0)] = 4.0
    weight: Annotated[float, Field(ge=0, le=1)] = 0.9

    def search(self, problem: PruningProblem, settings: PruneSettings, trainer: Trainer, progress: Progress) -> Choice:
        """Picks layer by layer, then distils."""
        small = select(problem, FilterL1().score(problem), settings.model_copy(update={"scope": "layer"}))
        keep = np.ones(problem.groups.size, dtype=bool)
        layers = [stratum for stratum in problem.strata if not small[stratum.units].all()]
        sensitivities = [_loss(problem, _with(keep, layer, small)) - _loss(problem, keep) for layer in layers]
        order = [int(number) for number in np.argsort(sensitivities, kind="stable")]
        told: list[dict[str, Any]] = []
        for done, number in enumerate(order):
            layer = layers[number]
            rng = np.random.default_rng([problem.seed, number])
            there, error, loss = self._layer(problem, keep, layer, int(small[layer.units].sum()), rng)
            keep[layer.units] = there
            name = problem.groups.groups[layer.group].name
            told.append({"layer": name, "sensitivity": sensitivities[number], "error": error, "loss": loss})
            progress((done + 1) / len(order), f"{name}: error {error:.4f}, loss {loss:.4f}")
        student, plan = student_of(problem, keep)
        distill = DistillSettings(kind="kl", temperature=self.temperature, weight=self.weight)
        trainer.train(student, "genetic", epochs=self.epochs, changes={"distill": distill}, teacher=problem.network)
        tried = len(layers) * (self.population + self.generations * max(0, self.population - self.elite))
        details = {"layers": told, "evaluations": tried}
        return Choice(keep, values=whole_values(problem, student, plan), details=details)

    def _layer(
        self, problem: PruningProblem, keep: Array, layer: Stratum, count: int, rng: np.random.Generator
    ) -> tuple[Array, float, float]:
        """Returns which units of a layer stay, their error, and the loss on the samples."""
        start = problem.groups.offsets[layer.group]
        local = layer.units - start
        error = reading_error(problem, layer.group, _masked(problem, keep), positions=self.positions)

        def fitness(individuals: Array) -> Array:
            there = np.tile(problem.groups.split(keep)[layer.group], (len(individuals), 1))
            there[:, local] = individuals
            return -error(there)

        best, found = self.evolved(fitness, layer.units.size, count, rng)
        losses = []
        for individual in best:
            tried = keep.copy()
            tried[layer.units] = individual
            losses.append(_loss(problem, tried))
        chosen = int(np.argmin(losses))
        return best[chosen], float(-found[chosen]), losses[chosen]

    def evolved(self, fitness: Any, size: int, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Returns the fittest different individuals of the last generation, the best first, and their fitness.

        Args:
            fitness: from individuals [S, size] to numbers [S], the larger the fitter.
            size: channels of the layer.
            count: channels that an individual has.
            rng: of all draws.
        """
        living = np.stack([_subset(np.arange(size), count, size, rng) for _ in range(self.population)])
        fit = fitness(living)
        for _ in range(self.generations):
            ranked = np.argsort(-fit, kind="stable")
            elite = living[ranked[: self.elite]]
            children = [elite]
            while sum(map(len, children)) < self.population:
                first, second = (living[_winner(fit, rng)] for _ in range(2))
                child = crossed(first, second, rng) if rng.random() < self.crossover else first
                children.append(mutated(child, self.mutation, rng)[None])
            living = np.concatenate(children)[: max(self.population, self.elite)]
            fit = fitness(living)
        ranked = np.argsort(-fit, kind="stable")
        _, firsts = np.unique(living[ranked], axis=0, return_index=True)
        chosen = ranked[np.sort(firsts)[: self.finalists]]
        return living[chosen], fit[chosen]


def crossed(first: Array, second: Array, rng: np.random.Generator) -> Array:
    """Returns a child of two individuals (booleans [C]) of one size: what both have, the rest from one of them."""
    both, one = first & second, np.flatnonzero(first ^ second)
    child: Array = both | _subset(one, int(first.sum() - both.sum()), first.size, rng)
    return child


def mutated(individual: Array, rate: float, rng: np.random.Generator) -> Array:
    """Returns an individual (booleans [C]) in which channels have been swapped, each that is there with some rate."""
    there, free = np.flatnonzero(individual), np.flatnonzero(~individual)
    swaps = min(int((rng.random(there.size) < rate).sum()), free.size)
    child = individual.copy()
    child[rng.choice(there, swaps, replace=False)] = False
    child[rng.choice(free, swaps, replace=False)] = True
    return child


def _subset(members: Array, count: int, size: int, rng: np.random.Generator) -> Array:
    found = np.zeros(size, dtype=bool)
    found[rng.choice(members, count, replace=False)] = True
    return found


def _winner(fit: Array, rng: np.random.Generator) -> int:
    pair = rng.integers(fit.size, size=2)
    return int(pair[np.argmax(fit[pair])])


def _with(keep: Array, layer: Stratum, other: Array) -> Array:
    """Returns `keep` with one layer as `other` has it."""
    found = keep.copy()
    found[layer.units] = other[layer.units]
    return found


def _masked(problem: PruningProblem, keep: Array) -> nn.Module:
    network = copy.deepcopy(problem.network)
    ChannelMask(problem.groups, keep).apply(network)
    return network


def _loss(problem: PruningProblem, keep: Array) -> float:
    images, labels = images_and_labels(problem)
    return float(sample_losses(_masked(problem, keep), images, labels).mean())
