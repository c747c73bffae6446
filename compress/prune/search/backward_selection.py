"""Backward selection: the unit whose removal raises the loss least goes next, again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from compress.channels.graph import Array
from compress.prune.problem import PruningProblem, places
from compress.prune.search import Choice, Progress, Search, searches
from compress.prune.select import allowed_counts, amount, target, unreachable
from compress.prune.trial import UnitTrial
from compress.recipe import PruneSettings

if TYPE_CHECKING:
    from compress.prune.trainer import Trainer


@searches.register("backward-selection")
@dataclass(frozen=True)
class BackwardSelection(Search):
    """Removes, again and again, the unit without which the loss on fixed training samples is lowest.

    c* = argmin_c L(f(s, W ⊙ M without c), y) over every unit that is left; M without c* is the next M. Equal losses
    fall by group, then by index, the first first, so that a run repeats.

    The order is that of the naive algorithm; only what cannot change it is left out. What was computed before a
    candidate is replayed; cross-entropy is never negative, so a candidate whose loss on the hardest samples alone
    exceeds the best whole one is rejected; what is gone is cut out from time to time. Candidates whose losses differ
    by no more than rounding are told apart by the plain masked network.

    Args:
        last: whether the outputs of the last convolution may go too.

    Source: K. Mitsuno, "BonsaiNet: Searching Neural Networks Structure by Pruning and Planting", 2022, §3.1.2,
        algorithm 1. Equation (3.2) there takes the least *absolute difference* of the losses, the algorithm the least
        loss: they differ where removing a unit helps, and the algorithm is followed. The thesis masks each layer's
        channels alone; here channels that a sum couples go together, as only these can be cut out, and hidden units
        of linear layers are candidates too. A unit whose layer would keep fewer than minimum_channels is no
        candidate. With round_to, counts are rounded up: what has not been removed has no rank.
    """

    last: bool = False

    def choose(
        self,
        problem: PruningProblem,
        settings: PruneSettings,
        *,
        trainer: Trainer | None = None,
        progress: Progress | None = None,
    ) -> Choice:
        """Removes units until the ratio is reached."""
        may_go = problem.prunable & (True if self.last else ~_last_convolution(problem))
        keep = np.ones(problem.groups.size, dtype=bool)
        before, limit = amount(problem, keep, settings.of), target(problem, settings)
        least = amount(problem, _least(problem, may_go, settings), settings.of)
        if least > limit:
            raise unreachable(problem, least, settings)
        order: list[int] = []
        losses: list[float] = []
        evaluations = 0
        trial = UnitTrial(problem, keep)
        while (now := amount(problem, _rounded_up(problem, keep, order, settings), settings.of)) > limit:
            trial = trial.compacted(keep)
            candidates = np.flatnonzero(keep & may_go & _spare(problem, keep, settings))
            unit, loss = trial.best(candidates, keep)
            keep[unit] = False
            trial.remove(unit)
            order.append(unit)
            losses.append(loss)
            evaluations += len(candidates)
            if progress is not None:
                progress((before - now) / (before - limit), f"{len(order)} units removed, loss {loss:.4f}")
        details = {"order": order, "losses": losses, "evaluations": evaluations}
        return Choice(_rounded_up(problem, keep, order, settings), details=details)


def _last_convolution(problem: PruningProblem) -> Array:
    """Returns which units the last convolution produces; none where there is no convolution."""
    found = np.zeros(problem.groups.size, dtype=bool)
    names = [node.input(1) for node in problem.groups.trace.graph.nodes if node.operator == "Conv"]
    for place in places(problem.groups):
        if names and place.parameter == names[-1] and place.role == "out":
            found[place.unit[place.unit >= 0]] = True
    return found


def _spare(problem: PruningProblem, keep: Array, settings: PruneSettings) -> Array:
    """Returns which units belong to a stratum that may lose one more."""
    spare = np.zeros(problem.groups.size, dtype=bool)
    for stratum in problem.strata:
        spare[stratum.units] = keep[stratum.units].sum() > allowed_counts(stratum, settings)[0]
    return spare


def _least(problem: PruningProblem, may_go: Array, settings: PruneSettings) -> Array:
    """Returns which units would remain if as many went as may."""
    keep = np.ones(problem.groups.size, dtype=bool)
    for stratum in problem.strata:
        if may_go[stratum.units].all():
            keep[stratum.units[allowed_counts(stratum, settings)[0] :]] = False
    return keep


def _rounded_up(problem: PruningProblem, keep: Array, order: list[int], settings: PruneSettings) -> Array:
    """Brings back the units of each stratum that went last, until their number is allowed."""
    rounded = keep.copy()
    if settings.round_to == 1:
        return rounded
    for stratum in problem.strata:
        counts = allowed_counts(stratum, settings)
        missing = int(counts[counts >= keep[stratum.units].sum()][0] - keep[stratum.units].sum())
        latest = [unit for unit in reversed(order) if unit in stratum.units]
        rounded[latest[:missing]] = True
    return rounded
