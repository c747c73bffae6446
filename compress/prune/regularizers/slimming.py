"""Network slimming: L1 on the scales of BatchNorm."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compress.channels.groups import Groups
from compress.errors import NetworkError
from compress.prune.regularizers import Regularizer, regularizers
from compress.train.hooks import Hook


@dataclass(frozen=True)
class _Slimming(Hook):
    scales: tuple[str, ...]
    strength: float

    def penalty(self, model: nn.Module) -> Tensor:
        scales = torch.cat([model.get_parameter(name).float() for name in self.scales])
        return self.strength * scales.abs().sum()


@regularizers.register("slimming")
@dataclass(frozen=True)
class Slimming(Regularizer):
    """The L1 norm of all BatchNorm scales; criterion `bn-scale` with one global ranking then prunes.

    R = Σ |γ|, with the subgradient 0 at γ = 0.

    Source: Z. Liu, J. Li, Z. Shen, G. Huang, S. Yan, C. Zhang, "Learning Efficient Convolutional Networks through
        Network Slimming", 2017, equation (1).
    """

    def bind(self, network: nn.Module, groups: Groups, strength: float) -> _Slimming:
        """Returns λ Σ |γ| over the network's BatchNorm layers."""
        scales = tuple(
            f"{path}.weight" if path else "weight"
            for path, module in network.named_modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine
        )
        if not scales:
            raise NetworkError("the network has no BatchNorm scale to slim", next_step="choose regularizer 'hsq-gl12'")
        return _Slimming(scales, strength)
