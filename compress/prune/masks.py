"""Masks: channels set to zero in place, as if they had been cut out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from compress.channels.graph import Array
from compress.channels.groups import Groups
from compress.errors import NetworkError
from compress.prune.problem import places

# Zero weights into and out of a channel, scale and shift: with these it adds exactly nothing. Running statistics only
# move a channel that is scaled by zero.
MASKED_ROLES = ("out", "in", "scale", "shift")


@dataclass(frozen=True)
class _Dead:
    parameter: str
    axis: int
    size: int
    index: Tensor


@dataclass(frozen=True)
class ChannelMask:
    """Zeroes the units that go, in every parameter that computes or reads them.

    The masked network computes what the compacted one does. As the `masks` of a training it is applied after each
    step.

    Args:
        groups: of the network.
        keep: which units remain, over all groups in turn. Shape: (units,), booleans.
    """

    groups: Groups
    keep: Array
    _dead: tuple[_Dead, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        keep = np.append(self.keep, True)  # position -1: of no unit
        dead = []
        for place in places(self.groups):
            index = np.flatnonzero(~keep[place.unit])
            if place.role in MASKED_ROLES and index.size:
                dead.append(_Dead(place.parameter, place.axis, place.unit.size, torch.from_numpy(index)))
        object.__setattr__(self, "_dead", tuple(dead))

    def apply(self, model: nn.Module) -> None:
        """Sets the units that go to zero, in place.

        Raises:
            NetworkError: if a parameter is missing or of another size, e.g. because the network has been compacted.
        """
        tensors = dict(model.named_parameters(remove_duplicate=False)) | dict(
            model.named_buffers(remove_duplicate=False)
        )
        with torch.no_grad():
            for dead in self._dead:
                tensor = tensors.get(dead.parameter)
                if tensor is None or tensor.ndim <= dead.axis or tensor.shape[dead.axis] != dead.size:
                    raise NetworkError(
                        f"the mask does not fit parameter {dead.parameter!r}",
                        got="no such parameter" if tensor is None else f"shape {tuple(tensor.shape)}",
                        allowed=f"{dead.size} positions on axis {dead.axis}",
                        next_step="apply it to the network that the groups were found on",
                    )
                tensor.index_fill_(dead.axis, dead.index.to(tensor.device), 0)
