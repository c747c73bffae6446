"""L0 regularization: hard concrete gates, whose expected number is the penalty."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from compress.channels.groups import Groups
from compress.prune.gates import Gated, attach_gates, channel_gates, detach_gates
from compress.prune.masks import ChannelMask
from compress.prune.problem import places
from compress.prune.regularizers import Regularizer, regularizers
from compress.train.hooks import Hook

_EPSILON = 1e-6  # the noise stays so far from 0 and 1, where its logarithm has no bound


class HardConcrete(nn.Module):
    """One gate a channel: random while training, at its expected place in evaluation mode.

    Args:
        size: how many gates.
        start: σ(log α) of each to begin with.
        settings: β, γ, ζ.
    """

    noise: Tensor

    def __init__(self, size: int, start: float, settings: HardConcreteL0) -> None:
        super().__init__()
        self._settings = settings
        self.log_alpha = nn.Parameter(torch.full((size,), math.log(start / (1 - start))))
        # Drawn anew before each step, so that all parameters of a channel see one draw.
        self.register_buffer("noise", torch.full((size,), 0.5), persistent=False)

    def forward(self) -> Tensor:
        """Returns the gates, [size], within 0…1."""
        settings = self._settings
        position: Tensor = self.log_alpha
        if self.training:
            position = (self.noise.log() - (-self.noise).log1p() + self.log_alpha) / settings.beta
        stretched = position.sigmoid() * (settings.zeta - settings.gamma) + settings.gamma
        return stretched.clamp(0, 1)

    def open(self) -> Tensor:
        """Returns the probability that each gate is not zero, [size]."""
        settings = self._settings
        return (self.log_alpha - settings.beta * math.log(-settings.gamma / settings.zeta)).sigmoid()


class _L0(Hook):
    """Attaches the gates, and adds λ Σ_g |g| P(z_g ≠ 0)."""

    def __init__(self, groups: Groups, strength: float, settings: HardConcreteL0) -> None:
        self._groups, self._strength, self._settings = groups, strength, settings
        self._gated: tuple[Gated, ...] = channel_gates(groups)
        self._sizes = torch.from_numpy(_sizes(groups)).float()
        self._gates: HardConcrete | None = None

    def attach(self, model: nn.Module) -> None:
        self._gates = HardConcrete(self._groups.size, self._settings.start, self._settings)
        attach_gates(model, self._gates, self._gated)

    def detach(self, model: nn.Module) -> None:
        gates = self._gates
        assert gates is not None
        detach_gates(model, self._gated)
        with torch.no_grad():
            ChannelMask(self._groups, gates().cpu().numpy() > 0).apply(model)
        self._gates = None

    def before_step(self, model: nn.Module, images: Tensor, labels: Tensor) -> None:
        assert self._gates is not None
        self._gates.noise.uniform_(_EPSILON, 1 - _EPSILON)

    def penalty(self, model: nn.Module) -> Tensor | None:
        if self._gates is None:
            return None
        return self._strength * (self._sizes.to(self._gates.log_alpha.device) * self._gates.open()).sum()


@regularizers.register("l0")
@dataclass(frozen=True)
class HardConcreteL0(Regularizer):
    """The expected number of weights that remain, through random gates on channels; gates that close are exact zeros.

    R = Σ_g |g| σ(log α_g − β log(−γ/ζ)). While training z_g = min(1, max(0, s (ζ − γ) + γ)) with
    s = σ((log u − log(1 − u) + log α_g) / β) and u uniform in 0…1; afterwards s = σ(log α_g).

    Args:
        beta: β, the temperature.
        gamma: γ, the lower end of the stretched interval.
        zeta: ζ, the upper end.
        start: σ(log α) of every gate to begin with.

    Raises:
        NetworkError: if no channel of the network can go.

    Source: C. Louizos, M. Welling, D. P. Kingma, "Learning Sparse Neural Networks through L0 Regularization", 2018,
        equations (10) to (13), §4 for the constants. There λ is divided by the number of training images, log α starts
        at a small random distance from its mean, and each image has its own draw; here λ stands as given, the draws
        alone break the symmetry, and a batch has one draw. |g| counts the weights that produce the channel.
    """

    beta: Annotated[float, Field(gt=0)] = 2 / 3
    gamma: Annotated[float, Field(lt=0)] = -0.1
    zeta: Annotated[float, Field(gt=1)] = 1.1
    start: Annotated[float, Field(gt=0, lt=1)] = 0.9

    def bind(self, network: nn.Module, groups: Groups, strength: float) -> Hook:
        """Returns the gates of the network's channels, and their penalty."""
        return _L0(groups, strength, self)


def _sizes(groups: Groups) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Returns how many weights produce each unit; shape (units,)."""
    sizes = np.zeros(groups.size)
    for place in places(groups):
        if place.role in ("out", "shift", "scale"):
            shape = groups.trace.graph.constants[place.parameter].shape
            mine = place.unit >= 0
            np.add.at(sizes, place.unit[mine], np.prod(shape) / shape[place.axis])
    return sizes
