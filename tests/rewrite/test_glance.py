"""Where a glance shows that no channels are alike, looking closely finds none."""

from collections import Counter

import numpy as np
import pytest
import topologies
from onnx import helper
from strategies import make_model
from tiny_draws import draw
from tiny_networks import to_onnx

from compress.channels.alike import likeness
from compress.channels.merge import merging
from compress.channels.readers import read_by_weights
from compress.rewrite import rewrite
from compress.rewrite.passes import merge_duplicates


@pytest.fixture
def glances(monkeypatch):
    """Counts what glances show; where it is that all are apart, looks closely as well."""
    counts = Counter()

    def checked(trace, nodes, tolerance):
        found = all_apart(trace, nodes, tolerance)
        counts[found] += 1
        if found:
            changeable = set(trace.graph.constants)
            assert not merging(trace, likeness(trace, read_by_weights(trace, changeable)), changeable).weights
        return found

    all_apart = merge_duplicates.all_apart
    monkeypatch.setattr(merge_duplicates, "all_apart", checked)
    return counts


@pytest.mark.parametrize("first", range(0, 120, 40))
def test_random_networks(glances, first):
    for seed in range(first, first + 40):
        assert rewrite(to_onnx(draw(seed)[0])).proven
    assert glances[True]
    assert glances[False]


@pytest.mark.parametrize("name", ["plain", "resnet", "mobile"])
def test_ordinary_networks_need_no_more_than_a_glance(glances, name):
    assert rewrite(topologies.masked(name, "zero", "unaligned")[1]).channels_removed
    assert set(glances) == {True}


CHANNELS = 6


def network(*middle, weights=None, wide=CHANNELS):
    """input → first → what is in the middle → last → output."""
    random = np.random.default_rng(0)
    constants = {"first": random.standard_normal((CHANNELS, 3, 1, 1)), "last": random.standard_normal((4, wide, 1, 1))}
    constants |= {"two": np.array([2.0]), "scales": np.arange(1.0, CHANNELS + 1).reshape(-1, 1, 1)}
    constants |= weights or {}
    nodes = [
        helper.make_node("Conv", ["input", "first"], ["x"]),
        *(
            helper.make_node(operator, read.split(), made.split(), **attributes)
            for operator, read, made, attributes in middle
        ),
        helper.make_node("Conv", ["y", "last"], ["output"]),
    ]
    return make_model(
        nodes,
        {"input": (1, 3, 4, 4)},
        {"output": (1, 4, 4, 4)},
        {name: value if value.dtype.kind == "i" else value.astype(np.float32) for name, value in constants.items()},
        opset=18,
    )


ROWS = np.random.default_rng(1).standard_normal((CHANNELS, 3, 1, 1))
TWICE = 2 * CHANNELS


@pytest.mark.parametrize(
    ("middle", "weights", "wide"),
    [
        ([("Relu", "x", "y", {})], {"first": np.concatenate([ROWS[:4], -3 * ROWS[:2]])}, CHANNELS),
        ([("Relu", "x", "r", {}), ("Relu", "x", "s", {}), ("Concat", "r s", "y", {"axis": 1})], None, TWICE),
        ([("Identity", "x", "r", {}), ("Concat", "x r", "y", {"axis": 1})], None, TWICE),
        ([("Mul", "x two", "r", {}), ("Concat", "x r", "y", {"axis": 1})], None, TWICE),
        ([("Add", "x x", "r", {}), ("Concat", "x r", "y", {"axis": 1})], None, TWICE),
        (
            [("Conv", "input second", "r", {}), ("Concat", "x r", "y", {"axis": 1})],
            {"first": ROWS, "second": 0.5 * ROWS[::-1]},
            TWICE,
        ),
        ([("Conv", "input first", "r", {}), ("Concat", "x r", "y", {"axis": 1})], None, TWICE),
        ([("Conv", "x one", "m", {}), ("Mul", "m scales", "y", {})], {"one": ROWS[:1].repeat(2, 1)}, CHANNELS),
        (
            [
                ("Conv", "input second", "u", {}),
                ("Add", "x u", "r", {}),
                ("Add", "u x", "s", {}),
                ("Concat", "r s", "y", {"axis": 1}),
            ],
            {"second": ROWS},
            TWICE,
        ),
        (
            [
                ("Conv", "input second", "u", {}),
                ("Relu", "x", "v", {}),
                ("Relu", "x", "w", {}),
                ("Add", "v u", "r", {}),
                ("Add", "w u", "s", {}),
                ("Concat", "r s", "y", {"axis": 1}),
            ],
            {"second": ROWS},
            TWICE,
        ),
        (
            [
                ("Split", "x", "r s", {"axis": 1, "num_outputs": 2}),
                ("Concat", "s r", "t", {"axis": 1}),
                ("Add", "x t", "y", {}),
            ],
            None,
            CHANNELS,
        ),
        (
            [
                ("Conv", "x k", "r", {"group": CHANNELS}),
                ("Conv", "x l", "s", {"group": CHANNELS}),
                ("Concat", "r s", "y", {"axis": 1}),
            ],
            {"k": ROWS.reshape(18)[:6].reshape(6, 1, 1, 1), "l": ROWS.reshape(18)[6:12].reshape(6, 1, 1, 1)},
            TWICE,
        ),
    ],
)
def test_what_could_be_alike_is_looked_at_closely(glances, middle, weights, wide):
    rewrite(network(*middle, weights=weights, wide=wide))
    assert glances[False]
