"""Hierarchical group sparsity: kernels compete within a group, and groups as wholes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from compress.channels.groups import Groups
from compress.prune.groupings import GroupedPenalty, Grouping, kernel_weights
from compress.prune.regularizers import Regularizer, regularizers


@regularizers.register("hsq-gl12")
@dataclass(frozen=True)
class HierarchicalSquareGroupL12(Regularizer):
    """The square of a group's sum of its kernels' L1/2 norms.

    R(W) = Σ_g (Σ_k r(W_{g,k}))² with r(W_{g,k}) = √(Σ_i |w_{g,k,i}|), over kernels k of group g. With grouping
    `filter` a group is one kernel, and R is the L1 norm.

    Args:
        grouping: `filter`, `neuron` or `feature`: what counts as a group.
        epsilon: added below the square root, whose gradient has no bound at zero.
        linear: whether linear layers count as 1×1 convolutions.

    Source: K. Mitsuno, "BonsaiNet: Searching Neural Networks Structure by Pruning and Planting", 2022, equation (2.19)
        with (2.17) as r, grouped as in (3.1). The thesis sums over all layers; the authors' code leaves out linear
        layers and the convolutions of shortcuts. Here linear layers are left out unless asked for, and shortcuts are
        not, as their input channels are those of the stream.
    """

    grouping: Grouping = "feature"
    epsilon: Annotated[float, Field(gt=0, le=1)] = 1e-8
    linear: bool = False

    def bind(self, network: nn.Module, groups: Groups, strength: float) -> GroupedPenalty:
        """Returns λ R over the network's convolutions."""
        return GroupedPenalty(kernel_weights(network, self.linear), self.grouping, strength, self._function)

    def _function(self, kernels: Tensor) -> Tensor:
        return kernels.abs().sum(2).add(self.epsilon).sqrt().sum(1).square().sum()
