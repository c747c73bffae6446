"""The ratio that a method is asked for, so that a share of the whole network's cost goes."""

import pytest

from compress.errors import NetworkError
from compress.options import build
from compress.prune.criteria import criteria
from compress.prune.driver import result_of
from compress.recipe import PruneSettings


def kept_parameters(problem, method, settings):
    cost = result_of(problem, method.choose(problem, settings), settings.method)
    return cost.cost_after.parameters, cost.cost_before.parameters


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_single_weights_make_up_for_parameters_that_cannot_go(problem, share, scope):
    method = build(criteria, "magnitude", {})
    settings = PruneSettings(method="magnitude", ratio=share, of="parameters", scope=scope)
    unit = settings.model_copy(update={"ratio": method.unit_ratio(settings, lambda: problem)})
    assert unit.ratio > share
    kept, before = kept_parameters(problem, method, unit)
    # Not more than is allowed, and within a weight a layer of it.
    assert (1 - share) * before - len(problem.weights) - 1 <= kept <= (1 - share) * before
    # The plain ratio is one of the weights alone: it leaves too much.
    kept, before = kept_parameters(problem, method, settings)
    assert kept > (1 - share) * before


def test_what_cannot_go_is_told(problem):
    settings = PruneSettings(method="magnitude", ratio=0.999, of="parameters")
    with pytest.raises(NetworkError, match=r"ratio 0.999 of parameters cannot be reached: weights are 0\.\d+; next: "):
        build(criteria, "magnitude", {}).unit_ratio(settings, lambda: problem)


def test_channels_are_counted_by_the_network_already():
    settings = PruneSettings(ratio=0.3)
    method = build(criteria, "filter-l1", {})
    assert method.unit_ratio(settings, lambda: pytest.fail("not needed")) == 0.3
