"""Incremental regularization: each group has its own factor, moved by the rank of its norm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from compress.channels.groups import Groups
from compress.prune.groupings import Parts
from compress.prune.masks import ChannelMask
from compress.prune.regularizers import Regularizer, regularizers
from compress.prune.weight_groups import WeightGroups, weight_groups
from compress.train.hooks import Hook


@dataclass
class _Layer:
    """The groups of a layer and what is remembered of them: λ_g, the sum of ranks over all steps, who has gone."""

    groups: WeightGroups
    factor: Tensor
    ranks: Tensor
    gone: Tensor


class _Incremental(Hook):
    """Adds λ_g w to the gradients, and moves each λ_g after each step."""

    def __init__(self, groups: Groups, layers: list[WeightGroups], strength: float, settings: IncReg) -> None:
        self._groups, self._strength, self._settings = groups, strength, settings
        self._layers = [
            _Layer(layer, torch.zeros(layer.size), torch.zeros(layer.size), torch.zeros(layer.size, dtype=torch.bool))
            for layer in layers
        ]
        self._mask: ChannelMask | None = None

    def after_backward(self, model: nn.Module) -> None:
        with torch.no_grad():
            for layer in self._layers:
                for name, weight in layer.groups.stored(model).items():
                    if weight.grad is not None:
                        weight.grad += layer.groups.spread(layer.factor, name).to(weight.device) * weight

    def after_step(self, model: nn.Module, learning_rate: float) -> None:
        fell = [self._move(layer, model) for layer in self._layers]
        if any(fell) or self._mask is None:
            self._mask = ChannelMask(self._groups, self._kept_units())
        for layer in self._layers:
            layer.groups.zero(model, layer.gone)
        self._mask.apply(model)

    def _move(self, layer: _Layer, model: nn.Module) -> bool:
        """Updates one layer; tells whether groups fell to zero for good."""
        settings, size = self._settings, layer.groups.size
        target = round(settings.ratio * size)
        if int(layer.gone.sum()) >= target:
            layer.factor.zero_()
            return False
        norms = layer.groups.sums({n: w.detach().abs() for n, w in layer.groups.stored(model).items()})
        layer.ranks += _ranked(norms)
        rank = _ranked(layer.ranks)
        layer.factor = (layer.factor + self._strength * increment(rank, target, size)).clamp(min=0)
        small = (norms <= settings.epsilon * norms.max()) & ~layer.gone
        room = target - int(layer.gone.sum())
        fallen = [int(g) for g in norms.argsort(stable=True) if small[g]][:room]
        layer.gone[fallen] = True
        return bool(fallen)

    def _kept_units(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        keep = np.ones(self._groups.size, dtype=bool)
        for layer in self._layers:
            first = layer.groups.first_unit
            if first is not None:
                keep[first : first + layer.groups.size] = ~layer.gone.numpy()
        return keep

    def state_dict(self) -> Mapping[str, Tensor]:
        state: dict[str, Tensor] = {}
        for index, layer in enumerate(self._layers):
            state |= {f"{index}.factor": layer.factor, f"{index}.ranks": layer.ranks, f"{index}.gone": layer.gone}
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._mask = None
        for index, layer in enumerate(self._layers):
            layer.factor, layer.ranks, layer.gone = (
                state[f"{index}.{what}"].clone() for what in ("factor", "ranks", "gone")
            )


@regularizers.register("increg")
@dataclass(frozen=True)
class IncReg(Regularizer):
    """Weight decay with a factor of each group's own, which rises for small groups and falls for large ones.

    The gradient gains λ_g w. After each step λ_g ← max(0, λ_g + Δ(r)) with the rank r of the group's L1 norm, ascending
    and averaged over the steps: Δ(r) = A (1 − r / (R N)) for r ≤ R N, −A (r − R N) / (N (1 − R) − 1) above. Groups that
    have become small go for good, until R N of the layer's N groups have; A is the strength.

    Args:
        ratio: R, the share of each layer's groups that goes.
        grouping: `channel`, `neuron`, `feature`, `shape`, `stripe` or `filter`: what counts as a group.
        epsilon: groups whose norm is below this share of the layer's largest go for good.
        linear: whether linear layers take part.

    Source: H. Wang, Q. Zhang, Y. Wang, L. Yu, H. Hu, "Structured Pruning for Efficient ConvNets via Incremental
        Regularization", 2019, §III. There the groups are the columns of a layer (`shape`), and A is half the weight
        decay; here channels by default, their biases and scales at zero with them.
    """

    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5
    grouping: Parts = "channel"
    epsilon: Annotated[float, Field(gt=0, lt=1)] = 0.01
    linear: bool = True

    def bind(self, network: nn.Module, groups: Groups, strength: float) -> Hook:
        """Returns the factors of the network's groups, and what moves them."""
        return _Incremental(groups, weight_groups(network, groups, self.grouping, linear=self.linear), strength, self)


def increment(rank: Tensor, target: int, size: int) -> Tensor:
    """Δ(r) / A: from 1 at rank 0 through 0 at rank R N to −1 at the last.

    Args:
        rank: of each group, 0 the smallest, [size].
        target: R N, how many groups are to go.
        size: N.
    """
    below = 1 - rank / max(target, 1)
    above = -(rank - target) / max(size - target - 1, 1)
    return torch.where(rank <= target, below, above)


def _ranked(values: Tensor) -> Tensor:
    """Returns the place of each value in ascending order; equal ones by number."""
    order = values.argsort(stable=True)
    return torch.empty_like(values).index_copy_(0, order, torch.arange(len(values), dtype=values.dtype))
