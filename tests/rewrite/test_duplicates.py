"""Channels that are multiples of others are merged, exactly, where every reader allows it; nowhere else."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from strategies import make_model, networks

from compress.channels.alike import likeness
from compress.channels.merge import merging
from compress.channels.readers import read_by_weights
from compress.channels.trace import trace
from compress.onnx_io.graph import channel_graph
from compress.onnx_io.session import random_inputs, session
from compress.recipe import RewriteSettings
from compress.rewrite import explain, rewrite

F = np.float32
C = 8


@pytest.fixture
def g():
    return np.random.default_rng(0)


def draw(g, *shape):
    return (g.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))).astype(F)


def node(operator, inputs, outputs, **attributes):
    return helper.make_node(operator, inputs.split(" "), outputs.split(" "), name=f"{operator}:{outputs}", **attributes)


def network(nodes, constants, output=("N", 3, 8, 8), *, inputs=None):
    return make_model(nodes, inputs or {"x": ("N", 3, 8, 8)}, {"y": output}, constants)


def outputs(model, seed=1):
    return session(model.SerializeToString()).run(None, random_inputs(model, seed, batch_size=2))


def width(model, name):
    return {tensor.name: tensor.dims for tensor in model.graph.initializer}[name][0]


def assert_width(model, expected, chosen=None, name="w1"):
    """Checks that a rewrite leaves that many rows of a weight, changes no output, and leaves nothing to do."""
    result = rewrite(model, chosen)
    assert result.proven, result.notes
    assert not [note for note in result.notes if "left out" in note], result.notes
    assert width(result.model, name) == expected
    for before, after in zip(outputs(model), outputs(result.model), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-5 * max(1, np.abs(before).max()))
    again = rewrite(result.model, chosen)
    assert again.channels_removed == 0
    assert not [note for note in again.notes if "merged" in note]
    assert result.params_after <= result.params_before
    return result.model


def chain(w1, b1, w2, *between, padding=1):
    """conv → what is between → conv."""
    middle = [node(operator, f"t{index}", f"t{index + 1}") for index, operator in enumerate(between)]
    nodes = [
        node("Conv", "x w1 b1", "t0"),
        *middle,
        node("Conv", f"t{len(between)} w2", "y", pads=[padding] * 4),
    ]
    return network(nodes, {"w1": w1, "b1": b1, "w2": w2}, ("N", w2.shape[0], "h", "w"))


def weights(g, factors, kernel=3):
    """Weights of which channel j repeats channel i, times a factor, for each (j, i, factor)."""
    w1, b1, w2 = draw(g, C, 3, 1, 1), draw(g, C), draw(g, 3, C, kernel, kernel)
    for copy, source, factor in factors:
        w1[copy], b1[copy] = w1[source] * F(factor), b1[source] * F(factor)
    return w1, b1, w2


@pytest.mark.parametrize("factor", [1.0, 2.0, 0.37])
@pytest.mark.parametrize("between", [(), ("Relu",), ("LeakyRelu", "Identity"), ("Neg", "Abs")])
def test_positive_multiples_are_merged_zero_padding_or_not(g, factor, between):
    assert_width(chain(*weights(g, [(5, 2, factor), (7, 2, factor), (1, 0, factor)]), *between), C - 3)


def test_equal_channels_are_merged_through_any_activation(g):
    assert_width(chain(*weights(g, [(5, 2, 1.0)]), "Sigmoid", "Tanh"), C - 1)


def test_multiples_differ_behind_an_activation_that_is_not_homogeneous(g):
    assert_width(chain(*weights(g, [(5, 2, 2.0)]), "Sigmoid"), C)


def test_opposite_channels_are_merged_through_linear_operators_only(g):
    parts = weights(g, [(5, 2, -1.5)])
    assert_width(chain(*parts, "Neg"), C - 1)
    assert_width(chain(*parts, "Abs"), C)  # an even function of one sign is not looked for
    assert_width(chain(*parts, "Relu"), C)


def test_a_factor_of_zero_is_a_dead_channel_and_not_a_duplicate(g):
    result = rewrite(chain(*weights(g, [(5, 2, 0.0), (6, 2, 0.0)]), "Relu"))
    assert width(result.model, "w1") == C - 2
    assert not [note for note in result.notes if "merged" in note]


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_near_duplicates_are_not_merged(g, part):
    w1, b1, w2 = weights(g, [(5, 2, 1.0)])
    if part == "weight":
        w1[5, 0] += F(1e-5)
    else:
        b1[5] += F(1e-5)
    assert_width(chain(w1, b1, w2, "Relu"), C)


def test_exact_takes_only_equal_bits(g):
    exact = RewriteSettings(epsilon=0)
    assert_width(chain(*weights(g, [(5, 2, 1.0)]), "Relu"), C - 1, exact)
    rounded = weights(g, [(5, 2, 0.37)])
    assert_width(chain(*rounded, "Relu"), C, exact)
    assert_width(chain(*rounded, "Relu"), C - 1)


def batch_norm(g, size):
    return {
        "s": g.uniform(0.5, 1.5, size).astype(F),
        "b": draw(g, size),
        "m": draw(g, size),
        "v": g.uniform(0.5, 1.5, size).astype(F),
    }


@pytest.mark.parametrize("like", [True, False])
def test_batch_norm_makes_multiples_where_its_shift_scales_as_well(g, like):
    w1, b1, w2 = weights(g, [(5, 2, 2.0)])
    norm = batch_norm(g, C)
    # 2·x normalised by twice the mean: twice the scale and four times the variance undo a factor, ε aside.
    for name in norm:
        norm[name][5] = norm[name][2]
    norm["m"][5] *= 2
    norm["b"][5] *= 2 if like else 1
    nodes = [
        node("Conv", "x w1 b1", "a"),
        node("BatchNormalization", "a s b m v", "n"),
        node("Relu", "n", "r"),
        node("Conv", "r w2", "y", pads=[1] * 4),
    ]
    model = network(nodes, {"w1": w1, "b1": b1, "w2": w2, **norm})
    assert_width(model, C - 1 if like else C)


def residual(g, *, second_like=True, opened=False):
    """Two convolutions are added to a stream; a reader after each sum; the last one is the output."""
    w1, b1, _ = weights(g, [(6, 1, 1.5)])
    block, shift = draw(g, C, C, 3, 3), draw(g, C)
    if second_like:
        block[6], shift[6] = block[1] * F(1.5), shift[1] * F(1.5)
    nodes = [
        node("Conv", "x w1 b1", "s0"),
        node("Relu", "s0", "r0"),
        node("Conv", "r0 block shift", "c0", pads=[1] * 4),
        node("Add", "s0 c0", "s1"),
        node("Relu", "s1", "r1"),
        node("Conv", "r1 head", "y"),
    ]
    model = network(nodes, {"w1": w1, "b1": b1, "block": block, "shift": shift, "head": draw(g, 3, C, 1, 1)})
    if opened:
        model.graph.output.append(helper.make_tensor_value_info("s1", 1, ["N", C, 8, 8]))
    return model


def test_a_residual_stream_is_merged_where_all_its_summands_are_alike(g):
    model = assert_width(residual(g), C - 1)
    assert width(model, "block") == C - 1


def test_a_residual_stream_stays_where_a_summand_differs_or_it_is_an_output(g):
    assert_width(residual(g, second_like=False), C)
    assert_width(residual(g, opened=True), C)


def test_channels_of_different_layers_are_merged_in_a_dense_block(g):
    w1 = draw(g, 4, 3, 1, 1)
    again = np.concatenate([draw(g, 2, 3, 1, 1), w1[:1] * F(3)])
    nodes = [
        node("Conv", "x w1", "a"),
        node("Conv", "x again", "b"),
        node("Concat", "a b", "c", axis=1),
        node("Relu", "c", "r"),
        node("Conv", "r w2", "y", pads=[1] * 4),
    ]
    model = network(nodes, {"w1": w1, "again": again, "w2": draw(g, 3, 7, 3, 3)})
    result = assert_width(model, 2, name="again")
    assert width(result, "w1") == 4


@pytest.mark.parametrize("like", [True, False])
def test_a_depthwise_convolution_passes_likeness_on_if_its_kernels_are_alike(g, like):
    w1, b1, w2 = weights(g, [(5, 2, 2.0)], kernel=1)
    deep, shift = draw(g, C, 1, 3, 3), draw(g, C)
    deep[5], shift[5] = deep[2] * F(0.5), shift[2] * (1 if like else 2)
    nodes = [
        node("Conv", "x w1 b1", "a"),
        node("Relu", "a", "r"),
        node("Conv", "r deep shift", "d", group=C, pads=[1] * 4),
        node("Relu", "d", "e"),
        node("Conv", "e w2", "y"),
    ]
    model = network(nodes, {"w1": w1, "b1": b1, "w2": w2, "deep": deep, "shift": shift})
    assert_width(model, C - 1 if like else C)


@pytest.mark.parametrize("like", [True, False])
def test_a_gate_of_its_own_keeps_channels_apart(g, like):
    w1, b1, w2 = weights(g, [(5, 2, 2.0)])
    down, up, shift = draw(g, 2, C, 1, 1), draw(g, C, 2, 1, 1), draw(g, C)
    if like:
        up[5], shift[5] = up[2], shift[2]
    nodes = [
        node("Conv", "x w1 b1", "a"),
        node("Relu", "a", "r"),
        node("GlobalAveragePool", "r", "p"),
        node("Conv", "p down", "d"),
        node("Relu", "d", "e"),
        node("Conv", "e up shift", "u"),
        node("Sigmoid", "u", "gate"),
        node("Mul", "r gate", "z"),
        node("Conv", "z w2", "y", pads=[1] * 4),
    ]
    model = network(nodes, {"w1": w1, "b1": b1, "w2": w2, "down": down, "up": up, "shift": shift})
    assert_width(model, C - 1 if like else C)


@pytest.mark.parametrize("batch", ["N", 2])
def test_flattened_channels_are_merged_position_by_position(g, batch):
    w1, b1, _ = weights(g, [(5, 2, 2.0)])
    nodes = [
        node("Conv", "x w1 b1", "a"),
        node("Relu", "a", "r"),
        node("MaxPool", "r", "p", kernel_shape=[4, 4], strides=[4, 4]),
        node("Flatten", "p", "f"),
        node("Gemm", "f w2 b2", "y", transB=1, alpha=0.5),
    ]
    constants = {"w1": w1, "b1": b1, "w2": draw(g, 3, C * 4), "b2": draw(g, 3)}
    assert_width(network(nodes, constants, (batch, 3), inputs={"x": (batch, 3, 8, 8)}), C - 1)


def attention(g, heads=2, size=4, *, head_like=False):
    """Self-attention on 5 tokens; a value dimension of every head, or the whole second head, repeats."""
    width = heads * size
    wq, wk, wv = (draw(g, width, width) for _ in range(3))
    if head_like:
        for w in (wq, wk, wv):
            w[:, size:] = w[:, :size]
    else:
        wv[:, 3::size] = wv[:, 1::size] * F(2)
    nodes = []
    for name, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        nodes += [
            node("MatMul", f"x w{name}", f"{name}0"),
            node("Reshape", f"{name}0 apart", f"{name}1"),
            node("Transpose", f"{name}1", f"{name}2", perm=order),
        ]
    nodes += [
        node("MatMul", "q2 k2", "scores"),
        node("Softmax", "scores", "p", axis=-1),
        node("MatMul", "p v2", "mixed"),
        node("Transpose", "mixed", "back", perm=[0, 2, 1, 3]),
        node("Reshape", "back joined", "flat"),
        node("MatMul", "flat wo", "y"),
    ]
    constants = {"wq": wq, "wk": wk, "wv": wv, "wo": draw(g, width, width),
                 "apart": np.array([0, 5, heads, size]), "joined": np.array([0, 5, width])}  # fmt: skip
    return network(nodes, constants, ("N", 5, width), inputs={"x": ("N", 5, width)})


def test_a_head_that_repeats_another_is_seen(g):
    known = likeness(trace(channel_graph(attention(g, head_like=True)), epsilon=2**-24))
    first, second = known.cells["flat"].ids.reshape(2, 4)
    assert (first == second).all()
    assert len(set(first.tolist())) == 4
    repeated = likeness(trace(channel_graph(attention(g)), epsilon=2**-24)).cells["flat"]
    assert len(np.unique(repeated.ids)) == 6


@pytest.mark.parametrize("kind", ["chain", "heads"])
def test_what_leads_to_weights_is_all_that_matters_of_likeness(g, kind):
    model = chain(*weights(g, [(5, 2, 1.5)]), "Relu") if kind == "chain" else attention(g, head_like=True)
    model.graph.node.append(node("Softmax", "y", "z"))
    model.graph.output[0].name = "z"
    found = trace(channel_graph(model), epsilon=2**-24, spread=True)
    asked = read_by_weights(found, found.graph.constants)
    assert asked == ["y"]
    part, whole = likeness(found, asked), likeness(found)
    assert whole.cells.keys() - part.cells.keys() == {"z"}
    mine, expected = merging(found, part), merging(found, whole)
    assert mine.gone == expected.gone != frozenset()
    assert all((mine.weights[name] == values).all() for name, values in expected.weights.items())


def test_no_likeness_is_sought_where_nothing_could_be_merged(g):
    found = trace(channel_graph(chain(*weights(g, [(5, 2, 1.5)]), "Relu")), epsilon=2**-24)
    # The first weight reads the input of the network, which keeps all its channels.
    assert read_by_weights(found, {"w1", "b1"}) == []
    assert likeness(found, []).cells == {}


def test_a_head_that_repeats_another_goes(g):
    assert_width(attention(g, head_like=True), 4, name="wo")


def test_value_dimensions_of_every_head_are_merged(g):
    assert_width(attention(g), 6, name="wo")


def test_value_dimensions_of_attention_are_merged(g):
    wv = draw(g, 6, 6)
    wv[:, 4] = wv[:, 1] * F(2)
    nodes = [
        node("MatMul", "x wq", "q"),
        node("MatMul", "x wk", "k"),
        node("MatMul", "x wv", "v"),
        node("Transpose", "k", "kt", perm=[0, 2, 1]),
        node("MatMul", "q kt", "scores"),
        node("Softmax", "scores", "p", axis=-1),
        node("MatMul", "p v", "mixed"),
        node("MatMul", "mixed wo", "y"),
    ]
    constants = {"wq": draw(g, 6, 6), "wk": draw(g, 6, 6), "wv": wv, "wo": draw(g, 6, 6)}
    assert_width(network(nodes, constants, ("N", "T", 6), inputs={"x": ("N", "T", 6)}), 5, name="wo")


def test_grouped_convolutions_merge_within_a_group(g):
    w1, b1, _ = weights(g, [(1, 0, 2.0), (5, 4, 3.0)])
    nodes = [
        node("Conv", "x w1 b1", "a"),
        node("Relu", "a", "r"),
        node("Conv", "r w2", "y", group=2, pads=[1] * 4),
    ]
    model = network(nodes, {"w1": w1, "b1": b1, "w2": draw(g, 4, 4, 3, 3)}, ("N", 4, 8, 8))
    assert_width(model, 6)
    apart = weights(g, [(1, 0, 2.0), (7, 5, 3.0)])
    model = network(nodes, {"w1": apart[0], "b1": apart[1], "w2": draw(g, 4, 4, 3, 3)}, ("N", 4, 8, 8))
    assert_width(model, 6)
    for pairs in ([(1, 0, 2.0)], [(4, 0, 2.0)], [(5, 0, 2.0), (4, 1, 3.0)]):
        across = weights(g, pairs)
        model = network(nodes, {"w1": across[0], "b1": across[1], "w2": draw(g, 4, 4, 3, 3)}, ("N", 4, 8, 8))
        assert_width(model, C)


def test_transposed_convolutions_are_read_and_give_likeness(g):
    w1, b1, _ = weights(g, [(5, 2, 2.0)])
    up = draw(g, C, 6, 2, 2)
    up[:, 4] = up[:, 1] * F(3)
    nodes = [
        node("Conv", "x w1 b1", "a"),
        node("Relu", "a", "r"),
        node("ConvTranspose", "r up", "u", strides=[2, 2]),
        node("Relu", "u", "v"),
        node("Conv", "v w2", "y"),
    ]
    model = network(nodes, {"w1": w1, "b1": b1, "up": up, "w2": draw(g, 3, 6, 1, 1)}, ("N", 3, 16, 16))
    result = assert_width(model, C - 1)
    assert {t.name: t.dims for t in result.graph.initializer}["up"][1] == 5


@pytest.mark.parametrize("like", [True, False])
def test_a_weight_that_two_nodes_share_changes_only_where_both_agree(g, like):
    w1, b1, w2 = weights(g, [(5, 2, 2.0)])
    other, shift, _ = weights(g, [(5, 2, 2.0)] if like else [(5, 2, 3.0)])
    nodes = [
        node("Conv", "x w1 b1", "a"),
        node("Relu", "a", "r"),
        node("Conv", "x other shift", "b"),
        node("Relu", "b", "q"),
        node("Conv", "r w2", "s", pads=[1] * 4),
        node("Conv", "q w2", "t", pads=[1] * 4),
        node("Add", "s t", "y"),
    ]
    model = network(nodes, {"w1": w1, "b1": b1, "other": other, "shift": shift, "w2": w2})
    assert_width(model, C - 1 if like else C)


def test_a_branch_that_repeats_another_goes(g):
    w1, b1, _ = weights(g, [])
    deep = draw(g, C, C, 3, 3)
    branch = lambda n, scale: [  # noqa: E731 - a branch is its four nodes
        node("Conv", f"x w{n} b{n}", f"a{n}"),
        node("Relu", f"a{n}", f"r{n}"),
        node("Conv", f"r{n} deep{n}", f"d{n}", pads=[1] * 4),
        node("MaxPool", f"d{n}", f"p{n}", kernel_shape=[2, 2]),
    ]
    nodes = [*branch(1, 1), *branch(2, 2), node("Concat", "p1 p2", "c", axis=1), node("Conv", "c w3", "y")]
    constants = {"w1": w1, "b1": b1, "w2": w1 * F(2), "b2": b1 * F(2), "deep1": deep, "deep2": deep * F(0.3),
                 "w3": draw(g, 3, 2 * C, 1, 1)}  # fmt: skip
    result = assert_width(network(nodes, constants, ("N", 3, 7, 7)), C)
    # A tensor keeps one channel: of the second branch nothing more than that is left.
    assert sum(np.prod(t.dims) for t in result.graph.initializer) <= w1.size + C + deep.size + 3 * C + 40


def test_a_transposition_in_between_keeps_space_apart(g):
    w1, b1, _ = weights(g, [])
    nodes = [
        node("Conv", "x w1 b1", "a"),
        node("Conv", "x again c1", "b"),
        node("Transpose", "b", "t", perm=[0, 1, 3, 2]),
        node("Concat", "a t", "c", axis=1),
        node("Conv", "c w2", "y"),
    ]
    constants = {"w1": w1, "b1": b1, "again": w1.copy(), "c1": b1.copy(), "w2": draw(g, 3, 2 * C, 1, 1)}
    assert_width(network(nodes, constants), C)


def test_a_channel_that_cannot_go_changes_nothing(g):
    """Its other reader tells it from its like, and feeds duplicates alone."""
    w1, b1, w2 = weights(g, [(5, 2, 2.0)], kernel=1)
    other = draw(g, 2, C, 1, 1)
    other[1] = other[0]
    nodes = [
        node("Conv", "x w1 b1", "a"),
        node("Relu", "a", "r"),
        node("Conv", "r w2", "s"),
        node("Sigmoid", "a", "q"),
        node("Conv", "q other", "o"),
        node("Conv", "o w3", "t"),
        node("Add", "s t", "y"),
    ]
    model = network(nodes, {"w1": w1, "b1": b1, "w2": w2, "other": other, "w3": draw(g, 3, 2, 1, 1)})
    result = assert_width(model, C)
    assert width(result, "other") == 1
    (after,) = (numpy_helper.to_array(t) for t in result.graph.initializer if t.name == "w2")
    assert (after == w2).all()


def test_a_weight_from_which_another_is_computed_does_not_change(g):
    w1, b1, w2 = weights(g, [(5, 2, 2.0)])
    other, shift, _ = weights(g, [(5, 2, 3.0)])
    nodes = [
        node("Conv", "x w1 b1", "a"),
        node("Relu", "a", "r"),
        node("Conv", "x other shift", "b"),
        node("Relu", "b", "q"),
        node("Mul", "w2 half", "w3"),
        node("Conv", "r w2", "s", pads=[1] * 4),
        node("Conv", "q w3", "t", pads=[1] * 4),
        node("Add", "s t", "y"),
    ]
    constants = {"w1": w1, "b1": b1, "other": other, "shift": shift, "w2": w2, "half": F(0.5)}
    assert_width(network(nodes, constants), C)


def test_rows_are_alike_if_they_read_likes_alike(g):
    w1, b1, w2 = weights(g, [(5, 2, 2.0)], kernel=1)
    w2[1] = w2[0]
    w2[1, 2], w2[1, 5] = 0, w2[0, 5] + w2[0, 2] / 2
    w2[2, 5] = 0
    found = likeness(trace(channel_graph(chain(w1, b1, w2, "Relu")), epsilon=2**-24)).cells["y"].ids.reshape(-1)
    assert found[0] == found[1] != found[2]


def test_explain_counts_what_goes_and_says_why_the_rest_stays(g):
    w1, b1, w2 = weights(g, [(5, 2, 2.0)])
    layer = explain(chain(w1, b1, w2, "Relu")).layers[0]
    assert (layer.duplicate, layer.merged, layer.kept) == (1, 1, ())
    layer = explain(chain(w1, b1, w2, "Sigmoid")).layers[0]
    assert (layer.duplicate, layer.merged) == (1, 0)
    (row,) = layer.kept
    assert row.kind == "duplicate"
    assert "Conv:y" in row.node
    (row,) = explain(residual(g, opened=True)).layers[0].kept
    assert "output" in row.reason


HOMOGENEOUS = ("Relu", "LeakyRelu", "MaxPool", "AveragePool", "BatchNormalization")
EXAMPLES = 60


@settings(settings.get_profile("stable"), max_examples=EXAMPLES)
@given(networks(), st.integers(0, 2**16), st.sampled_from([1.0, 0.5, 1.7]))
def test_injected_duplicates_leave_no_trace(model, seed, factor):
    doubled = type(model)()
    doubled.CopyFrom(model)
    assume(inject(doubled, np.random.default_rng(seed), F(factor)))
    plain, result = rewrite(model), rewrite(doubled)
    assert result.proven, result.notes
    for before, after in zip(outputs(doubled), outputs(result.model), strict=True):
        assert np.abs(before - after).max() <= 1e-5 * max(1.0, np.abs(before).max())
    # A pass may be left out because it would make a tiny file larger; then sizes say nothing.
    if not [note for note in (*plain.notes, *result.notes) if "left out" in note]:
        assert channels(result.model) <= channels(plain.model)


def channels(model):
    """Returns how many channels the convolutions of a network produce."""
    weights = {node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    return sum(tensor.dims[0] for tensor in model.graph.initializer if tensor.name in weights)


def inject(model, generator, factor):
    """Gives a convolution three channels more, multiples of its own, if one convolution alone reads what follows."""
    paths = [path for index in range(len(model.graph.node)) if (path := way(model, index, factor == 1))]
    if not paths:
        return False
    first, *between, last = paths[generator.integers(len(paths))]
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    source = generator.integers(0, tensors[first.input[1]].dims[0], 3)

    def extend(name, factor):
        value = numpy_helper.to_array(tensors[name])
        tensors[name].CopyFrom(numpy_helper.from_array(np.concatenate([value, value[source] * factor]), name))

    for name in first.input[1:]:
        extend(name, factor)
    for step in between:
        if step.op_type == "BatchNormalization":
            for name, times in zip(step.input[1:], (F(1), factor, factor, F(1)), strict=True):
                extend(name, times)
    value = numpy_helper.to_array(tensors[last.input[1]])
    more = generator.standard_normal((value.shape[0], 3, *value.shape[2:])).astype(F)
    # What the original leaves unread stays unread.
    more[~value.any(axis=(1, 2, 3))] = 0
    more[:, ~value.any(axis=(0, 2, 3))[source]] = 0
    tensors[last.input[1]].CopyFrom(numpy_helper.from_array(np.concatenate([value, more], axis=1), last.input[1]))
    return True


def way(model, index, equal):
    """Returns the nodes from a plain convolution to the next one, if nothing else reads what lies between."""
    found = []
    for node in model.graph.node[index:]:
        plain = node.op_type == "Conv" and all(a.i == 1 for a in node.attribute if a.name == "group")
        if found and found[-1].output[0] not in node.input[:1]:
            return None
        found.append(node)
        if plain and len(found) > 1:
            break
        if not (plain or node.op_type in HOMOGENEOUS or (equal and node.op_type in ("Sigmoid", "Tanh", "Clip"))):
            return None
        if sum(list(n.input).count(node.output[0]) for n in model.graph.node) != 1:
            return None
    plain_ends = len(found) > 1 and found[0].op_type == found[-1].op_type == "Conv"
    return found if plain_ends else None
