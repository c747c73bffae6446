"""The optimizer that the settings ask for."""

from __future__ import annotations

import torch
from torch import nn

from compress.errors import TrainingError
from compress.recipe import TrainSettings

_ADAM_BETA2 = 0.999


def build_optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """Makes SGD or AdamW over every parameter that is not frozen.

    Weight decay applies to all of them, biases and BatchNorm included, as in the papers that this project follows.

    Raises:
        TrainingError: if nothing can be trained, or Nesterov momentum is asked for where there is none.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise TrainingError("the network has no parameter to train", next_step="set epochs = 0, or unfreeze a layer")
    if settings.nesterov and (settings.optimizer != "sgd" or settings.momentum == 0):
        raise TrainingError(
            "[train] nesterov needs SGD with momentum",
            got=f"optimizer {settings.optimizer}, momentum {settings.momentum}",
            next_step="set nesterov = false",
        )
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=settings.nesterov,
        )
    return torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        betas=(settings.momentum, _ADAM_BETA2),
        weight_decay=settings.weight_decay,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Sets η of every parameter."""
    for group in optimizer.param_groups:
        group["lr"] = value
