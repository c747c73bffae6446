"""A pruning from its first cut to its last: what a schedule works with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from torch import Tensor, nn

from compress.errors import DataError
from compress.options import build
from compress.prune.driver import PruneResult, method_of, problem_of, result_of
from compress.prune.method import Progress
from compress.prune.problem import PruningProblem
from compress.prune.schedules import schedules
from compress.prune.trainer import Trainer
from compress.recipe import PruneSettings
from compress.train.hooks import Hook, Masks

if TYPE_CHECKING:
    from compress.prune.method import Method


@dataclass(frozen=True)
class Procedure:
    """A network that is being pruned.

    Args:
        network: changed in place, by `train` and by the schedule.
        input_shape: of one example, without the batch axis.
        settings: the recipe's [prune].
        samples: fixed training images [N, C, H, W] and labels [N]; None if there are none.
        seed: of every random choice.
        trainer: trains between cuts; None where nothing can be trained.
        progress: called now and then.
    """

    network: nn.Module
    input_shape: tuple[int, ...]
    settings: PruneSettings
    samples: tuple[Tensor, Tensor] | None
    seed: int
    trainer: Trainer | None = None
    progress: Progress | None = None

    @property
    def ratio(self) -> float:
        """The share of the cost that is to go in the end."""
        return self.settings.ratio

    def cut(self, ratio: float | None = None) -> PruneResult:
        """Chooses what remains of the network as it is now, without changing it.

        Args:
            ratio: share that is to go; default: the whole ratio.
        """
        settings = self.settings if ratio is None else self.settings.model_copy(update={"ratio": ratio})
        problem = self._problem.seen_on(self.network)
        choice = self._method.choose(problem, settings, trainer=self.trainer, progress=self.progress)
        return result_of(problem, choice, settings.method)

    def train(self, step: str, *, epochs: int, hooks: Sequence[Hook] = (), masks: Masks | None = None) -> None:
        """Trains the network, as [retrain] says but for its length.

        Args:
            step: names this training among those of the procedure.
            epochs: how long.
            hooks: take part.
            masks: hold what has gone at zero.

        Raises:
            DataError: if there is nothing to train with.
        """
        if self.trainer is None:
            raise DataError(
                f"schedule {self.settings.schedule.name!r} trains between cuts", next_step="give a recipe with --recipe"
            )
        self.trainer.train(self.network, step, epochs=epochs, hooks=hooks, masks=masks)

    @cached_property
    def _method(self) -> Method:
        return method_of(self.settings)

    @cached_property
    def _problem(self) -> PruningProblem:
        return problem_of(self.network, self.input_shape, self.settings, self.samples, self.seed)


def run_schedule(procedure: Procedure) -> PruneResult:
    """Prunes a network as its settings' schedule says, in place: what goes is zero, the rest as trained on the way.

    Returns:
        the last cut, already applied.

    Raises:
        CompressError: if method or schedule are unknown, or a knob does not fit.
        NetworkError: if the network cannot be traced, or the ratio cannot be reached.
        DataError: if data are needed and there are none.
    """
    settings = procedure.settings
    schedule = build(schedules, settings.schedule.name, settings.schedule.options)
    method_of(settings)
    result = schedule.run(procedure)
    result.apply(procedure.network)
    return result
