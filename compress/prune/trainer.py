"""Training as a service to methods and schedules: the run's data and settings, bound to one function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from compress.data.base import Augment, Dataset
from compress.prune.binding import bind_regularizer
from compress.recipe import TrainSettings
from compress.train.hooks import Hook, Masks
from compress.train.loop import Progress, fit


@dataclass(frozen=True)
class Trainer:
    """Trains networks for methods and schedules; a step that was interrupted goes on where it was.

    Args:
        dataset: training and validation images. The test images are none of a method's business.
        settings: of every training, its regularizer and distillation included.
        seed: of every training.
        augment: random changes of training images.
        teacher: where the settings distil.
        folder: where interrupted trainings leave their states, as ``prune.<step>.state``; None: nowhere.
        progress: called after steps.
        history: one record an epoch of all trainings so far, in order.
    """

    dataset: Dataset
    settings: TrainSettings
    seed: int
    augment: Augment | None = None
    teacher: nn.Module | None = None
    folder: Path | None = None
    progress: Callable[[Progress], None] | None = None
    history: list[dict[str, Any]] = field(default_factory=list)

    def train(
        self,
        network: nn.Module,
        step: str,
        *,
        epochs: int | None = None,
        hooks: Sequence[Hook] = (),
        masks: Masks | None = None,
        changes: dict[str, Any] | None = None,
        teacher: nn.Module | None = None,
    ) -> None:
        """Trains a network in place.

        Args:
            network: its weights are the start.
            step: names this training among those of the run.
            epochs: how long; default: as the settings say.
            hooks: take part, after the settings' regularizer.
            masks: hold what has gone at zero.
            changes: keys of `TrainSettings` that differ for this training.
            teacher: of this training, where it distils; default: the run's.
        """
        settings = self.settings.model_copy(
            update={**(changes or {}), **({"epochs": epochs} if epochs is not None else {})}
        )
        bound: tuple[Hook, ...] = ()
        if settings.regularizer is not None:
            bound = (bind_regularizer(network, self.dataset.input_shape, settings.regularizer),)
        result = fit(
            network,
            self.dataset,
            settings,
            seed=self.seed,
            checkpoint=self.folder / f"prune.{step}.state" if self.folder is not None else None,
            augment=self.augment,
            progress=self.progress,
            hooks=(*bound, *hooks),
            teacher=(teacher or self.teacher) if settings.distill is not None else None,
            masks=masks,
        )
        self.history.extend(dict(record) for record in result.history)
