"""`explain` tells what a rewrite would remove, and why the rest stays."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.rewrite import explain, rewrite

RANDOM = np.random.default_rng(0)


def model():
    """conv1 (one zero row, one constant row, one repeated row) → relu → padded conv2 → output."""
    w1 = RANDOM.standard_normal((6, 3, 1, 1)).astype(np.float32)
    b1 = RANDOM.standard_normal(6).astype(np.float32)
    w1[1], b1[1] = 0, 0
    w1[2], b1[2] = 0, 0.5
    w1[5], b1[5] = w1[3], b1[3]
    w2 = RANDOM.standard_normal((4, 6, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["input", "w1", "b1"], ["c1"], name="first"),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu"),
        helper.make_node("Conv", ["r1", "w2"], ["output"], name="second", pads=[1, 1, 1, 1]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "explained",
        [value("input", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [value("output", TensorProto.FLOAT, ["N", 4, 8, 8])],
        [numpy_helper.from_array(array, name) for name, array in (("w1", w1), ("b1", b1), ("w2", w2))],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_each_kind_of_channel_is_counted_once():
    first, second = explain(model()).layers
    assert (first.node, first.op, first.channels) == ("first", "Conv", 6)
    assert (first.dead, first.constant, first.duplicate) == (1, 1, 1)
    assert (second.dead, second.constant, second.duplicate) == (0, 0, 0)


def test_what_is_called_dead_or_merged_is_what_a_rewrite_removes():
    assert rewrite(model()).channels_removed == sum(layer.dead + layer.merged for layer in explain(model()).layers)


def test_a_constant_that_stays_has_its_reason():
    (row,) = explain(model()).layers[0].kept
    assert row.channels == 1
    assert "padding" in row.reason


def test_an_operator_without_a_rule_is_named():
    other = model()
    other.graph.node[1].domain = "vendor"
    other.opset_import.append(helper.make_opsetid("vendor", 1))
    explanation = explain(other)
    assert explanation.unknown == {"vendor::Relu": 1}
    assert "vendor::Relu × 1" in explanation.markdown()
    assert explanation.layers[0].dead == 0


@pytest.mark.parametrize("name", ["a|b", "a\nb"])
def test_markdown_keeps_its_columns_whatever_a_layer_is_called(name):
    named = model()
    named.graph.node[0].name = name
    rows = [line for line in explain(named).markdown().splitlines() if line.startswith("|")]
    assert len(rows) == 4
    assert all(row.replace("\\|", "").count("|") == 9 for row in rows)
