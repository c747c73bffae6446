"""Each channel that holds nothing, or that nothing reads, and stays has a reason, and the node that causes it."""

import numpy as np
import pytest
from onnx import helper
from strategies import make_model

from compress.recipe import RewriteSettings
from compress.rewrite import explain, rewrite

RANDOM = np.random.default_rng(3)
SAME = {"pads": [1, 1, 1, 1]}


def weight(*shape, dead=()):
    value = RANDOM.standard_normal(shape).astype(np.float32)
    value[list(dead)] = 0
    return value


def node(operator, inputs, outputs, name, **attributes):
    return helper.make_node(operator, inputs.split(), outputs.split(), name=name, **attributes)


FIRST = node("Conv", "in w0", "x", "first")
LAST = node("Conv", "y w9", "out", "last")
CASES = {
    "added to the channels of another layer": (
        [FIRST, node("Conv", "x w1", "b", "branch", **SAME), node("Add", "x b", "y", "add"), LAST],
        {"w0": weight(6, 3, 1, 1), "w1": weight(6, 6, 3, 3, dead=[1, 4])},
        ("branch", 2, "they go only together with channels that are needed", "first"),
    ),
    "an output of the network": (
        [node("Conv", "in w0", "out", "first")],
        {"w0": weight(6, 3, 1, 1, dead=[2])},
        ("first", 1, "it is an output of the network", "graph output 'out'"),
    ),
    "read by an operator without a rule": (
        [FIRST, node("Strange", "x", "out", "odd", domain="vendor")],
        {"w0": weight(6, 3, 1, 1, dead=[0, 5])},
        ("first", 2, "operator vendor::Strange has no rule", "odd"),
    ),
    "concatenated, then read by an operator without a rule": (
        [
            FIRST,
            node("Conv", "in w1", "z", "second"),
            node("Concat", "x z", "c", "join", axis=1),
            node("Strange", "c", "out", "odd", domain="vendor"),
        ],
        {"w0": weight(6, 3, 1, 1), "w1": weight(6, 3, 1, 1, dead=[3])},
        ("second", 1, "operator vendor::Strange has no rule", "odd"),
    ),
    "a group loses what all groups lose": (
        [FIRST, node("Conv", "x w1", "y", "grouped", group=2), LAST],
        {"w0": weight(6, 3, 1, 1), "w1": weight(6, 3, 1, 1, dead=[1])},
        ("grouped", 1, "only whole slices can go, and other channels of its slice are needed", "grouped"),
    ),
    "added to another channel of its layer": (
        [
            FIRST,
            node("Split", "x sizes", "a b", "split", axis=1),
            node("Concat", "b a", "g", "swap", axis=1),
            node("Add", "x g", "y", "add"),
            LAST,
        ],
        {"w0": weight(6, 3, 1, 1, dead=[1]), "sizes": np.array([3, 3])},
        ("first", 1, "they go only together with others of their layer, which are needed", "first"),
    ),
    "shown by zero padding": (
        [
            node("Conv", "in w0 b0", "x", "first"),
            node("Relu", "x", "y", "relu"),
            node("Conv", "y w9", "out", "last", **SAME),
        ],
        {"w0": weight(6, 3, 1, 1, dead=[2]), "b0": np.full(6, 0.5, np.float32), "w9": weight(4, 6, 3, 3)},
        ("first", 1, "zero padding shows their value, for which no bias can stand", "last"),
    ),
    "a tensor keeps one": (
        [FIRST, node("Relu", "x", "y", "relu"), LAST],
        {"w0": weight(6, 3, 1, 1, dead=range(6))},
        # Its reader says which of them is to stay.
        ("first", 1, "a tensor keeps at least one channel", "last"),
    ),
    "a layer of one": (
        [FIRST, node("Relu", "x", "y", "relu"), LAST],
        {"w0": weight(1, 3, 1, 1, dead=[0]), "w9": weight(4, 1, 1, 1)},
        ("first", 1, "a tensor keeps at least one channel", "first"),
    ),
    "unread, and grouped with one that is read": (
        [FIRST, node("Conv", "x w1", "y", "grouped", group=2), LAST],
        {
            "w0": weight(6, 3, 1, 1),
            "w1": weight(6, 3, 1, 1),
            "w9": weight(4, 6, 1, 1) * np.float32([1, 0, 1, 1, 1, 1])[:, None, None],
        },
        ("grouped", 1, "only whole slices can go, and other channels of its slice are needed", "grouped"),
    ),
}


def case_model(name):
    nodes, constants, _ = CASES[name]
    read = {tensor for one in nodes for tensor in one.input}
    constants = {"w9": weight(4, 6, 1, 1), **constants}
    constants = {tensor: value for tensor, value in constants.items() if tensor in read}
    shapes = {"in": (1, 3, 5, 5)}, {"out": None}
    return make_model(nodes, *shapes, constants, extra_opsets=("vendor",))


@pytest.mark.parametrize("name", CASES)
def test_the_node_that_keeps_it_is_named(name):
    layer, channels, reason, keeper = CASES[name][2]
    found = {one.node: one for one in explain(case_model(name)).layers}
    (row,) = found[layer].kept
    assert (row.channels, row.reason, row.node, row.op) == (channels, reason, keeper, "Conv")
    assert found[layer].constant + found[layer].unread == channels


def test_what_rounding_keeps_is_counted_and_named():
    nodes = [FIRST, node("Relu", "x", "y", "relu"), LAST]
    model = make_model(
        nodes,
        {"in": (1, 3, 5, 5)},
        {"out": None},
        {"w0": weight(16, 3, 1, 1, dead=range(5, 16)), "w9": weight(4, 16, 1, 1)},
    )
    plain, rounded = explain(model), explain(model, RewriteSettings(round_to=8))
    assert (plain.layers[0].dead, plain.layers[0].rounded) == (11, 0)
    assert (rounded.layers[0].dead, rounded.layers[0].constant, rounded.layers[0].rounded) == (8, 3, 3)
    (row,) = rounded.layers[0].kept
    assert (row.node, row.reason, row.channels) == ("first", "rounding keeps them", 3)
    assert "rounded" not in plain.markdown()
    assert "| first | Conv | 16 | 8 | 3 | 0 | 0 | 0 | 3 |" in rounded.markdown()
    assert rounded.to_dict()["layers"][0]["rounded"] == 3
    # What explain counts is what a rewrite leaves.
    (left,) = rewrite(model, RewriteSettings(round_to=8)).blocked
    assert (left.node, left.channels) == ("first", 3)


def test_a_recurrent_layer_is_counted_by_its_channels():
    constants = {"w": weight(1, 24, 4), "r": weight(1, 24, 6), "s": np.array([0, 1, -1])}
    constants["w"].reshape(4, 6, 4)[:, 2] = 0
    constants["r"].reshape(4, 6, 6)[:, 2] = 0
    nodes = [
        node("LSTM", "in w r", "l", "cell", hidden_size=6),
        node("Squeeze", "l axes", "q", "squeeze"),
        node("MatMul", "q m", "out", "read"),
    ]
    constants = {"w": constants["w"], "r": constants["r"], "axes": np.array([1]), "m": weight(6, 2)}
    found = explain(make_model(nodes, {"in": (5, 1, 4)}, {"out": None}, constants)).layers
    assert [(one.node, one.channels) for one in found] == [("cell", 6), ("read", 2)]
