"""How a weight is seen as groups of kernels, so that a penalty on it is one line.

A weight W[O, I, kH, kW] holds O·I kernels. `filter`: each kernel is a group; `neuron`: the kernels W[o, :] into an
output channel; `feature`: the kernels W[:, i] out of an input channel.

Source: K. Mitsuno, "BonsaiNet", 2022, §2.3.1, figure 2.3, and equation (3.1) for `feature`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from compress.errors import NetworkError
from compress.train.hooks import Hook

Grouping = Literal["filter", "neuron", "feature"]


@dataclass(frozen=True)
class KernelWeight:
    """A weight that is made of kernels.

    Attributes:
        name: of the parameter.
        groups: of a grouped convolution; an output channel reads only the input channels of its own group.
        transposed: whether input channels come first, as in a transposed convolution.
    """

    name: str
    groups: int
    transposed: bool

    def view(self, model: nn.Module, grouping: Grouping) -> Tensor:
        """Returns the weight of `model` as groups of kernels. Shape: [group, kernel, weight of the kernel]."""
        weight = model.get_parameter(self.name)
        # [first, second, …] → [g, first/g, second, P]
        kernels: Tensor = weight.reshape(self.groups, weight.shape[0] // self.groups, weight.shape[1], -1)
        if self.transposed:
            kernels = kernels.transpose(1, 2)
        if grouping == "filter":
            return kernels.flatten(0, 2).unsqueeze(1)
        if grouping == "feature":
            kernels = kernels.transpose(1, 2)
        return kernels.flatten(0, 1)


def kernel_weights(network: nn.Module, linear: bool) -> tuple[KernelWeight, ...]:
    """Returns the weights of all convolutions, and of linear layers where `linear`; biases have no kernels.

    Raises:
        NetworkError: if there is none.
    """
    found = []
    for path, module in network.named_modules():
        name = f"{path}.weight" if path else "weight"
        if isinstance(module, nn.modules.conv._ConvNd):
            found.append(KernelWeight(name, module.groups, module.transposed))
        elif linear and isinstance(module, nn.Linear):
            found.append(KernelWeight(name, 1, False))
    if not found:
        raise NetworkError(
            "the network has no convolution that this regularizer could act on",
            next_step="choose another regularizer" if linear else "set its option linear = true",
        )
    return tuple(found)


@dataclass(frozen=True)
class GroupedPenalty(Hook):
    """λ Σ_l R(W^l), with every weight seen as groups of kernels.

    Args:
        weights: that it acts on.
        grouping: how they are grouped.
        strength: λ.
        function: R; maps [group, kernel, weight] to a scalar.
    """

    weights: tuple[KernelWeight, ...]
    grouping: Grouping
    strength: float
    function: Callable[[Tensor], Tensor]

    def penalty(self, model: nn.Module) -> Tensor:
        """Returns the scalar to add to the loss."""
        terms = [self.function(weight.view(model, self.grouping).float()) for weight in self.weights]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return self.strength * total
