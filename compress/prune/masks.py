"""Masks: channels and weights set to zero in place, as if they had been cut out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from compress.channels.graph import Array
from compress.channels.groups import Groups
from compress.channels.plan import Plan
from compress.errors import ModelFileError, NetworkError
from compress.prune.parametrized import stored_tensors
from compress.prune.problem import places
from compress.train.hooks import Masks
from compress.train.weights import read_tensors, write_tensors

# Zero weights into and out of a channel, scale and shift: with these it adds exactly nothing. Running statistics only
# move a channel that is scaled by zero.
MASKED_ROLES = ("out", "in", "scale", "shift")
_SHAPES = "shapes"


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
        tensors = stored_tensors(model)
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


@dataclass(frozen=True)
class WeightMask:
    """Zeroes single weights.

    Args:
        held: parameter → which of its weights remain (booleans of its shape).
    """

    held: Mapping[str, Array]

    def apply(self, model: nn.Module) -> None:
        """Sets the weights that go to zero, in place.

        Raises:
            NetworkError: if a parameter is missing or of another shape.
        """
        tensors = stored_tensors(model)
        with torch.no_grad():
            for name, keep in self.held.items():
                tensor = tensors.get(name)
                if tensor is None or tuple(tensor.shape) != keep.shape:
                    raise NetworkError(
                        f"the mask does not fit parameter {name!r}",
                        got="no such parameter" if tensor is None else f"shape {tuple(tensor.shape)}",
                        allowed=f"shape {keep.shape}",
                        next_step="apply it to the network that it was made for",
                    )
                tensor.masked_fill_(torch.from_numpy(~keep).to(tensor.device), 0)

    def cut(self, plan: Plan) -> WeightMask:
        """Returns the mask of the network that `plan` leaves."""
        return WeightMask({name: plan.apply(name, keep) for name, keep in self.held.items()})

    def save(self, path: Path) -> None:
        """Writes the mask, one bit a weight.

        Raises:
            MachineError: if it cannot be written.
        """
        bits = {name: torch.from_numpy(np.packbits(keep.reshape(-1))) for name, keep in self.held.items()}
        shapes = {name: list(keep.shape) for name, keep in self.held.items()}
        write_tensors(path, bits, _SHAPES, json.dumps(shapes, sort_keys=True))

    @classmethod
    def load(cls, path: Path) -> WeightMask:
        """Reads what `save` wrote.

        Raises:
            ModelFileError: if the file is missing or something else.
        """
        bits, metadata = read_tensors(path, "mask")
        try:
            shapes = json.loads(metadata[_SHAPES])
            return cls(
                {
                    name: np.unpackbits(bits[name].numpy(), count=int(np.prod(shape))).astype(bool).reshape(shape)
                    for name, shape in shapes.items()
                }
            )
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise ModelFileError(f"{path} is no mask of weights ({error})", next_step="make it again") from error


@dataclass(frozen=True)
class AllOf:
    """Several masks, one after the other."""

    masks: tuple[Masks, ...]

    def apply(self, model: nn.Module) -> None:
        """Applies each."""
        for mask in self.masks:
            mask.apply(model)
