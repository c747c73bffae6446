"""ADMM pruning: weights are drawn towards their projection on a set of sparse weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from compress.channels.groups import Groups
from compress.prune.regularizers import Regularizer, regularizers
from compress.prune.weight_groups import Structure, WeightGroups, weight_groups
from compress.train.hooks import Hook


class _Admm(Hook):
    """Adds ρ/2 ‖W − Z + U‖² to the loss, and takes the other two steps after epochs."""

    def __init__(self, layers: list[WeightGroups], strength: float, settings: Admm) -> None:
        self._layers, self._strength, self._settings = layers, strength, settings
        self._z: dict[str, Tensor] = {}
        self._u: dict[str, Tensor] = {}

    def attach(self, model: nn.Module) -> None:
        for layer in self._layers:
            weights = layer.stored(model)
            self._u |= {name: torch.zeros_like(weight) for name, weight in weights.items()}
            self._z |= project(layer, weights, self._settings.ratio)

    def penalty(self, model: nn.Module) -> Tensor | None:
        if not self._z:
            return None
        distances = [
            (model.get_parameter(name).float() - self._z[name] + self._u[name]).square().sum() for name in self._z
        ]
        return 0.5 * self._strength * torch.stack(distances).sum()

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        if epoch % self._settings.every:
            return
        with torch.no_grad():
            for layer in self._layers:
                weights = layer.stored(model)
                moved = {name: weight + self._u[name] for name, weight in weights.items()}
                self._z |= project(layer, moved, self._settings.ratio)
                self._u |= {name: moved[name] - self._z[name] for name in weights}

    def state_dict(self) -> Mapping[str, Tensor]:
        return {f"z.{name}": z for name, z in self._z.items()} | {f"u.{name}": u for name, u in self._u.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        for mine, prefix in ((self._z, "z."), (self._u, "u.")):
            for key, value in state.items():
                if key.startswith(prefix):
                    name = key.removeprefix(prefix)
                    mine[name] = torch.empty_like(mine.get(name, value)).copy_(value)


@regularizers.register("admm")
@dataclass(frozen=True)
class Admm(Regularizer):
    """Alternates training, projection on the sparse weights, and an update of the multipliers; ρ is the strength.

    W: minimise L(W) + ρ/2 ‖W − Z + U‖²; Z ← Π(W + U), which keeps in each layer the largest groups; U ← U + W − Z.

    Args:
        ratio: share of a layer's groups that Z has at zero.
        every: epochs between two updates of Z and U.
        structure: what is a group: `weight`; `filter`, `neuron`, `feature`, `shape`, `stripe` of one layer; `channel`.
        linear: whether linear layers take part.

    Source: T. Zhang, S. Ye, K. Zhang, J. Tang, W. Wen, M. Fardad, Y. Wang, "A Systematic DNN Weight Pruning Framework
        using Alternating Direction Method of Multipliers", 2018, equations (6) to (9). A share for all layers there is
        one for each. The weights come close to Z and are not it: a criterion cuts afterwards, `magnitude` for weights
        and parts, `filter-l2` for channels.
    """

    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5
    every: Annotated[int, Field(ge=1)] = 1
    structure: Structure = "weight"
    linear: bool = True

    def bind(self, network: nn.Module, groups: Groups, strength: float) -> Hook:
        """Returns what takes the three steps."""
        return _Admm(weight_groups(network, groups, self.structure, linear=self.linear), strength, self)


def project(layer: WeightGroups, weights: Mapping[str, Tensor], ratio: float) -> dict[str, Tensor]:
    """Returns the nearest weights with a share of the groups at zero: those of least norm, equal ones by number."""
    squares = layer.sums({name: weight.detach().float().square() for name, weight in weights.items()})
    keep = torch.ones(layer.size, dtype=torch.bool)
    keep[squares.argsort(stable=True)[: round(ratio * layer.size)]] = False
    return {
        name: weight.detach() * layer.spread(keep, name, rest=True).to(weight.device)
        for name, weight in weights.items()
    }
