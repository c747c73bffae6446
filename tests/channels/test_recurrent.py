"""LSTM and GRU: hidden units that nothing needs go from every gate and state; the outputs stay as they were."""

import numpy as np
import pytest
from onnx import helper, numpy_helper
from strategies import make_model

from compress.channels.trace import trace
from compress.onnx_io.graph import channel_graph
from compress.onnx_io.session import session
from compress.rewrite import rewrite

T, N, FEATURES, H = 5, 2, 4, 6
GATES = {"LSTM": 4, "GRU": 3}
F = np.float32


def node(operator, inputs, outputs, **attributes):
    return helper.make_node(operator, inputs.split(" "), outputs.split(" "), **attributes)


def weights(operator, generator, directions=1, features=FEATURES):
    """Returns W, R and B with the gates as an axis of their own: (D, G, H, …)."""
    g = GATES[operator]
    shapes = {"w": (directions, g, H, features), "r": (directions, g, H, H), "b": (directions, 2, g, H)}
    return {name: generator.standard_normal(shape).astype(F) for name, shape in shapes.items()}


def silence(values, units, direction=slice(None)):
    """Makes the candidate of some units zero: what they read, and both of its biases."""
    values["w"][direction, -1, units] = values["r"][direction, -1, units] = values["b"][direction, :, -1, units] = 0


def flat(values):
    columns = {"w": values["w"].shape[-1:], "r": (H,), "b": ()}
    return {name: v.reshape(len(v), -1, *columns[name]) for name, v in values.items()}


def model(operator, values, *, read=None, inputs="x w r b", more=None, outputs="y", features=FEATURES, **attributes):
    """Returns a layer whose units are read by a matrix product; `read` says which of them."""
    directions = len(values["w"])
    layer = node(operator, inputs, outputs, hidden_size=H, **attributes)
    head = np.random.default_rng(9).standard_normal((H, 3)).astype(F)
    if read is not None:
        head[~np.isin(np.arange(H), read)] = 0
    name = next(name for name in outputs.split(" ") if name)
    shape = (T, directions, N, 3) if name == "y" else (directions, N, 3)
    constants = {**flat(values), "head": head, **(more or {})}
    return make_model(
        [layer, node("MatMul", f"{name} head", "out")], {"x": (T, N, features)}, {"out": shape}, constants
    )


def layer(result):
    """Returns the attributes and the shapes of the constants of the one recurrent layer of a rewritten model."""
    found = next(n for n in result.model.graph.node if n.op_type in GATES)
    shapes = {t.name: tuple(numpy_helper.to_array(t).shape) for t in result.model.graph.initializer}
    return helper.get_node_attr_value(found, "hidden_size"), [shapes.get(name) for name in found.input]


def assert_rewritten(before, *, exact=1e-5):
    result = rewrite(before)
    assert result.proven
    assert not [note for note in result.notes if "left out" in note]
    feeds = {"x": np.random.default_rng(3).standard_normal(input_shape(before)).astype(F)}
    runs = [session(m.SerializeToString()).run(None, feeds)[0] for m in (before, result.model)]
    np.testing.assert_allclose(*runs, rtol=exact, atol=exact)
    return result


def input_shape(before):
    return [dim.dim_value for dim in before.graph.input[0].type.tensor_type.shape.dim]


@pytest.mark.parametrize("operator", GATES)
@pytest.mark.parametrize("directions", [1, 2])
def test_a_layer_half_of_whose_units_are_zero_becomes_half_as_large(operator, directions):
    values = weights(operator, np.random.default_rng(0), directions)
    silence(values, [0, 2, 5])
    direction = {1: "forward", 2: "bidirectional"}[directions]
    hidden, shapes = layer(assert_rewritten(model(operator, values, direction=direction)))
    g = GATES[operator]
    assert hidden == 3
    assert shapes == [None, (directions, 3 * g, FEATURES), (directions, 3 * g, 3), (directions, 6 * g)]


@pytest.mark.parametrize("operator", GATES)
def test_a_unit_of_two_directions_goes_only_if_it_is_zero_in_both(operator):
    values = weights(operator, np.random.default_rng(0), 2)
    silence(values, [0, 1], direction=0)
    silence(values, [1, 2], direction=1)
    assert layer(assert_rewritten(model(operator, values, direction="bidirectional")))[0] == H - 1


