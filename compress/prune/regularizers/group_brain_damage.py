"""Group-wise brain damage: columns that all filters share become small, and go as long as a hold-out allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from compress.channels.groups import Groups
from compress.errors import TrainingError
from compress.prune.groupings import GroupedPenalty, OneWeight, Term, kernel_weights, root, squares
from compress.prune.regularizers import Regularizer, regularizers
from compress.prune.weight_groups import WeightGroups, weight_groups
from compress.train.hooks import Hook

_UNKNOWN = -1.0


class _Gradual(Hook):
    """Adds λ ‖·‖₂,₁, and after epochs sets columns below a threshold to zero, or takes that back."""

    def __init__(self, penalty: GroupedPenalty, layers: list[WeightGroups], settings: GroupBrainDamage) -> None:
        self._penalty, self._layers, self._settings = penalty, layers, settings
        self._gone = [torch.zeros(layer.size, dtype=torch.bool) for layer in layers]
        self._threshold = torch.tensor(settings.threshold)
        self._best = torch.tensor(_UNKNOWN)
        self._tried: list[Tensor] | None = None
        self._before: dict[str, Tensor] = {}

    def penalty(self, model: nn.Module) -> Tensor | None:
        return self._penalty.penalty(model)

    def after_step(self, model: nn.Module, learning_rate: float) -> None:
        self._zero(model, self._gone)

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        # What a cut may cost is known only once an epoch has been validated.
        if self._best.item() == _UNKNOWN or epoch % self._settings.every:
            return
        self._tried, self._before = [], {}
        for layer, gone in zip(self._layers, self._gone, strict=True):
            weights = layer.stored(model)
            self._before |= {name: weight.detach().clone() for name, weight in weights.items()}
            norms = layer.sums({name: weight.detach().square() for name, weight in weights.items()}).sqrt()
            self._tried.append(gone | (norms <= self._threshold * norms.max()))
        self._zero(model, self._tried)

    def after_validation(self, model: nn.Module, accuracy: float | None) -> None:
        settings = self._settings
        if accuracy is None:
            raise TrainingError(
                "regularizer 'group-brain-damage' guards its cuts by validation images, and there are none",
                next_step="set [data] validation above 0",
            )
        if self._tried is not None:
            if accuracy < self._best.item() - settings.drop:
                with torch.no_grad():
                    for name, weight in self._before.items():
                        model.get_parameter(name).copy_(weight)
                self._threshold = self._threshold / settings.growth
            else:
                self._gone = self._tried
                self._threshold = self._threshold * settings.growth
            self._tried, self._before = None, {}
        self._best = self._best.clamp(min=accuracy)

    def state_dict(self) -> Mapping[str, Tensor]:
        return {"threshold": self._threshold, "best": self._best} | {f"gone.{i}": g for i, g in enumerate(self._gone)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._threshold, self._best = state["threshold"].clone(), state["best"].clone()
        self._gone = [state[f"gone.{index}"].clone() for index in range(len(self._gone))]

    def _zero(self, model: nn.Module, gone: list[Tensor]) -> None:
        for layer, columns in zip(self._layers, gone, strict=True):
            layer.zero(model, columns)


@regularizers.register("group-brain-damage")
@dataclass(frozen=True)
class GroupBrainDamage(Regularizer):
    """The group lasso over the columns W[:, i, x, y], of which small ones go for good while a hold-out agrees.

    R(W) = Σ_{i,x,y} ‖W[:, i, x, y]‖₂. After epochs all columns go whose norm is at most τ times the layer's largest. If
    the validation accuracy then lies below the best one so far by more than is allowed, they come back and τ shrinks;
    else they stay at zero and τ grows.

    Args:
        threshold: τ to begin with.
        growth: factor by which τ grows, and shrinks.
        drop: points of validation accuracy that the cuts may cost, below the best so far.
        every: epochs between two cuts; the first epoch has none.
        epsilon: added below the square root, whose gradient has no bound at zero.
        linear: whether linear layers count as 1×1 convolutions.

    Raises:
        TrainingError: if there are no validation images.

    Source: V. Lebedev, V. Lempitsky, "Fast ConvNets Using Group-wise Brain Damage", 2016, the group-sparse regularizer
        and gradual group-wise sparsification. How far τ moves, and that it counts from the layer's largest column, is
        this product's choice.
    """

    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.02
    growth: Annotated[float, Field(gt=1)] = 1.5
    drop: Annotated[float, Field(ge=0, le=100)] = 1.0
    every: Annotated[int, Field(ge=1)] = 1
    epsilon: Annotated[float, Field(gt=0, le=1)] = 1e-8
    linear: bool = False

    def bind(self, network: nn.Module, groups: Groups, strength: float) -> Hook:
        """Returns the penalty on the network's convolutions, and what cuts their columns."""
        weights = tuple(OneWeight(weight, "shape") for weight in kernel_weights(network, self.linear))
        penalty = GroupedPenalty(weights, strength, (Term(squares, root(self.epsilon)),))
        return _Gradual(penalty, weight_groups(network, groups, "shape", linear=self.linear), self)
