"""One epoch of training: the steps, what is measured on the way, and the refusal of numbers that are none."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from compress.data.base import Augment, Batch, Dataset
from compress.errors import NetworkError, TrainingError
from compress.recipe import TrainSettings
from compress.train.distill import classification_loss
from compress.train.evaluate import accuracy
from compress.train.hooks import Hook, Masks
from compress.train.mutual import Peer
from compress.train.optimizer import set_learning_rate
from compress.train.placement import autocast, to_device
from compress.train.schedule import learning_rate
from compress.train.state import EpochRecord

# Reading a value back stalls a GPU, so it is done seldom there.
_CUDA_STEPS_A_CHECK = 50


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Args:
        epoch: the running one, from 1.
        epochs: of the whole training.
        step: finished steps of the epoch.
        steps: of an epoch.
        loss: mean since the epoch began, penalty included.
        learning_rate: of the last step.
        images_per_second: since the epoch began.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    learning_rate: float
    images_per_second: float


@dataclass(frozen=True, eq=False)
class EpochRunner:
    """What stays the same from epoch to epoch; see `fit` for each part. The model is on `device` already."""

    model: nn.Module
    dataset: Dataset
    settings: TrainSettings
    device: torch.device
    optimizer: torch.optim.Optimizer
    seed: int
    augment: Augment | None
    progress: Callable[[Progress], None] | None
    hooks: Sequence[Hook]
    teacher: nn.Module | None
    masks: Masks | None
    peer: Peer | None = None

    def run(self, index: int) -> EpochRecord:
        """Trains for one epoch, and validates.

        Args:
            index: of the epoch, from 0.

        Raises:
            TrainingError: if the loss or a weight is not a finite number.
        """
        steps = count_steps(len(self.dataset.train), self.settings.batch_size)
        check_every = _CUDA_STEPS_A_CHECK if self.device.type == "cuda" else 1
        torch.manual_seed(_torch_seed(self.seed, index))
        self.model.train()
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        count, rate, start = 0, 0.0, time.perf_counter()
        for step, batch in enumerate(self._batches(index)):
            rate = learning_rate(self.settings, index * steps + step, steps)
            place = f"at epoch {index + 1}, step {step + 1}, learning rate {rate:.3g}"
            batch_loss, batch_correct = self._step(batch, rate, place)
            loss += batch_loss * len(batch[1])
            correct += batch_correct
            count += len(batch[1])
            if (step + 1) % check_every == 0 or step + 1 == steps:
                mean = loss.item() / count
                _require_finite(mean, place)
                if self.progress is not None:
                    speed = count / max(time.perf_counter() - start, 1e-9)
                    report = Progress(index + 1, self.settings.epochs, step + 1, steps, mean, rate, speed)
                    self.progress(report)
        for hook in self.hooks:
            hook.after_epoch(self.model, index + 1)
        if self.masks is not None:
            self.masks.apply(self.model)
        self._require_finite_weights(f"at the end of epoch {index + 1}, learning rate {rate:.3g}")
        validated = self._validate()
        for hook in self.hooks:
            hook.after_validation(self.model, validated)
        return {
            "epoch": index + 1,
            "loss": loss.item() / count,
            "train_accuracy": 100.0 * correct.item() / count,
            "validation_accuracy": validated,
            "learning_rate": rate,
            "seconds": time.perf_counter() - start,
        }

    def _batches(self, index: int) -> Iterator[Batch]:
        size = self.settings.batch_size
        rng = np.random.default_rng([self.seed, index])
        for number, batch in enumerate(self.dataset.train.batches(size, rng=rng, augment=self.augment)):
            # BatchNorm has no variance over one image: a lone last one waits for another epoch.
            if number == 0 or size == 1 or len(batch[1]) > 1:
                yield batch

    def _step(self, batch: Batch, rate: float, place: str) -> tuple[Tensor, Tensor]:
        """Returns the mean loss of the batch and how many images were right, both still on the device."""
        loss, correct = self._forward(batch)
        if self.device.type == "cpu":
            _require_finite(loss.item(), place)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for hook in self.hooks:
            hook.after_backward(self.model)
        if self.settings.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.gradient_clip)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.step()
        for hook in self.hooks:
            hook.after_step(self.model, rate)
        if self.masks is not None:
            self.masks.apply(self.model)
        return loss.detach(), correct

    def _forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        settings = self.settings
        images, labels = to_device(batch, self.device, channels_last=settings.channels_last)
        for hook in self.hooks:
            hook.before_step(self.model, images, labels)
        taught: Tensor | None = None
        with autocast(self.device, settings.precision):
            if self.peer is not None:
                taught = self.peer.see(images)
            elif self.teacher is not None:
                with torch.no_grad():
                    taught = self.teacher(images).float()
            logits = self.model(images).float()
        outputs, classes = logits.shape[1], self.dataset.classes
        if outputs < classes or (taught is not None and taught.shape[1] != outputs):
            got = f"{outputs}" if taught is None else f"{outputs}, the teacher {taught.shape[1]}"
            raise NetworkError("a network's outputs do not fit the classes", got=got, allowed=f"{classes}")
        loss = classification_loss(
            logits, labels, label_smoothing=settings.label_smoothing, distill=settings.distill, teacher=taught
        )
        if self.peer is not None:
            self.peer.hear(logits, labels)
        for hook in self.hooks:
            penalty = hook.penalty(self.model)
            loss = loss if penalty is None else loss + penalty
        return loss, (logits.detach().argmax(1) == labels).sum()

    def _validate(self) -> float | None:
        split = self.dataset.validation
        if len(split) == 0:
            return None
        return accuracy(self.model, split, device=self.device.type, precision=self.settings.precision)

    def _require_finite_weights(self, place: str) -> None:
        for name, tensor in self.model.state_dict().items():
            if isinstance(tensor, Tensor) and not bool(torch.isfinite(tensor).all()):
                raise TrainingError(f"{name} is not finite {place}", next_step=_CALM)


def count_steps(images: int, batch_size: int) -> int:
    """Returns the optimizer steps of an epoch; a last batch of one image is none, unless every batch is."""
    whole, rest = divmod(images, batch_size)
    return max(1, whole + (rest > 1))


_CALM = "lower [train] learning_rate or the regularizer's strength, or set [train] gradient_clip"


def _require_finite(loss: float, place: str) -> None:
    if not math.isfinite(loss):
        raise TrainingError(f"the loss is {loss} {place}", next_step=_CALM)


def _torch_seed(seed: int, index: int) -> int:
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0])
