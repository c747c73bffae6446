"""Planting: a narrow network grows, a few channels at a time, where they help most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from compress.channels.graph import Array
from compress.errors import NetworkError, RecipeError
from compress.prune.problem import PruningProblem, Stratum
from compress.prune.search import Choice, Progress, TrainingSearch, searches
from compress.prune.select import allowed_counts, amount, target
from compress.prune.students import Frozen, put_values, redraw, student_of, touched, whole_values
from compress.recipe import DistillSettings, PruneSettings
from compress.train.distill import classification_loss
from compress.train.placement import placed, to_device, torch_device

if TYPE_CHECKING:
    from compress.prune.trainer import Trainer

_BATCH = 500


@searches.register("planting")
@dataclass(frozen=True)
class Planting(TrainingSearch):
    """A narrow network grows by n channels in the group of layers that lowers the loss most, taught by the wide one.

    The network that is pruned is the teacher, and the widest that can be grown; a student with `initial` channels a
    layer is trained by the labels. Then each group g of layers, l with g·L/G ≤ l < (g+1)·L/G, gets n channels, in turn
    and for itself. Their weights alone, W_l[C:C+n] and W_{l+1}[:, C:C+n], are trained by J = λ·CE + (1−λ)·KL(teacher ‖
    student), what was there before being frozen. The student with the least J on the validation images takes the place
    of the one before if that is less, and grows on; else the search ends. It also ends where the ratio allows no more
    channels: the ratio says how much smaller than the teacher the student must stay.

    What is chosen is which of the wide network's units there are, and values for all their weights, so that a plan
    cuts the student out of the wide network like anything else.

    Args:
        initial: channels of each layer at first.
        planted: n, channels that each layer of a group gets at a time.
        groups: G; default: each layer is one.
        tried: groups that are tried each time, drawn by chance (random search); default: all (brute force).
        initial_epochs: of the training of the first student; all else of the trainings is as [retrain] says.
        epochs: of each training of planted channels.
        weight_decay: of these.
        labels: λ of the trainings of planted channels.
        labels_in_choice: λ of J on the validation images.
        temperature: T, softens the outputs of teacher and student.

    Raises:
        DataError: if there is nothing to train with, or no validation images.
        NetworkError: if the first student is larger than the ratio allows, or weights cannot be drawn.
        RecipeError: if there are more groups than layers.

    Source: K. Mitsuno, "BonsaiNet: Searching Neural Networks Structure by Pruning and Planting", 2022, chapter 4,
        equations (4.2), (4.3) and (4.5), algorithm 2; n, λ and weight decay as in §4.2.1, T = 1 there. Equation (4.4)
        is printed without sign and entropy of the teacher; the divergence is meant. The thesis does not say how planted
        weights start: what reads new channels starts at zero, so that a student starts as the one before it. It leaves
        the linear layers as they are: set exclude to the last layer's name for that. Channels that a sum couples are
        planted together, and BatchNorm's running statistics follow what they measure. The thesis trains nothing after
        the last planting: set [retrain] epochs = 0 for that.
    """

    judges: ClassVar[str | None] = "loss"
    initial: Annotated[int, Field(ge=1)] = 8
    planted: Annotated[int, Field(ge=1)] = 4
    groups: Annotated[int, Field(ge=1)] | None = None
    tried: Annotated[int, Field(ge=1)] | None = None
    initial_epochs: Annotated[int, Field(ge=0)] = 150
    epochs: Annotated[int, Field(ge=1)] = 150
    weight_decay: Annotated[float, Field(ge=0)] = 5e-5
    labels: Annotated[float, Field(ge=0, le=1)] = 0.0
    labels_in_choice: Annotated[float, Field(ge=0, le=1)] = 1.0
    temperature: Annotated[float, Field(gt=0)] = 1.0

    def search(self, problem: PruningProblem, settings: PruneSettings, trainer: Trainer, progress: Progress) -> Choice:
        """Trains a narrow network and lets it grow; returns its units, and its weights."""
        garden = _Garden(self, problem, settings, trainer)
        student, evaluations = garden.first(), 1
        rounds: list[dict[str, Any]] = []
        limit = target(problem, settings)
        while True:
            tried = [garden.planted(student, group, len(rounds)) for group in garden.growing(student, len(rounds))]
            evaluations += len(tried)
            rounds.append(
                {
                    "widths": list(student.widths),
                    "loss": student.loss,
                    "planted": {str(other.group): other.loss for other in tried},
                }
            )
            size = amount(problem, garden.keep(student.widths), settings.of)
            progress(min(1.0, size / limit), f"channels {list(student.widths)}, validation loss {student.loss:.4f}")
            best = min(tried, key=lambda other: other.loss, default=None)
            if best is None or not best.loss < student.loss:
                break
            student = best
        details = {"rounds": rounds, "evaluations": evaluations}
        return Choice(garden.keep(student.widths), values=student.values, details=details)


@dataclass(frozen=True)
class _Student:
    """A trained student.

    Attributes:
        widths: channels of each layer.
        values: of the wide network's parameters, in its shapes.
        loss: J on the validation images.
        group: which group of layers has grown last.
    """

    widths: tuple[int, ...]
    values: dict[str, Array]
    loss: float
    group: int | None = None


@dataclass(frozen=True)
class _Garden:
    """What all students have in common; a layer is a stratum of units that may go."""

    method: Planting
    problem: PruningProblem
    settings: PruneSettings
    trainer: Trainer

    @cached_property
    def layers(self) -> list[Stratum]:
        """The units of each layer."""
        return [stratum for stratum in self.problem.strata if stratum.prunable]

    @cached_property
    def groups(self) -> list[list[int]]:
        """The layers of each group, equation (4.2)."""
        count, wanted = len(self.layers), self.method.groups or len(self.layers)
        if wanted > count:
            raise RecipeError(f"search 'planting', option 'groups': {wanted} groups of {count} layers", allowed=count)
        return [[n for n in range(count) if g * count <= n * wanted < (g + 1) * count] for g in range(wanted)]

    def keep(self, widths: Sequence[int]) -> Array:
        """Returns the units of a student: the first of each layer, as their order means nothing yet."""
        keep = ~self.problem.prunable
        for layer, width in zip(self.layers, widths, strict=True):
            keep[layer.units[:width]] = True
        return keep

    def first(self) -> _Student:
        """Returns the student that everything grows from."""
        widths = tuple(self._allowed(layer, self.method.initial) for layer in self.layers)
        keep = self.keep(widths)
        size, limit = amount(self.problem, keep, self.settings.of), target(self.problem, self.settings)
        if size > limit:
            raise NetworkError(
                f"planting starts with {size} {self.settings.of}, more than the ratio allows",
                allowed=f"{limit:.0f}",
                next_step="lower [prune] ratio, or the option 'initial'",
            )
        network, plan = student_of(self.problem, keep)
        redraw(network, [self.problem.seed])
        self.trainer.train(network, "planting", epochs=self.method.initial_epochs, changes={"distill": None})
        return _Student(widths, whole_values(self.problem, network, plan), self._loss(network))

    def growing(self, student: _Student, number: int) -> list[int]:
        """Returns the groups that are tried in a round: of those that can grow within the ratio, all or some."""
        limit = target(self.problem, self.settings)
        found = []
        for group in range(len(self.groups)):
            widths = self._widths(student, group)
            fits = amount(self.problem, self.keep(widths), self.settings.of) <= limit
            if widths != student.widths and fits:
                found.append(group)
        if self.method.tried is None or self.method.tried >= len(found):
            return found
        rng = np.random.default_rng([self.problem.seed, number])
        return sorted(int(group) for group in rng.choice(found, self.method.tried, replace=False))

    def planted(self, student: _Student, group: int, number: int) -> _Student:
        """Returns a student with more channels in one group of layers, their weights trained."""
        widths = self._widths(student, group)
        keep, old = self.keep(widths), self.keep(student.widths)
        network, plan = student_of(self.problem, keep)
        redraw(network, [self.problem.seed, number, group])
        new = touched(self.problem, keep & ~old)
        reading = touched(self.problem, keep & ~old, ("in",))
        drawn = whole_values(self.problem, network, plan)
        start = {n: np.where(reading[n], 0, np.where(new[n], drawn[n], student.values[n])) for n in drawn}
        put_values(network, plan, start)
        frozen = Frozen(network, {name: plan.apply(name, free) for name, free in new.items()})
        self.trainer.train(
            network,
            f"planting-{number}-{group}",
            epochs=self.method.epochs,
            hooks=(frozen,),
            masks=frozen,
            changes={"distill": self._distill(self.method.labels), "weight_decay": self.method.weight_decay},
            teacher=self.problem.network,
        )
        return _Student(widths, whole_values(self.problem, network, plan), self._loss(network), group)

    def _widths(self, student: _Student, group: int) -> tuple[int, ...]:
        return tuple(
            self._allowed(layer, width + self.method.planted) if number in self.groups[group] else width
            for number, (layer, width) in enumerate(zip(self.layers, student.widths, strict=True))
        )

    def _allowed(self, layer: Stratum, wanted: int) -> int:
        counts = allowed_counts(layer, self.settings)
        return int(counts[counts >= min(wanted, layer.units.size)][0])

    def _distill(self, labels: float) -> DistillSettings:
        return DistillSettings(kind="kl", temperature=self.method.temperature, weight=1 - labels)

    @cached_property
    def _taught(self) -> list[Tensor]:
        """The teacher's logits on the validation images."""
        return self._logits(self.problem.network)

    def _logits(self, network: nn.Module) -> list[Tensor]:
        device = torch_device(self.trainer.settings.device)
        with placed(network, device), torch.no_grad():
            network.eval()
            batches = self.trainer.dataset.validation.batches(_BATCH)
            return [network(to_device(batch, device)[0]).detach().float().cpu() for batch in batches]

    def _loss(self, network: nn.Module) -> float:
        """Returns J on the validation images, equation (4.5)."""
        distill = self._distill(self.method.labels_in_choice)
        total = 0.0
        batches = self.trainer.dataset.validation.batches(_BATCH)
        for logits, taught, (_, labels) in zip(self._logits(network), self._taught, batches, strict=True):
            known = torch.from_numpy(np.asarray(labels))
            loss = classification_loss(logits.double(), known, distill=distill, teacher=taught.double())
            total += float(loss) * len(labels)
        return total / len(self.trainer.dataset.validation)