@pytest.mark.parametrize("operator", GATES)
def test_units_that_are_read_by_units_that_are_read_stay(operator):
    values = weights(operator, np.random.default_rng(1))
    values["r"][:] = 0
    for reader, heard in ((0, 1), (1, 2), (3, 4)):  # 0 ← 1 ← 2, and 3 ← 4 apart from them
        values["r"][0, 0, reader, heard] = 1
    assert layer(assert_rewritten(model(operator, values, read=[0])))[0] == 3


@pytest.mark.parametrize("operator", GATES)
def test_zero_units_that_feed_only_each_other_are_zero(operator):
    values = weights(operator, np.random.default_rng(2))
    silence(values, [0, 1])
    values["r"][0, -1, 0, 1] = values["r"][0, -1, 1, 0] = 1
    assert layer(assert_rewritten(model(operator, values)))[0] == H - 2
    values["r"][0, -1, 0, 3] = 1  # now 0 hears a unit that varies, and 1 hears 0
    assert layer(assert_rewritten(model(operator, values)))[0] == H


@pytest.mark.parametrize("operator", GATES)
@pytest.mark.parametrize("row", [0, 1])
def test_a_candidate_with_a_bias_is_not_zero(operator, row):
    values = weights(operator, np.random.default_rng(3))
    silence(values, [0])
    values["b"][0, row, -1, 0] = 1
    assert "y" not in trace(channel_graph(model(operator, values))).values
    assert layer(assert_rewritten(model(operator, values)))[0] == H


@pytest.mark.parametrize("reset", [0, 1])
def test_the_order_of_reset_and_product_does_not_matter_to_zero_units(reset):
    values = weights("GRU", np.random.default_rng(4))
    silence(values, [1, 4])
    assert layer(assert_rewritten(model("GRU", values, linear_before_reset=reset)))[0] == H - 2


@pytest.mark.parametrize("operator", GATES)
def test_an_initial_state_is_cut_too_and_must_be_zero(operator):
    values = weights(operator, np.random.default_rng(5))
    silence(values, [0, 1])
    start = np.random.default_rng(5).standard_normal((1, N, H)).astype(F)
    start[..., 0] = 0
    more = {"h": start, "c": start}
    inputs = "x w r b  h" + (" c" if operator == "LSTM" else "")
    hidden, shapes = layer(assert_rewritten(model(operator, values, inputs=inputs, more=more)))
    assert hidden == H - 1
    assert shapes[5] == (1, N, H - 1)


@pytest.mark.parametrize("outputs", ["y", "y h", "y h c"])
@pytest.mark.parametrize("operator", GATES)
def test_lengths_peepholes_and_last_states_are_followed(operator, outputs):
    values = weights(operator, np.random.default_rng(6))
    silence(values, [2, 3])
    more, inputs = {"lengths": np.array([T, 2], np.int32)}, "x w r b lengths"
    if operator == "LSTM":
        more["p"] = np.random.default_rng(7).standard_normal((1, 3 * H)).astype(F)
        inputs += "   p"
    elif outputs.endswith("c"):
        outputs = "y h"
    before = model(operator, values, inputs=inputs, more=more, outputs=outputs)
    for extra in outputs.split(" ")[1:]:
        before.graph.node.append(node("MatMul", f"{extra} head", f"{extra}.read"))
        before.graph.output.append(helper.make_tensor_value_info(f"{extra}.read", 1, (1, N, 3)))
    hidden, shapes = layer(assert_rewritten(before))
    assert hidden == H - 2
    assert operator == "GRU" or shapes[7] == (1, 3 * (H - 2))


@pytest.mark.parametrize("operator", GATES)
def test_a_last_state_that_is_an_output_keeps_all_units(operator):
    values = weights(operator, np.random.default_rng(6))
    silence(values, [2, 3])
    before = model(operator, values, outputs="y h")
    before.graph.output.append(helper.make_tensor_value_info("h", 1, (1, N, H)))
    assert layer(assert_rewritten(before))[0] == H


@pytest.mark.parametrize("operator", GATES)
def test_features_that_no_unit_reads_go_from_what_makes_them(operator):
    values = weights(operator, np.random.default_rng(8))
    values["w"][..., [1, 3]] = 0
    before = model(operator, values, inputs="z w r b")
    before.graph.node.insert(0, node("MatMul", "x m", "z"))
    before.graph.initializer.append(numpy_helper.from_array(np.eye(FEATURES, dtype=F) + 1, "m"))
    result = assert_rewritten(before)
    assert layer(result)[1][1] == (1, GATES[operator] * H, FEATURES - 2)
    assert next(tuple(t.dims) for t in result.model.graph.initializer if t.name == "m") == (FEATURES, FEATURES - 2)


