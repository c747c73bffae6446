"""The state of a training between two epochs, as a file: what makes an interrupted training go on bit for bit."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compress.artifact import sha256_json
from compress.data.base import Augment, Dataset
from compress.errors import CompressError, ModelFileError
from compress.recipe import TrainSettings
from compress.train.hooks import Hook
from compress.train.weights import put_weights, read_tensors, weights_of, weights_sha256, write_tensors

_FORMAT = 1
_KEY = "training"
_DELETE = "delete it; the training then starts anew"

EpochRecord = dict[str, float | int | None]


@dataclass
class TrainingState:
    """How far a training is; weights and optimizer state live in their own objects.

    Args:
        epochs: finished.
        history: one record an epoch.
        best_epoch: the epoch of the best validation accuracy, from 1; 0 if none was measured.
        best_weights: of that epoch, kept only where early stopping needs them.
    """

    epochs: int = 0
    history: list[EpochRecord] = field(default_factory=list)
    best_epoch: int = 0
    best_weights: dict[str, Tensor] | None = None

    def record(self, entry: EpochRecord, model: nn.Module, *, keep_best: bool) -> None:
        """Adds an epoch, and remembers its weights if they are the best so far."""
        self.epochs += 1
        self.history.append(entry)
        best = self.history[self.best_epoch - 1]["validation_accuracy"] if self.best_epoch else None
        measured = entry["validation_accuracy"]
        if measured is not None and (best is None or measured > best):
            self.best_epoch = self.epochs
            if keep_best:
                self.best_weights = weights_of(model)

    def patience_is_over(self, settings: TrainSettings) -> bool:
        """Tells whether `early_stop_epochs` have passed since the best epoch."""
        patience = settings.early_stop_epochs
        return patience is not None and self.best_epoch > 0 and self.epochs - self.best_epoch >= patience


def identity_of(
    model: nn.Module,
    dataset: Dataset,
    settings: TrainSettings,
    *,
    seed: int,
    augment: Augment | None,
    teacher: nn.Module | None,
) -> str:
    """Returns a hash of what a training starts from; a state with another one belongs to another training."""
    return sha256_json(
        {
            "settings": settings.model_dump(mode="json"),
            "seed": seed,
            "weights": weights_sha256(model),
            "teacher": None if teacher is None else weights_sha256(teacher),
            "data": [dataset.name, len(dataset.train), len(dataset.validation), dataset.classes],
            "augment": None if augment is None else dataclasses.asdict(augment),
        }
    )


def save_state(
    path: Path,
    identity: str,
    state: TrainingState,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    hooks: Sequence[Hook],
) -> None:
    """Writes everything that the next epoch depends on, atomically.

    Raises:
        MachineError: if it cannot be written.
    """
    tensors = {f"model.{name}": tensor for name, tensor in weights_of(model).items()}
    tensors |= {f"best.{name}": tensor for name, tensor in (state.best_weights or {}).items()}
    tensors |= {f"optimizer.{name}": tensor for name, tensor in optimizer_tensors(model, optimizer).items()}
    for index, hook in enumerate(hooks):
        tensors |= {f"hook.{index}.{name}": _copy(tensor) for name, tensor in hook.state_dict().items()}
    described = {
        "format": _FORMAT,
        "identity": identity,
        "epochs": state.epochs,
        "best_epoch": state.best_epoch,
        "history": state.history,
    }
    write_tensors(path, tensors, _KEY, json.dumps(described, sort_keys=True, allow_nan=False))


def load_state(
    path: Path,
    identity: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    hooks: Sequence[Hook],
) -> TrainingState | None:
    """Puts a training back where `save_state` left it.

    Returns:
        The state, with `model`, `optimizer` and `hooks` set to it; None, with nothing touched, if there is no file or
        it belongs to another training.

    Raises:
        ModelFileError: if the file is damaged.
    """
    if not path.exists():
        return None
    tensors, metadata = read_tensors(path, "training state", _DELETE)
    try:
        described = json.loads(metadata[_KEY])
        if described["format"] != _FORMAT or described["identity"] != identity:
            return None
        state = TrainingState(int(described["epochs"]), list(described["history"]), int(described["best_epoch"]))
        state.best_weights = _under("best.", tensors) or None
        restore_optimizer(optimizer, model, _under("optimizer.", tensors))
        put_weights(model, _under("model.", tensors), "its model")
        for index, hook in enumerate(hooks):
            hook.load_state_dict(_under(f"hook.{index}.", tensors))
    except (CompressError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelFileError(
            f"training state {path} is damaged ({type(error).__name__}: {error})", next_step=_DELETE
        ) from error
    return state


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Returns copies on the CPU of all that an optimizer remembers, by slot and parameter: ``<slot>.<name>``."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        f"{slot}.{names[id(parameter)]}": _copy(value)
        for parameter, slots in optimizer.state.items()
        for slot, value in slots.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Gives an optimizer back what `optimizer_tensors` returned."""
    described = optimizer.state_dict()
    indices = {id(p): index for index, p in enumerate(p for group in optimizer.param_groups for p in group["params"])}
    parameters = dict(model.named_parameters())
    slots: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        slot, _, name = key.partition(".")
        parameter = parameters[name]
        # The parameter's own strides: kernels may round differently on another layout.
        placed = torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value
        slots.setdefault(indices[id(parameter)], {})[slot] = placed.detach()
    described["state"] = slots
    optimizer.load_state_dict(described)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
