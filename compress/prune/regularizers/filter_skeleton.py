"""Filter skeletons: a learnt factor for each stripe of each filter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from compress.channels.groups import Groups
from compress.prune.groupings import KernelWeight, kernel_weights
from compress.prune.parametrized import compute, keep_computed
from compress.prune.regularizers import Regularizer, regularizers
from compress.train.hooks import Hook


class Skeleton(nn.Module):
    """W ⊙ S.

    Args:
        weight: of a convolution, [O, I, kH, kW], or [I, O, kH, kW] of a transposed one.
        layout: groups of the convolution, and whether it is transposed.
    """

    def __init__(self, weight: Tensor, layout: KernelWeight) -> None:
        super().__init__()
        first, second, *kernel = weight.shape
        # [g, inputs of a group, outputs of a group, …] for a transposed convolution, else [O, I, …].
        self._shape = (layout.groups, first // layout.groups, second, *kernel) if layout.transposed else weight.shape
        shape = (layout.groups, 1, second, *kernel) if layout.transposed else (first, 1, *kernel)
        self.skeleton = nn.Parameter(torch.ones(shape))

    def forward(self, original: Tensor) -> Tensor:
        """Returns W ⊙ S, of the weight's shape."""
        return (original.reshape(self._shape) * self.skeleton).reshape(original.shape)


class _Skeletons(Hook):
    """Attaches the skeletons, adds λ Σ |S|, and lets small stripes go for good."""

    def __init__(self, weights: tuple[KernelWeight, ...], strength: float, threshold: float) -> None:
        self._weights, self._strength, self._threshold = weights, strength, threshold
        self._skeletons: dict[str, Skeleton] = {}
        self._gone: list[Tensor] = []

    def attach(self, model: nn.Module) -> None:
        for weight in self._weights:
            skeleton = Skeleton(model.get_parameter(weight.name), weight)
            compute(model, weight.name, skeleton)
            self._skeletons[weight.name] = skeleton

    def detach(self, model: nn.Module) -> None:
        keep_computed(model, list(self._skeletons))
        self._skeletons = {}

    def penalty(self, model: nn.Module) -> Tensor | None:
        if not self._skeletons:
            return None
        return self._strength * torch.stack([s.skeleton.abs().sum() for s in self._skeletons.values()]).sum()

    def after_backward(self, model: nn.Module) -> None:
        self._gone = [skeleton.skeleton.detach() == 0 for skeleton in self._skeletons.values()]

    def after_step(self, model: nn.Module, learning_rate: float) -> None:
        with torch.no_grad():
            for skeleton, gone in zip(self._skeletons.values(), self._gone, strict=True):
                stripes = skeleton.skeleton
                stripes.masked_fill_(gone | (stripes.abs() <= self._threshold), 0)


@regularizers.register("filter-skeleton")
@dataclass(frozen=True)
class FilterSkeleton(Regularizer):
    """A factor S[o, x, y] for each stripe W[o, :, x, y], learnt with an L1 penalty; small ones become exact zeros.

    The network computes with W ⊙ S; R = Σ |S|; S starts at 1, and stripes with |S| ≤ δ are zero from then on.

    Args:
        threshold: δ.

    Raises:
        NetworkError: if the network has no convolution.

    Source: F. Meng, H. Cheng, K. Li, H. Luo, X. Guo, G. Lu, X. Sun, "Pruning Filter in Filter", 2020, equations (3) and
        (4). In the end W ⊙ S becomes the weight, and criterion `magnitude` with part = "stripe" and threshold = 0 holds
        the zeros; a filter without stripes is a channel that goes. Weight decay acts on S as on all that is trained.
    """

    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.05

    def bind(self, network: nn.Module, groups: Groups, strength: float) -> Hook:
        """Returns the skeletons of the network's convolutions."""
        return _Skeletons(kernel_weights(network, linear=False), strength, self.threshold)
