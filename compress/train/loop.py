"""The only optimizer loop: training, sparsifying, fine-tuning and distilling all run through `fit`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from compress.data.base import Augment, Dataset
from compress.errors import CompressError, DataError, MachineError, TrainingError
from compress.recipe import TrainSettings
from compress.train.epoch import EpochRunner, Progress
from compress.train.hooks import Hook, Masks
from compress.train.mutual import Peer
from compress.train.optimizer import build_optimizer
from compress.train.placement import placed, torch_device
from compress.train.state import EpochRecord, TrainingState, identity_of, load_state, save_state
from compress.train.weights import put_weights

__all__ = ["Progress", "TrainResult", "fit"]


@dataclass(frozen=True)
class TrainResult:
    """What a training did.

    Args:
        epochs: finished, those before an interruption included.
        history: a record an epoch: epoch (from 1), loss, train_accuracy (per cent, while training, on augmented
            images), validation_accuracy (per cent, or None), learning_rate (of the last step), seconds.
        stopped_early: whether the validation accuracy ended it before its time.
    """

    epochs: int
    history: list[EpochRecord]
    stopped_early: bool


def fit(
    model: nn.Module,
    dataset: Dataset,
    settings: TrainSettings,
    *,
    seed: int,
    checkpoint: Path | None = None,
    augment: Augment | None = None,
    progress: Callable[[Progress], None] | None = None,
    hooks: Sequence[Hook] = (),
    teacher: nn.Module | None = None,
    masks: Masks | None = None,
) -> TrainResult:
    """Trains `model` in place and leaves it in evaluation mode, on the device that it came from.

    The order and augmentation of the images of an epoch, and what torch draws in it, follow from (seed, epoch) alone,
    and torch's global random state is left as it was. With `checkpoint`, an interrupted training goes on where the last
    whole epoch ended, with the same result as an undisturbed one (on the CPU, bit for bit).

    Args:
        model: maps images [N, C, H, W] to logits [N, K]. Its fresh or earlier weights are the start.
        dataset: what to learn, and what early stopping watches.
        settings: everything that the recipe says of a training; its `regularizer` is not read here.
        seed: of this training.
        checkpoint: file for the state after each epoch. It stays behind when the training has ended. A state of another
            training (other settings, seed, weights, teacher, data) is ignored and overwritten.
        augment: random changes of training images.
        progress: called after each step on the CPU, now and then on a GPU; an exception that it raises ends the
            training and is passed on.
        hooks: take part in every step and epoch, and may have a memory (see `Hook`).
        teacher: its logits enter the loss as `settings.distill` says; with kind `mutual` it is trained as well.
        masks: restores pruned or frozen weights.

    Raises:
        TrainingError: if the loss or a weight is not a finite number, or the settings do not fit together.
        DataError: if there is nothing to train on, or to watch.
        NetworkError: if the network has fewer outputs than the data have classes.
        ModelFileError: if the state file is damaged.
        MachineError: if a device or memory is lacking, or the state cannot be written.
    """
    device = torch_device(settings.device)
    _check(settings, dataset, teacher)
    state = TrainingState()
    peer: Peer | None = None
    with contextlib.ExitStack() as stack:
        stack.enter_context(placed(model, device, channels_last=settings.channels_last))
        if teacher is not None:
            stack.enter_context(placed(teacher, device, channels_last=settings.channels_last))
            teacher.eval()
            if settings.distill is not None and settings.distill.kind == "mutual":
                peer = Peer(teacher, settings)
                hooks = (*hooks, peer)
        stack.enter_context(_repeatable(device))
        stack.enter_context(_explained(settings))
        if masks is not None:
            masks.apply(model)
        identity = ""
        if checkpoint is not None:
            identity = identity_of(model, dataset, settings, seed=seed, augment=augment, teacher=teacher)
        stack.enter_context(_attached(hooks, model))
        if settings.epochs > 0:
            optimizer = build_optimizer(model, settings)
            if checkpoint is not None:
                state = load_state(checkpoint, identity, model, optimizer, hooks=hooks) or state
            runner = EpochRunner(
                model, dataset, settings, device, optimizer, seed, augment, progress, hooks, teacher, masks, peer
            )
            while state.epochs < settings.epochs and not state.patience_is_over(settings):
                entry = runner.run(state.epochs)
                state.record(entry, model, keep_best=settings.early_stop_epochs is not None)
                if checkpoint is not None:
                    save_state(checkpoint, identity, state, model, optimizer, hooks=hooks)
            optimizer.zero_grad(set_to_none=True)
        if state.best_weights is not None:
            put_weights(model, state.best_weights, "the best epoch")
    model.eval()
    return TrainResult(state.epochs, state.history, state.epochs < settings.epochs)


def _check(settings: TrainSettings, dataset: Dataset, teacher: nn.Module | None) -> None:
    if len(dataset.train) == 0:
        raise DataError(f"{dataset.name} has no training images")
    if settings.early_stop_epochs is not None and len(dataset.validation) == 0:
        raise DataError("[train] early_stop_epochs needs validation images", next_step="set [data] validation above 0")
    if (settings.distill is None) != (teacher is None):
        raise TrainingError(
            "a teacher and [train] distill are given together or not at all",
            got="no teacher" if teacher is None else "no settings",
        )


@contextlib.contextmanager
def _attached(hooks: Sequence[Hook], model: nn.Module) -> Iterator[None]:
    """Attaches hooks in order, and detaches them in reverse order."""
    with contextlib.ExitStack() as stack:
        for hook in hooks:
            hook.attach(model)
            stack.callback(hook.detach, model)
        yield


@contextlib.contextmanager
def _repeatable(device: torch.device) -> Iterator[None]:
    """Leaves torch's random state as it was, and lets cuDNN choose no kernel by chance."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[device] if device.type == "cuda" else []))
        if device.type == "cuda":
            stack.enter_context(torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True))
        yield


@contextlib.contextmanager
def _explained(settings: TrainSettings) -> Iterator[None]:
    """Says in one line what torch says in many."""
    try:
        yield
    except CompressError:
        raise
    except torch.OutOfMemoryError as error:
        raise MachineError(
            "not enough GPU memory to train", got=f"batch_size {settings.batch_size}", next_step="halve it"
        ) from error
    except RuntimeError as error:
        if "view size is not compatible" not in str(error):
            raise
        raise TrainingError(
            "the network's forward() uses .view() on a tensor that lies in memory channels last",
            next_step="write .flatten() or .reshape() there, or set [train] and [retrain] channels_last = false",
        ) from error
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise TrainingError(
            "BatchNorm cannot train on batches of one image", next_step="raise [train] batch_size, or add images"
        ) from error
