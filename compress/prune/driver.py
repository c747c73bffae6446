"""Pruning as one call: from a network and a recipe's [prune] to a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compress.channels.cost import Cost
from compress.channels.graph import Array
from compress.channels.plan import Plan
from compress.channels.widths import MINIMAL
from compress.errors import CompressError, RecipeError, suggestion
from compress.options import build
from compress.prune.criteria import criteria
from compress.prune.masks import AllOf, ChannelMask, WeightMask
from compress.prune.method import Choice, Method, Progress
from compress.prune.problem import PruningProblem, Samples
from compress.prune.search import searches
from compress.prune.trainer import Trainer
from compress.recipe import PruneSettings
from compress.targets.choose import target_named


@dataclass(frozen=True)
class PruneResult:
    """What was chosen.

    Attributes:
        plan: what remains of each parameter; `compact.apply_plan` cuts the network by it.
        channels: zeroes the channels that go, in the network as it was.
        weights: zeroes the single weights that go, where the method takes any; else None.
        values: parameters that the method gives new values.
        keep: which units remain, over all groups in turn. Shape: (units,), booleans.
        groups: for each group its name, how many units it had, and how many are kept.
        cost_before: of the whole network.
        cost_after: of what remains; of single weights that go, the parameters count.
        method: id of the criterion or search.
        details: what the method has to tell, as a JSON value: `scores` of a criterion, `weights` of one that takes
            single weights; `order`, `losses` and `evaluations` of a search.
    """

    plan: Plan
    channels: ChannelMask
    weights: WeightMask | None
    values: Mapping[str, Array]
    keep: Array
    groups: list[dict[str, Any]]
    cost_before: Cost
    cost_after: Cost
    method: str
    details: dict[str, Any]

    @property
    def mask(self) -> AllOf:
        """Zeroes all that goes; as the `masks` of a training it keeps it so."""
        return AllOf((self.channels, *((self.weights,) if self.weights is not None else ())))

    def apply(self, network: nn.Module) -> None:
        """Gives the network the method's values, and zeroes what goes, in place."""
        tensors = dict(network.named_parameters(remove_duplicate=False)) | dict(
            network.named_buffers(remove_duplicate=False)
        )
        with torch.no_grad():
            for name, value in self.values.items():
                tensors[name].copy_(torch.from_numpy(np.asarray(value)))
        self.mask.apply(network)

    def summary(self) -> dict[str, Any]:
        """Returns what was chosen as a JSON value."""
        return {
            "method": self.method,
            "cost_before": vars(self.cost_before),
            "cost_after": vars(self.cost_after),
            "groups": self.groups,
            **self.details,
        }


def prune(
    network: nn.Module,
    input_shape: tuple[int, ...],
    settings: PruneSettings,
    samples: tuple[Tensor, Tensor] | None,
    *,
    seed: int,
    trainer: Trainer | None = None,
    progress: Progress | None = None,
) -> PruneResult:
    """Chooses once what remains. The network is not changed; `PruneResult.apply` does that.

    Args:
        network: trained.
        input_shape: of one example, without the batch axis.
        settings: the recipe's [prune]; its schedule is `procedure.run_schedule`'s business.
        samples: fixed training images [N, C, H, W] and labels [N]; None if the method needs none.
        seed: of every random choice.
        trainer: for methods that train; None if the method does not.
        progress: called with the share of a search that is done, and a word on where it stands.

    Raises:
        CompressError: if the method is unknown.
        RecipeError: if one of its options is.
        NetworkError: if the network cannot be traced, or the ratio cannot be reached.
    """
    # Options are read first: a mistake in them is told before the network is traced.
    method = method_of(settings)
    problem = problem_of(network, input_shape, settings, samples, seed)
    return result_of(problem, method.choose(problem, settings, trainer=trainer, progress=progress), settings.method)


def method_of(settings: PruneSettings) -> Method:
    """Returns the method that a recipe names, its knobs set.

    Raises:
        CompressError: if there is none.
        RecipeError: if one of its options is unknown.
    """
    name = settings.method
    if name in criteria:
        return build(criteria, name, settings.options)
    if name in searches:
        if settings.threshold is not None:
            raise RecipeError(f"[prune] threshold means nothing to search {name!r}", next_step="give ratio instead")
        return build(searches, name, settings.options)
    raise CompressError(f"unknown method {name!r}", next_step=suggestion(name, [*criteria, *searches]))


def problem_of(
    network: nn.Module,
    input_shape: tuple[int, ...],
    settings: PruneSettings,
    samples: tuple[Tensor, Tensor] | None,
    seed: int,
) -> PruningProblem:
    """Returns what a method is given; see `prune`."""
    return PruningProblem.of(
        network,
        input_shape,
        Samples(*samples) if samples is not None else None,
        seed,
        exclude=settings.exclude,
        couple=settings.couple,
        widths=target_named(settings.target).widths if settings.round_to == "auto" else MINIMAL,
        element=settings.weights or "float32",
    )


def result_of(problem: PruningProblem, choice: Choice, method: str) -> PruneResult:
    """Returns what a choice amounts to."""
    kept = problem.groups.split(choice.keep)
    after = problem.cost(choice.keep)
    zeros = sum(int((~mask).sum()) for mask in choice.held.values())
    return PruneResult(
        plan=Plan.from_kept(problem.groups.kept(choice.keep), problem.parameters),
        channels=ChannelMask(problem.groups, choice.keep),
        weights=WeightMask(choice.held) if choice.held else None,
        values=choice.values,
        keep=choice.keep,
        groups=[
            {"group": group.name, "before": group.size, "kept": int(np.sum(stays))}
            for group, stays in zip(problem.groups.groups, kept, strict=True)
        ],
        cost_before=problem.cost.everything(),
        cost_after=Cost(after.parameters - zeros, after.macs),
        method=method,
        details=choice.details,
    )