@pytest.mark.parametrize("operator", GATES)
def test_a_constant_feature_stays_and_a_zero_one_goes(operator):
    values = weights(operator, np.random.default_rng(8))
    before = model(operator, values, inputs="z w r b")
    m = np.eye(FEATURES, dtype=F) + 1
    m[:, :2] = 0
    before.graph.node.insert(0, node("MatMul", "x m", "product"))
    before.graph.node.insert(1, node("Add", "product shift", "z"))
    for name, value in {"m": m, "shift": F([0, 2, 0, 0])}.items():
        before.graph.initializer.append(numpy_helper.from_array(value, name))
    assert layer(assert_rewritten(before))[1][1] == (1, GATES[operator] * H, FEATURES - 1)


@pytest.mark.parametrize("operator", GATES)
def test_other_activations_claim_nothing_and_the_standard_ones_may_be_written_out(operator):
    values = weights(operator, np.random.default_rng(0))
    silence(values, [0])
    candidate = {"LSTM": ["Tanh", "Tanh"], "GRU": ["Tanh"]}[operator]
    written = model(operator, values, activations=["Sigmoid", *candidate])
    other = model(operator, values, activations=["Sigmoid", *["Sigmoid" for _ in candidate]])
    assert layer(assert_rewritten(written))[0] == H - 1
    assert layer(assert_rewritten(other))[0] == H


def test_a_batch_first_layer_stays_as_it_is():
    values = weights("GRU", np.random.default_rng(0))
    silence(values, [0])
    found = trace(channel_graph(model("GRU", values, layout=1)))
    assert "y" not in found.values
    assert any("batch axis" in pin.reason for pin in found.labels.pins)


@pytest.mark.parametrize("operator", GATES)
@pytest.mark.parametrize("seed", range(4))
def test_two_layers_with_random_zeros_give_the_same_outputs(operator, seed):
    generator = np.random.default_rng(seed)
    first, second = weights(operator, generator, 2), weights(operator, generator, 1, 2 * H)
    for values in (first, second):
        values["r"][generator.random(values["r"].shape) < 0.7] = 0
        silence(values, np.flatnonzero((generator.random(H) < 0.4) | (np.arange(H) % 3 == 0)))
    second["w"][..., np.flatnonzero(generator.random(2 * H) < 0.5)] = 0
    before = model(operator, second, inputs="z w r b", read=[0, 1, 2])
    stack = [
        node(operator, "x w1 r1 b1", "y1", hidden_size=H, direction="bidirectional"),
        node("Transpose", "y1", "t1", perm=[0, 2, 1, 3]),
        node("Reshape", "t1 s1", "z"),
    ]
    for index, added in enumerate(stack):
        before.graph.node.insert(index, added)
    for name, value in {**flat(first), "s": np.array([0, 0, 2 * H])}.items():
        before.graph.initializer.append(numpy_helper.from_array(value, f"{name}1"))
    result = assert_rewritten(before)
    assert result.params_after < result.params_before


@pytest.mark.parametrize("operator", GATES)
def test_what_only_units_that_go_read_goes_and_what_reads_only_zeros_is_zero(operator):
    values = weights(operator, np.random.default_rng(8))
    silence(values, [0, 1])
    values["w"][0, :, 2:, 1] = 0  # only units 0 and 1, which are zero, read feature 1
    values["w"][0, -1, 1, 0] = 3  # the candidate of unit 1 reads feature 0, which is zero
    before = model(operator, values, inputs="z w r b")
    m = np.eye(FEATURES, dtype=F) + 1
    m[:, 0] = 0
    before.graph.node.insert(0, node("MatMul", "x m", "z"))
    before.graph.initializer.append(numpy_helper.from_array(m, "m"))
    found = trace(channel_graph(before))
    assert np.flatnonzero(found.values["y"].reshape(-1) == 0).tolist() == [0, 1]
    assert np.flatnonzero(~found.needs["z"].reshape(-1)).tolist() == [0, 1]
    hidden, shapes = layer(assert_rewritten(before))
    assert hidden == H - 2
    assert shapes[1] == (1, GATES[operator] * (H - 2), FEATURES - 2)
