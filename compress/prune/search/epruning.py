"""EPruning: a population of states that evolves by the energy loss while the best one's network trains."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from compress.channels.graph import Array
from compress.prune.energy import Dropping, energy_loss
from compress.prune.evolution import candidates
from compress.prune.masks import ChannelMask
from compress.prune.problem import PruningProblem
from compress.prune.search import Choice, Progress, TrainingSearch, searches
from compress.prune.select import allowed_counts, amount, target
from compress.prune.topk import top_accuracies
from compress.recipe import PruneSettings
from compress.train.hooks import Hook

if TYPE_CHECKING:
    from compress.prune.trainer import Trainer


@searches.register("epruning")
@dataclass(frozen=True)
class EPruning(TrainingSearch):
    """A population of states evolves by binary differential evolution on each batch; the best one's network trains.

    Each of S states says for every unit whether it is there, by a fair coin at first. On each batch every state gets a
    rival (mutation and crossover) and gives way to it if the rival's energy loss is not larger; the state of least
    energy is the network that takes the training step, what it lacks being dropped for that step. Once the best energy
    equals the mean (early state convergence, Δs = 0), or after Δs_T epochs, the best state is final, and the rest of
    the epochs fine-tunes it.

    Args:
        population: S, at least 4.
        mutation: F.
        crossover: C_r.
        initial: P, the probability that a unit is there at first.
        epochs: of the whole training; everything else of it is as [retrain] says.
        explore_epochs: Δs_T.
        enforce: bring every state to the ratio by dropping units at random; false: the ratio is whatever evolves.

    Raises:
        DataError: if there is nothing to train with.

    Source: H. Salehinejad, S. Valaee, "A Framework for Pruning Deep Neural Networks Using Energy-Based Models", 2021,
        equations (1) to (7) and algorithm 1; S, F and C_r as in the authors' code, whose mutation flips where the two
        other parents agree: the paper's equation is followed. `enforce` is what its conclusion calls a predefined
        number of active states. Units are channels and hidden units, with what a sum couples going together; a state
        is evaluated in training mode, BatchNorm's running statistics held still.
    """

    population: Annotated[int, Field(ge=4)] = 8
    mutation: Annotated[float, Field(ge=0, le=1)] = 0.9
    crossover: Annotated[float, Field(ge=0, le=1)] = 0.9
    initial: Annotated[float, Field(gt=0, le=1)] = 0.5
    epochs: Annotated[int, Field(ge=1)] = 200
    explore_epochs: Annotated[int, Field(ge=1)] = 100
    enforce: bool = True

    def search(self, problem: PruningProblem, settings: PruneSettings, trainer: Trainer, progress: Progress) -> Choice:
        """Trains and evolves; returns the best state, and the weights that were trained under it."""
        network = copy.deepcopy(problem.network)
        repair = _Repair(problem, settings if self.enforce else None)
        evolution = _Evolution(self, problem, repair)
        trainer.train(network, "epruning", epochs=self.epochs, hooks=(evolution,))
        keep = evolution.best_state
        details = evolution.details()
        if len(trainer.dataset.validation):
            masked = copy.deepcopy(network)
            ChannelMask(problem.groups, keep).apply(masked)
            details["full"] = top_accuracies(network, trainer.dataset.validation)
            details["pruned"] = top_accuracies(masked, trainer.dataset.validation)
        kept, everything = problem.cost(keep), problem.cost.everything()
        details["kept_parameters_percent"] = 100 * kept.parameters / everything.parameters
        values = {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}
        return Choice(keep, values={n: v for n, v in values.items() if n in problem.parameters}, details=details)


class _Repair:
    """Makes states ones that can be cut: every layer keeps its least, and the cost is within the target.

    Args:
        problem: the network.
        settings: with the target; None: only what no layer can do without comes back.
    """

    def __init__(self, problem: PruningProblem, settings: PruneSettings | None) -> None:
        self.problem = problem
        self.settings = settings or PruneSettings()
        self.limit = target(problem, settings) if settings is not None else float("inf")

    def __call__(self, state: Array, rng: np.random.Generator) -> Array:
        """Returns a state like `state`: first what must be there comes back, then units go at random.

        They go in steps from one number that a layer may have to the next; the steps of all layers stand in one random
        order.
        """
        keep = state | ~self.problem.prunable
        steps: list[list[Array]] = []
        for stratum in self.problem.strata:
            if not stratum.prunable:
                continue
            units = rng.permutation(stratum.units)
            counts = allowed_counts(stratum, self.settings)
            wanted = int(counts[counts >= keep[units].sum()][0])
            keep[units[~keep[units]][: wanted - int(keep[units].sum())]] = True
            present = units[keep[units]]
            # The last step is the first to go.
            steps.append([present[low:high] for low, high in pairwise(counts[counts <= wanted])])
        turns = rng.permutation(np.repeat(np.arange(len(steps)), [len(step) for step in steps]))
        order = [steps[turn].pop() for turn in turns]
        if self._cost(keep) <= self.limit:
            return keep
        low, high = 0, len(order)
        while low < high:
            middle = (low + high) // 2
            enough = self._cost(_without(keep, order[:middle])) <= self.limit
            low, high = (low, middle) if enough else (middle + 1, high)
        return _without(keep, order[:low])

    def _cost(self, keep: Array) -> int:
        return amount(self.problem, keep, self.settings.of)


def _without(keep: Array, steps: Sequence[Array]) -> Array:
    fewer = keep.copy()
    for units in steps:
        fewer[units] = False
    return fewer


@dataclass
class _Evolution(Hook):
    """The population, as it takes part in a training.

    Attributes:
        states: booleans [S, D].
        energies: of each state, float64 [S]; those of the batch on which the state was last compared.
        steps: how many batches have been seen; with the seed it decides all draws.
        final: the epoch after which the best state is settled; 0 while states compete.
    """

    method: EPruning
    problem: PruningProblem
    repair: Callable[[Array, np.random.Generator], Array]
    states: Array = field(init=False)
    energies: Array | None = None
    best: int = 0
    steps: int = 0
    epoch: int = 0
    final: int = 0
    history: list[list[float]] = field(default_factory=list)
    _dropping: Dropping | None = None
    _sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])

    def __post_init__(self) -> None:
        rng = self._rng()
        drawn = rng.random((self.method.population, self.problem.groups.size)) < self.method.initial
        self.states = np.stack([self.repair(state, rng) for state in drawn])

    @property
    def best_state(self) -> Array:
        """The state of least energy."""
        found: Array = self.states[self.best]
        return found

    def attach(self, model: nn.Module) -> None:
        self._dropping = Dropping(model, self.problem.groups)

    def detach(self, model: nn.Module) -> None:
        if self._dropping is not None:
            self._dropping.restore()
        self._dropping = None

    def before_step(self, model: nn.Module, images: Tensor, labels: Tensor) -> None:
        assert self._dropping is not None
        self.steps += 1
        if not self.final:
            if self.energies is None:
                self.energies = self._measure(model, self.states, images, labels)
            rng = self._rng()
            rivals = candidates(self.states, self.method.mutation, self.method.crossover, rng)
            rivals = np.stack([self.repair(rival, rng) for rival in rivals])
            found = self._measure(model, rivals, images, labels)
            wins = found <= self.energies
            self.states = np.where(wins[:, None], rivals, self.states)
            self.energies = np.where(wins, found, self.energies)
            self.best = int(np.argmin(self.energies))
        assert self.energies is not None
        self._sums[0] += float(self.energies[self.best])
        self._sums[1] += float(self.energies.mean())
        self._sums[2] += 1
        self._dropping.drop(self.best_state)

    def after_backward(self, model: nn.Module) -> None:
        assert self._dropping is not None
        self._dropping.restore()

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        best, mean, count = self._sums
        self.history.append([float(epoch), best / count, mean / count])
        self._sums = [0.0, 0.0, 0.0]
        self.epoch = epoch
        assert self.energies is not None
        converged = float(self.energies.min()) == float(self.energies.mean())
        if not self.final and (converged or epoch >= self.method.explore_epochs):
            self.final = epoch

    def state_dict(self) -> Mapping[str, Tensor]:
        energies = self.energies if self.energies is not None else np.zeros(0)
        numbers = [self.best, self.steps, self.epoch, self.final]
        return {
            "states": torch.from_numpy(self.states.astype(np.uint8)),
            "energies": torch.from_numpy(np.array(energies, dtype=np.float64)),
            "numbers": torch.tensor(numbers, dtype=torch.int64),
            "history": torch.tensor(self.history, dtype=torch.float64).reshape(-1, 3),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.states = state["states"].numpy().astype(bool)
        energies = state["energies"].numpy()
        self.energies = energies.copy() if energies.size else None
        self.best, self.steps, self.epoch, self.final = (int(number) for number in state["numbers"])
        self.history = state["history"].tolist()

    def details(self) -> dict[str, Any]:
        """Returns the energies an epoch as a JSON value."""
        rows = [
            {
                "epoch": int(epoch),
                "best_energy": best,
                "mean_energy": mean,
                "competing": not self.final or epoch <= self.final,
            }
            for epoch, best, mean in self.history
        ]
        return {"energies": rows, "evaluations": self.steps * self.method.population, "settled": bool(self.final)}

    def _measure(self, model: nn.Module, states: Array, images: Tensor, labels: Tensor) -> Array:
        assert self._dropping is not None
        found = []
        for state in states:
            with self._dropping.without(state), torch.no_grad():
                found.append(float(energy_loss(model(images), labels)))
        return np.asarray(found)

    def _rng(self) -> np.random.Generator:
        return np.random.default_rng([self.problem.seed, self.steps])
