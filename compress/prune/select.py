"""From scores to the units that remain: how far down the ranking a cut goes.

A cut is a point on a path along which units only ever go: the number of units that a stratum keeps never rises. So
the cost never rises either, and the first point that meets the target is found by bisection.
"""

from __future__ import annotations

import numpy as np

from compress.channels.graph import Array
from compress.errors import NetworkError
from compress.prune.problem import PruningProblem, Stratum
from compress.recipe import PruneSettings

_BISECTIONS = 50  # of an interval of length 1: far below one unit


def amount(problem: PruningProblem, keep: Array, of: str) -> int:
    """Returns what the units marked in `keep` cost: `macs`, `parameters`, or `channels` (the number of units)."""
    if of == "channels":
        return int(keep.sum())
    cost = problem.cost(keep)
    return cost.macs if of == "macs" else cost.parameters


def target(problem: PruningProblem, settings: PruneSettings) -> float:
    """Returns the cost that must not be exceeded: (1 - ratio) of the whole network's."""
    return (1 - settings.ratio) * amount(problem, np.ones(problem.groups.size, dtype=bool), settings.of)


def unreachable(problem: PruningProblem, least: int, settings: PruneSettings) -> NetworkError:
    """Returns the error of a target that cannot be met; `least` is the lowest cost that can be reached."""
    before = amount(problem, np.ones(problem.groups.size, dtype=bool), settings.of)
    share = np.floor(1000 * (1 - least / before)) / 1000
    return NetworkError(
        f"[prune] ratio {settings.ratio} of {settings.of} cannot be reached: at most {share:.3f} can go",
        next_step="lower ratio, minimum_channels or round_to, or let more channels go (exclude, couple)",
    )


def allowed_counts(stratum: Stratum, settings: PruneSettings) -> Array:
    """Returns the numbers of units that a stratum may keep, ascending.

    Multiples of `round_to`, or what suits the target, from `minimum_channels` up; and all of them: a layer that keeps
    everything stays whole.
    """
    size = stratum.units.size
    if settings.round_to == "auto":
        enough = (stratum.suited >= settings.minimum_channels) | (stratum.suited == size)
        suited: Array = stratum.suited[enough]
        return suited
    lowest = -(-settings.minimum_channels // settings.round_to) * settings.round_to
    return np.append(np.arange(lowest, size, settings.round_to), size)


def nearest(counts: Array, wanted: float) -> int:
    """Returns the entry of `counts` that is nearest to `wanted`; of two, the larger."""
    return int(counts[::-1][np.argmin(np.abs(counts[::-1] - wanted))])


def select(problem: PruningProblem, scores: list[Array], settings: PruneSettings) -> Array:
    """Chooses the units that remain: as many as the ratio allows, the lowest scores gone.

    With scope `layer` every stratum loses the same share of its units, up to rounding: the last step is taken stratum
    by stratum. With scope `global` all units stand in one ranking, and a stratum at its minimum is passed over. Equal
    scores fall by group, then by index, the first first.

    Args:
        problem: the network.
        scores: one array a group; the lowest go.
        settings: ratio, of, scope, minimum_channels, round_to; with `threshold` all units go whose score is not above
            it, and counts are rounded up.

    Returns:
        Which units remain, over all groups in turn. Shape: (units,), booleans. The ratio is reached at least.

    Raises:
        NetworkError: if it cannot be reached, saying how far one can get; or if a score is not a number.
    """
    flat = np.concatenate(scores).astype(np.float64)
    if not np.isfinite(flat).all():
        broken = problem.groups.groups[next(i for i, score in enumerate(scores) if not np.isfinite(score).all())]
        raise NetworkError(
            f"channel group {broken.name!r} has scores that are not finite numbers", next_step="check its weights"
        )
    ranked = np.argsort(flat, kind="stable")
    ranked = ranked[problem.prunable[ranked]]
    if settings.threshold is not None:
        return _above(problem, flat, ranked, settings)
    return _by_layer(problem, ranked, settings) if settings.scope == "layer" else _global(problem, ranked, settings)


def _above(problem: PruningProblem, scores: Array, ranked: Array, settings: PruneSettings) -> Array:
    counts = []
    for stratum in problem.strata:
        if stratum.prunable:
            allowed = allowed_counts(stratum, settings)
            counts.append(int(allowed[allowed >= (scores[stratum.units] > settings.threshold).sum()][0]))
    return _keep(problem, ranked, counts)


def _global(problem: PruningProblem, ranked: Array, settings: PruneSettings) -> Array:
    place = np.full(problem.groups.size, ranked.size)
    place[ranked] = np.arange(ranked.size)

    def counts(gone: float) -> list[int]:
        return [
            nearest(allowed_counts(s, settings), int((place[s.units] >= gone).sum()))
            for s in problem.strata
            if s.prunable
        ]

    low, high = 0, ranked.size
    limit = target(problem, settings)
    if _cost(problem, ranked, counts(high), settings) > limit:
        raise unreachable(problem, _cost(problem, ranked, counts(high), settings), settings)
    while low < high:
        middle = (low + high) // 2
        if _cost(problem, ranked, counts(middle), settings) <= limit:
            high = middle
        else:
            low = middle + 1
    return _keep(problem, ranked, counts(high))


def _by_layer(problem: PruningProblem, ranked: Array, settings: PruneSettings) -> Array:
    def counts(share: float) -> list[int]:
        return [nearest(allowed_counts(s, settings), s.units.size * (1 - share)) for s in problem.strata if s.prunable]

    limit = target(problem, settings)
    if _cost(problem, ranked, counts(0), settings) <= limit:
        return _keep(problem, ranked, counts(0))
    if _cost(problem, ranked, counts(1), settings) > limit:
        raise unreachable(problem, _cost(problem, ranked, counts(1), settings), settings)
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if _cost(problem, ranked, counts(middle), settings) <= limit else (middle, high)
    # Strata of one size step together: take the step in as few of them as the target needs.
    now, then = counts(low), counts(high)
    for index, count in enumerate(then):
        now[index] = count
        if _cost(problem, ranked, now, settings) <= limit:
            break
    return _keep(problem, ranked, now)


def _cost(problem: PruningProblem, ranked: Array, counts: list[int], settings: PruneSettings) -> int:
    return amount(problem, _keep(problem, ranked, counts), settings.of)


def _keep(problem: PruningProblem, ranked: Array, counts: list[int]) -> Array:
    """Keeps the last `counts` units of each stratum in the ranking."""
    keep = np.ones(problem.groups.size, dtype=bool)
    for stratum, count in zip((s for s in problem.strata if s.prunable), counts, strict=True):
        order = _order(ranked, stratum)
        keep[order[: order.size - count]] = False
    return keep


def _order(ranked: Array, stratum: Stratum) -> Array:
    return ranked[np.isin(ranked, stratum.units)]
