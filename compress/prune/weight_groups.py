"""Groups of weights by number: for methods that change weights, not only penalise them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from compress.channels.graph import Array
from compress.channels.groups import Groups
from compress.prune.groupings import Parts, kernel_weights

Structure = Parts | Literal["weight"]


@dataclass(frozen=True)
class WeightGroups:
    """The groups of one layer, or of all layers that produce the same channels.

    Attributes:
        numbers: parameter → for each of its weights the number of its group, int64 of its shape; `size`: of none.
        size: how many groups.
        first_unit: number of the unit that is group 0, where groups are channels; else None.
    """

    numbers: Mapping[str, Tensor]
    size: int
    first_unit: int | None = None

    def sums(self, values: Mapping[str, Tensor]) -> Tensor:
        """Adds up, for each group, what `values` holds for its weights. Shape: [size]."""
        total = torch.zeros(self.size + 1)
        for name, numbers in self.numbers.items():
            total.index_add_(0, numbers.reshape(-1), values[name].detach().float().cpu().reshape(-1))
        return total[:-1]

    def counts(self) -> Tensor:
        """Returns how many weights each group has. Shape: [size]."""
        return self.sums({name: torch.ones(numbers.shape) for name, numbers in self.numbers.items()})

    def spread(self, values: Tensor, name: str, rest: float = 0.0) -> Tensor:
        """Returns for each weight of a parameter the value of its group, [size] → its shape; `rest` where none."""
        return torch.cat([values, torch.full((1,), rest, dtype=values.dtype)])[self.numbers[name]]

    def stored(self, model: nn.Module) -> dict[str, Tensor]:
        """Returns the weights of a model, the model's own."""
        return {name: model.get_parameter(name) for name in self.numbers}

    def zero(self, model: nn.Module, gone: Tensor) -> None:
        """Sets the weights of some groups to zero, in place; `gone`: booleans, [size]."""
        with torch.no_grad():
            for name, weight in self.stored(model).items():
                weight.masked_fill_(self.spread(gone, name, rest=False).to(weight.device), 0)


def weight_groups(network: nn.Module, groups: Groups, structure: Structure, *, linear: bool) -> list[WeightGroups]:
    """Returns the groups of each layer; with `channel`, of each channel group.

    Args:
        network: only its shapes are read.
        groups: its channel groups.
        structure: see `groupings`; `weight`: each weight is a group.
        linear: whether linear layers count as 1×1 convolutions.

    Raises:
        NetworkError: if the network has no such weights.
    """
    weights = kernel_weights(network, linear)
    if structure == "channel":
        return _channels(network, groups, {weight.name for weight in weights})
    found = []
    for weight in weights:
        shape = network.get_parameter(weight.name).shape
        positions = torch.arange(shape.numel()).reshape(shape)
        if structure == "weight":
            found.append(WeightGroups({weight.name: positions}, shape.numel()))
            continue
        arranged = weight.arrange(positions, structure).flatten(1)
        numbers = torch.empty(shape.numel(), dtype=torch.int64)
        numbers[arranged.reshape(-1)] = torch.arange(len(arranged)).repeat_interleave(arranged.shape[1])
        found.append(WeightGroups({weight.name: numbers.reshape(shape)}, len(arranged)))
    return found


def _channels(network: nn.Module, groups: Groups, names: set[str]) -> list[WeightGroups]:
    found = []
    for group, start in zip(groups.groups, groups.offsets[:-1], strict=True):
        numbers: dict[str, Tensor] = {}
        for member in group.members:
            if member.role == "out" and member.parameter in names:
                shape = network.get_parameter(member.parameter).shape
                unit: Array = np.where(member.unit >= 0, member.unit, group.size)
                column = [-1 if axis == member.axis else 1 for axis in range(len(shape))]
                numbers[member.parameter] = torch.from_numpy(unit).reshape(column).expand(shape).contiguous()
        if numbers:
            found.append(WeightGroups(numbers, group.size, int(start)))
    return found
