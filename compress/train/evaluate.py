"""Accuracy and loss of a network on a part of a data set."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from compress.data.base import Split
from compress.errors import DataError
from compress.train.placement import autocast, placed, to_device, torch_device


@dataclass(frozen=True)
class Evaluation:
    """What a pass over labelled images gives.

    Args:
        accuracy: in per cent.
        loss: mean cross-entropy, in nats.
        images: how many were seen.
    """

    accuracy: float
    loss: float
    images: int


def evaluate(
    model: nn.Module, split: Split, *, device: str = "auto", batch_size: int = 500, precision: str = "float32"
) -> Evaluation:
    """Runs `model` in evaluation mode over `split`, in order, and leaves it as it was.

    Args:
        model: maps images [N, C, H, W] to logits [N, K].
        split: labelled images.
        device: `auto`, `cpu` or `cuda`.
        batch_size: images at a time; the result depends on it only by rounding.
        precision: `float32` or `bfloat16`.

    Raises:
        DataError: if the split is empty.
        MachineError: if there is no such device.
    """
    target = torch_device(device)
    correct = torch.zeros((), dtype=torch.int64, device=target)
    loss = torch.zeros((), dtype=torch.float64, device=target)
    count = 0
    with placed(model, target), torch.no_grad():
        model.eval()
        for batch in split.batches(batch_size):
            images, labels = to_device(batch, target)
            with autocast(target, precision):
                logits = model(images).float()
            correct += (logits.argmax(1) == labels).sum()
            loss += functional.cross_entropy(logits, labels, reduction="sum")
            count += len(labels)
    if count == 0:
        raise DataError("there are no images to measure accuracy on", next_step="check [data] validation and source")
    return Evaluation(100.0 * correct.item() / count, loss.item() / count, count)


def accuracy(
    model: nn.Module, split: Split, *, device: str = "auto", batch_size: int = 500, precision: str = "float32"
) -> float:
    """Returns the accuracy in per cent; see `evaluate`."""
    return evaluate(model, split, device=device, batch_size=batch_size, precision=precision).accuracy
