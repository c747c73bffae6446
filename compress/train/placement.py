"""Where a model computes: device, memory layout and precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from compress.data.base import Batch
from compress.errors import MachineError


def torch_device(name: str) -> torch.device:
    """Resolves `auto`, `cpu` or `cuda`.

    Raises:
        MachineError: if CUDA is asked for and there is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise MachineError("device cuda: torch finds no GPU here", next_step='set device = "auto"')
    return torch.device(name)


@contextmanager
def placed(model: nn.Module, device: torch.device, *, channels_last: bool = False) -> Iterator[None]:
    """Moves `model`, and brings it back: device, layout, and each module's training flag.

    Parameters stay the same objects, so what refers to them stays valid.

    Args:
        model: changed in place.
        device: where it is to compute.
        channels_last: lay 4-D weights out channels last meanwhile; they come back contiguous.
    """
    home = next((tensor.device for tensor in [*model.parameters(), *model.buffers()]), device)
    flags = [(module, module.training) for module in model.modules()]
    model.to(device)
    if channels_last:
        _lay_out(model, torch.channels_last)
    try:
        yield
    finally:
        if channels_last:
            _lay_out(model, torch.contiguous_format)
        model.to(home)
        for module, training in flags:
            module.training = training


def to_device(batch: Batch, device: torch.device, *, channels_last: bool = False) -> tuple[Tensor, Tensor]:
    """Returns images, float32 [N, C, H, W], and labels, int64 [N], on `device`."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    images = torch.from_numpy(np.ascontiguousarray(batch[0])).to(device, memory_format=layout)
    return images, torch.from_numpy(np.ascontiguousarray(batch[1])).to(device)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Returns the context of a forward pass: bfloat16 where operators allow it, or no change."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def _lay_out(model: nn.Module, layout: torch.memory_format) -> None:
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=layout)
