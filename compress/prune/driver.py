"""Pruning as one call: from a network and a recipe's [prune] to a plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from compress.channels.cost import Cost
from compress.channels.graph import Array
from compress.channels.plan import Plan
from compress.errors import CompressError, suggestion
from compress.prune.criteria import criteria
from compress.prune.masks import ChannelMask
from compress.prune.options import build
from compress.prune.problem import PruningProblem, Samples
from compress.prune.search import searches
from compress.prune.select import select
from compress.recipe import PruneSettings


@dataclass(frozen=True)
class PruneResult:
    """What was chosen.

    Attributes:
        plan: what remains of each parameter; `compact.apply_plan` cuts the network by it.
        mask: zeroes what goes, in the network as it was.
        keep: which units remain, over all groups in turn. Shape: (units,), booleans.
        groups: for each group its name, how many units it had, and how many are kept.
        cost_before: of the whole network.
        cost_after: of what remains.
        method: id of the criterion or search.
        details: what the method has to tell, as a JSON value: `scores` of a criterion; `order`, `losses` and
            `evaluations` of a search.
    """

    plan: Plan
    mask: ChannelMask
    keep: Array
    groups: list[dict[str, Any]]
    cost_before: Cost
    cost_after: Cost
    method: str
    details: dict[str, Any]

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
    progress: Callable[[float, str], None] | None = None,
) -> PruneResult:
    """Chooses the channels that remain. The network is not changed.

    Args:
        network: trained.
        input_shape: of one example, without the batch axis.
        settings: the recipe's [prune].
        samples: fixed training images [N, C, H, W] and labels [N]; None if the method needs none.
        seed: of every random choice.
        progress: called with the share of a search that is done, and a word on where it stands.

    Raises:
        CompressError: if the method is unknown.
        RecipeError: if one of its options is.
        NetworkError: if the network cannot be traced, or the ratio cannot be reached.
    """
    name = settings.method
    if name not in criteria and name not in searches:
        raise CompressError(f"unknown method {name!r}", next_step=suggestion(name, [*criteria, *searches]))
    # Options are read first: a mistake in them is told before the network is traced.
    criterion = build(criteria, name, settings.options) if name in criteria else None
    search = build(searches, name, settings.options) if criterion is None else None
    problem = PruningProblem.of(
        network,
        input_shape,
        Samples(*samples) if samples is not None else None,
        seed,
        exclude=settings.exclude,
        couple=settings.couple,
    )
    if criterion is not None:
        scores = criterion.score(problem)
        keep = select(problem, scores, settings)
        details: dict[str, Any] = {"scores": [score.tolist() for score in scores]}
    else:
        assert search is not None
        result = search.run(problem, settings, progress)
        keep = result.keep
        details = {
            "order": list(result.order),
            "losses": list(result.losses),
            "evaluations": result.evaluations,
        }
    kept = problem.groups.split(keep)
    return PruneResult(
        Plan.from_kept(problem.groups.kept(keep), problem.parameters),
        ChannelMask(problem.groups, keep),
        keep,
        [
            {"group": group.name, "before": group.size, "kept": int(np.sum(stays))}
            for group, stays in zip(problem.groups.groups, kept, strict=True)
        ],
        problem.cost.everything(),
        problem.cost(keep),
        name,
        details,
    )
