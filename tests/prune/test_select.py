"""From scores to units: the target is met, by no more than needed, in a fixed order."""

import numpy as np
import pytest

from compress.errors import NetworkError
from compress.prune.problem import Stratum
from compress.prune.select import allowed_counts, amount, nearest, select
from compress.recipe import PruneSettings


def scores_of(problem, seed=0):
    return problem.groups.split(np.random.default_rng(seed).random(problem.groups.size))


def everything(problem):
    return np.ones(problem.groups.size, dtype=bool)


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("of", ["macs", "parameters", "channels"])
@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.37, 0.6])
def test_reaches_the_ratio_and_not_a_step_more(problem, scope, of, ratio):
    scores = scores_of(problem)
    keep = select(problem, scores, PruneSettings(ratio=ratio, of=of, scope=scope))
    before = amount(problem, everything(problem), of)
    assert amount(problem, keep, of) <= (1 - ratio) * before
    # The last unit of some stratum that went was needed: with it back, the target is missed.
    flat, back = np.concatenate(scores), []
    for stratum in problem.strata:
        gone = stratum.units[~keep[stratum.units]]
        if gone.size:
            more = keep.copy()
            more[gone[np.argmax(flat[gone])]] = True
            back.append(amount(problem, more, of))
    assert (max(back) > (1 - ratio) * before) if ratio else not back


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_the_lowest_scores_of_each_stratum_go(problem, scope):
    scores = scores_of(problem, 4)
    keep = select(problem, scores, PruneSettings(ratio=0.5, scope=scope))
    flat = np.concatenate(scores)
    for stratum in problem.strata:
        kept, gone = (flat[stratum.units[mask]] for mask in (keep[stratum.units], ~keep[stratum.units]))
        assert kept.size
        assert gone.size == 0 or gone.max() <= kept.min()


def test_global_scope_follows_one_ranking_and_layer_scope_shares(problem_of):
    problem = problem_of("plain")
    scores = [np.full(group.size, float(index)) for index, group in enumerate(problem.groups.groups)]
    together = select(problem, scores, PruneSettings(ratio=0.2, of="channels", scope="global"))
    sizes = [group.size for group in problem.groups.groups]
    # Of 22 units 5 go: all but one of the lowest group (6), whose ties fall by index.
    assert sizes == [6, 4, 5, 7]
    assert np.flatnonzero(~together).tolist() == [0, 1, 2, 3, 4]
    shared = select(problem, scores, PruneSettings(ratio=0.5, of="channels", scope="layer"))
    assert [int(keep.sum()) for keep in problem.groups.split(shared)] == [3, 2, 2, 4]
    assert all(keep.tolist() == sorted(keep.tolist()) for keep in problem.groups.split(shared))


def test_minimum_channels_holds_in_every_layer(problem_of):
    problem = problem_of("residual-a")
    scores = [np.full(group.size, float(index)) for index, group in enumerate(problem.groups.groups)]
    for minimum in (1, 2, 3):
        settings = PruneSettings(ratio=0.25, of="channels", scope="global", minimum_channels=minimum)
        keep = select(problem, scores, settings)
        kept = [int(keep[s.units].sum()) for s in problem.strata]
        assert kept == [max(min(minimum, s.units.size), k) for s, k in zip(problem.strata, kept, strict=True)]
        assert min(kept) == min(minimum, 2)


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_kept_counts_are_rounded(problem_of, scope):
    problem = problem_of("plain")
    keep = select(problem, scores_of(problem), PruneSettings(ratio=0.3, scope=scope, round_to=2))
    for stratum in problem.strata:
        count = int(keep[stratum.units].sum())
        assert count % 2 == 0 or count == stratum.units.size
        assert count
    assert problem.cost(keep).macs <= 0.7 * problem.cost.everything().macs


def layer_of(size, suited=None):
    return Stratum(0, np.arange(size), True, np.arange(1, size + 1) if suited is None else np.array(suited))


def test_what_suits_the_target_from_a_minimum_up_and_all():
    settings = PruneSettings(round_to="auto", minimum_channels=5)
    assert allowed_counts(layer_of(13, [1, 4, 8, 12, 13]), settings).tolist() == [8, 12, 13]
    assert allowed_counts(layer_of(4, [1, 4]), settings).tolist() == [4]


def test_nearest_multiple_at_least_one():
    settings = PruneSettings(round_to=8)
    counts = allowed_counts(layer_of(20), settings)
    assert counts.tolist() == [8, 16, 20]
    assert [nearest(counts, wanted) for wanted in (0, 11, 12, 13, 18, 19, 20)] == [8, 8, 16, 16, 20, 20, 20]
    assert allowed_counts(layer_of(6), settings).tolist() == [6]
    assert allowed_counts(layer_of(16), PruneSettings(round_to=4, minimum_channels=6)).tolist() == [8, 12, 16]


def test_what_may_not_go_stays(problem_of):
    problem = problem_of("plain", exclude=("hidden",))
    for scope in ("layer", "global"):
        keep = select(problem, scores_of(problem), PruneSettings(ratio=0.5, of="macs", scope=scope))
        assert keep[~problem.prunable].all()
        assert not keep.all()


def test_an_unreachable_ratio_says_how_far_one_can_get(problem_of):
    problem = problem_of("plain", exclude=("hidden",))
    before = problem.cost.everything().parameters
    only = everything(problem)
    only[1:6] = False
    share = 1 - problem.cost(only).parameters / before
    for scope in ("layer", "global"):
        settings = PruneSettings(ratio=0.9, of="parameters", scope=scope)
        with pytest.raises(
            NetworkError, match=rf"ratio 0.9 of parameters .* at most {int(share * 1000) / 1000:.3f} can go"
        ):
            select(problem, scores_of(problem), settings)


def test_scores_that_are_no_numbers_are_refused(problem_of):
    problem = problem_of("plain")
    scores = scores_of(problem)
    scores[1][2] = np.nan
    with pytest.raises(NetworkError, match=r"channel group 'left' has scores that are not finite"):
        select(problem, scores, PruneSettings())
