import copy
import json

import pytest

from compress.errors import CompressError
from compress.report import RunFigures


def test_figures_come_back_from_json_unchanged(figures):
    run = RunFigures.from_dict(figures)
    assert RunFigures.from_dict(json.loads(json.dumps(run.to_dict()))) == run


def test_only_the_name_is_needed():
    assert RunFigures.from_dict({"name": "x"}).channels == ()
    with pytest.raises(CompressError, match="figures: name: Field required"):
        RunFigures.from_dict({})


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["latencies"], [], "unknown section 'latencies'; next: did you mean 'latency'"),
        (["accuracies", 0, "accuracy"], 101.0, r"accuracies\.0\.accuracy: .*less than or equal to 100; got 101\.0"),
        (["accuracies", 0, "accuracy"], float("nan"), r"accuracies\.0\.accuracy"),
        (["channels", 0, "kept"], 99, "channels.0: conv1 keeps 99 of 16 channels"),
        (["weights", 0, "edges"], [0.0, 1.0], "weights.0: conv1 has 2 edges, 31 and 31 counts; n counts need n"),
        (["sizes", "after", "macs"], "many", r"sizes\.after\.macs: .*valid integer; got 'many'"),
        (["budget", 0, "passed"], "yes", r"budget\.0\.passed"),
        (["stages", 0, "status"], "skipped", r"stages\.0\.status: .*'done' or 'reused'"),
        (["recipe", "train", "strength"], float("inf"), "recipe is not JSON"),
        (["latency", 1, "operators", 0, "share"], 40.0, r"operators\.0\.share: .*less than or equal to 1"),
    ],
)
def test_a_figure_that_does_not_fit_is_named_in_one_line(figures, path, value, message):
    broken = copy.deepcopy(figures)
    place = broken
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(CompressError, match=message) as caught:
        RunFigures.from_dict(broken)
    assert "\n" not in str(caught.value)


def test_edges_must_rise(figures):
    figures["weights"][0]["edges"][3] = figures["weights"][0]["edges"][2]
    with pytest.raises(CompressError, match="the edges of conv1 do not rise"):
        RunFigures.from_dict(figures)
