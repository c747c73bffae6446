"""Dead channels that lie at other positions in each group or head: what goes is what the least of them allows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from strategies import make_model

from compress.onnx_io.metadata import strip_metadata
from compress.onnx_io.session import random_inputs, session
from compress.rewrite import rewrite

F = np.float32


def node(operator, inputs, outputs, **attributes):
    return helper.make_node(operator, inputs.split(" "), outputs.split(" "), **attributes)


def weights(seed=0, **shapes):
    generator = np.random.default_rng(seed)
    return {name: (generator.standard_normal(shape) * 0.5).astype(F) for name, shape in shapes.items()}


def balanced(rows, width, dead, seed):
    """Returns the positions of `dead` channels of each row of `width`, at other places in each."""
    generator = np.random.default_rng(seed)
    return np.concatenate([row * width + generator.permutation(width)[:dead] for row in range(rows)]).astype(int)


def run(model, batch_size=2):
    return session(model.SerializeToString()).run(None, random_inputs(model, 3, batch_size=batch_size))


def shapes(model):
    return {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}


def proven(model):
    """Rewrites; the outputs are compared here, and the result is final."""
    result = rewrite(model)
    assert result.proven, result.notes
    assert not [note for note in result.notes if "left out" in note], result.notes
    for expected, found in zip(run(model), run(result.model), strict=True):
        assert np.abs(expected).max() > 1e-3
        assert np.abs(expected - found).max() <= 1e-5 * max(1, np.abs(expected).max())
    again = rewrite(result.model)
    assert strip_metadata(again.model).SerializeToString() == strip_metadata(result.model).SerializeToString()
    return result


def attribute(model, operator, name):
    found = [a for n in model.graph.node if n.op_type == operator for a in n.attribute if a.name == name]
    return [helper.get_attribute_value(a) for a in found]


# Grouped convolutions


def grouped(groups, per_in, per_out, dead_in=(), dead_out=(), *, seed=0):
    """Conv(3 → g · per_in), BatchNorm, Relu, Conv(groups), Relu, Conv(→ 5)."""
    size, made = groups * per_in, groups * per_out
    held = weights(
        seed, w0=(size, 3, 1, 1), w1=(made, per_in, 3, 3), b1=(made,), w2=(5, made, 1, 1), s=(size,), b=(size,)
    )
    held |= {"m": np.zeros(size, F), "v": np.ones(size, F)}
    for name, dead in (("w0", dead_in), ("b", dead_in), ("w1", dead_out), ("b1", dead_out)):
        held[name][list(dead)] = 0
    nodes = [node("Conv", "in w0", "x"), node("BatchNormalization", "x s b m v", "n"), node("Relu", "n", "r"),
             node("Conv", "r w1 b1", "y", group=groups, pads=[1] * 4), node("Relu", "y", "q"),
             node("Conv", "q w2", "out")]  # fmt: skip
    return make_model(nodes, {"in": ("N", 3, 6, 6)}, {"out": ("N", 5, 6, 6)}, held)


@pytest.mark.parametrize("groups", [2, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_each_group_loses_as_many_wherever_they_lie(groups, seed):
    model = grouped(groups, 6, 4, balanced(groups, 6, 2, seed), balanced(groups, 4, 1, seed + 9), seed=seed)
    result = proven(model)
    found = shapes(result.model)
    assert found["w0"] == (4 * groups, 3, 1, 1)
    assert found["w1"] == (3 * groups, 4, 3, 3)
    assert (found["b1"], found["s"], found["w2"]) == ((3 * groups,), (4 * groups,), (5, 3 * groups, 1, 1))
    assert result.params_after == rewrite(grouped(groups, 4, 3)).params_after


def test_the_least_group_decides_and_the_rest_stays():
    result = proven(grouped(3, 6, 4, [0, 1, 2, 3, 6, 16, 17], [0, 5, 6, 7]))
    assert shapes(result.model)["w1"] == (12, 5, 3, 3)
    assert result.blocked


def test_a_whole_group_goes_with_what_it_reads_and_makes():
    result = proven(grouped(3, 4, 2, [4, 5, 6, 7], [2, 3]))
    assert shapes(result.model)["w1"] == (4, 4, 3, 3)
    assert attribute(result.model, "Conv", "group") == [2]


def test_a_group_that_reads_nothing_goes_if_what_it_adds_can_be_folded():
    result = proven(grouped(3, 4, 2, [4, 5, 6, 7]))
    assert attribute(result.model, "Conv", "group") == [2]
    assert shapes(result.model)["w2"] == (5, 4, 1, 1)


def test_a_group_that_reads_nothing_stays_where_its_result_does():
    held = weights(w0=(12, 3, 1, 1), w1=(6, 4, 3, 3), b1=(6,))
    held["w0"][[0, 4, 5, 6, 7, 10]] = 0
    nodes = [node("Conv", "in w0", "x"), node("Conv", "x w1 b1", "out", group=3)]
    result = proven(make_model(nodes, {"in": ("N", 3, 6, 6)}, {"out": ("N", 6, 4, 4)}, held))
    assert (shapes(result.model)["w0"], shapes(result.model)["w1"]) == ((9, 3, 1, 1), (6, 3, 3, 3))


def test_what_lies_at_the_same_positions_is_left_where_it_is():
    result = proven(grouped(2, 6, 4, [1, 7], [2, 6]))
    assert shapes(result.model)["w1"] == (6, 5, 3, 3)
    assert not [note for note in result.notes if "changed places" in note]


@pytest.mark.parametrize("dead", [(), (0, 1, 2)], ids=["none is dead", "one group has none"])
def test_nothing_to_gain_changes_nothing(dead):
    model = grouped(2, 6, 4, dead)
    result = proven(model)
    assert shapes(result.model) == shapes(model)
    assert strip_metadata(model).SerializeToString() == strip_metadata(result.model).SerializeToString()


@settings(settings.get_profile("stable"), max_examples=8)
@given(st.data())
def test_the_cut_is_the_least_of_all_rows(data):
    groups, width = data.draw(st.integers(2, 4)), data.draw(st.integers(2, 5))
    grid = np.array(data.draw(st.lists(st.booleans(), min_size=groups * width, max_size=groups * width)))
    grid = grid.reshape(groups, width)
    grid[0, data.draw(st.integers(0, width - 1))] = False
    result = proven(grouped(groups, width, 2, np.flatnonzero(grid)))
    left = int((~grid.all(axis=1)).sum())
    assert shapes(result.model)["w1"] == (2 * left, width - int(grid.sum(axis=1).min()), 3, 3)


def test_a_weight_that_two_convolutions_share_is_left_alone():
    held = weights(w0=(6, 2, 1, 1), v0=(6, 2, 1, 1), w=(6, 3, 1, 1), w2=(3, 6, 1, 1))
    held["w0"][[0, 4]] = held["v0"][[1, 5]] = 0
    nodes = [node("Conv", "in w0", "x"), node("Conv", "in v0", "y"), node("Conv", "x w", "p", group=2),
             node("Conv", "y w", "q", group=2), node("Mul", "p q", "r"), node("Conv", "r w2", "out")]  # fmt: skip
    model = make_model(nodes, {"in": (2, 2, 4, 4)}, {"out": (2, 3, 4, 4)}, held)
    assert shapes(proven(model).model) == shapes(model)


def test_a_multiplier_of_a_depthwise_convolution_shrinks():
    held = weights(w0=(3, 2, 1, 1), w1=(12, 1, 3, 3), w2=(5, 12, 1, 1))
    held["w1"][balanced(3, 4, 2, 1)] = 0
    nodes = [node("Conv", "in w0", "x"), node("Conv", "x w1", "y", group=3), node("Conv", "y w2", "out")]
    result = proven(make_model(nodes, {"in": ("N", 2, 6, 6)}, {"out": ("N", 5, 4, 4)}, held))
    assert (shapes(result.model)["w1"], attribute(result.model, "Conv", "group")) == ((6, 1, 3, 3), [3])


def shuffle(x, y, name):
    return [node("Reshape", f"{x} {name}.a", f"{name}.g"),
            node("Transpose", f"{name}.g", f"{name}.t", perm=[0, 2, 1, 3, 4]),
            node("Reshape", f"{name}.t {name}.b", y)]  # fmt: skip


def shuffle_unit(width, dead, groups=2):
    """Grouped 1 × 1, shuffle, depthwise, grouped 1 × 1, beside a shortcut: a ShuffleNet unit."""
    size = groups * width
    held = weights(
        3, w0=(4, 3, 1, 1), w1=(size, 4 // groups, 1, 1), d=(size, 1, 3, 3), w2=(4, width, 1, 1), w3=(3, 4, 1, 1)
    )
    held |= {"s.a": np.array([0, groups, -1, 5, 5]), "s.b": np.array([0, -1, 5, 5])}
    held["w1"][list(dead)] = 0
    nodes = [node("Conv", "in w0", "x"), node("Conv", "x w1", "y", group=groups), node("Relu", "y", "r"),
             *shuffle("r", "z", "s"), node("Conv", "z d", "e", group=size, pads=[1] * 4),
             node("Conv", "e w2", "f", group=groups), node("Add", "x f", "h"), node("Conv", "h w3", "out")]  # fmt: skip
    return make_model(nodes, {"in": ("N", 3, 5, 5)}, {"out": ("N", 3, 5, 5)}, held)


def test_a_shuffle_unit_loses_what_is_dead_between_each_pair_of_groups():
    # Four runs of four: from either group to either group. In each run, one is dead.
    dead = [base + place for base, place in zip((0, 4, 8, 12), (2, 0, 1, 3), strict=True)]
    result = proven(shuffle_unit(8, dead))
    found = shapes(result.model)
    assert (found["w1"], found["d"], found["w2"]) == ((12, 2, 1, 1), (12, 1, 3, 3), (4, 6, 1, 1))
    assert result.params_after == rewrite(shuffle_unit(6, ())).params_after


def test_a_shuffle_unit_with_one_run_alive_stays_as_it_is():
    model = shuffle_unit(8, [2, 4, 9])
    assert shapes(proven(model).model)["w1"] == shapes(model)["w1"]


@pytest.mark.parametrize(("dead", "left"), [([0, 5, 7], 9), ([1, 4, 9, 11], 8), ([3], 12)])
def test_the_inside_of_a_shuffle_between_plain_convolutions(dead, left):
    held = weights(w0=(12, 2, 1, 1), w1=(3, 12, 1, 1)) | {
        "s.a": np.array([0, 3, 4, 4, 4]),
        "s.b": np.array([0, 12, 4, 4]),
    }
    held["w0"][dead] = 0
    nodes = [node("Conv", "in w0", "x"), *shuffle("x", "y", "s"), node("Conv", "y w1", "out")]
    result = proven(make_model(nodes, {"in": (2, 2, 4, 4)}, {"out": (2, 3, 4, 4)}, held))
    assert shapes(result.model)["w0"][0] == left


# Attention

T, D = 5, 24
HEADS, DIM = 4, 6


def attention(style, dead, *, on_heads=(), on_dims=False, block=False):
    """Attention over (N, T, 24) with 4 heads of 6; `dead` are rows of q, k, v in one array of 72."""
    held = weights(
        5, wi=(8, D), wqkv=(D, 3 * D), bqkv=(3 * D,), wo=(D, D), bo=(D,), mask=(1, 1, T, T), head=(HEADS, 1, 1)
    )
    held["wqkv"][:, list(dead)] = held["bqkv"][list(dead)] = 0
    held |= {"scale": F(0.4), "g": np.ones(D, F), "z": np.zeros(D, F), "joined": np.array([0, 0, D])}
    nodes = [node("MatMul", "in wi", "x"), node("LayerNormalization", "x g z", "n")]
    if style == "fused":
        held |= {"split": np.array([0, 0, 3, HEADS, DIM])}
        nodes += [node("MatMul", "n wqkv", "m"), node("Add", "m bqkv", "a"), node("Reshape", "a split", "s"),
                  node("Transpose", "s", "t", perm=[2, 0, 3, 1, 4])]  # fmt: skip
        for index, name in enumerate("qkv"):
            held[f"{name}.i"] = np.array(index)
            nodes.append(node("Gather", f"t {name}.i", name, axis=0))
    else:
        held |= {"heads": np.array([0, 0, HEADS, DIM])}
        parts = {"w": np.split(held.pop("wqkv"), 3, axis=1), "b": np.split(held.pop("bqkv"), 3)}
        if style == "split":
            held |= {"w": np.concatenate(parts["w"], axis=1), "b": np.concatenate(parts["b"])}
            held["sizes"] = np.array([D, D, D])
            nodes += [
                node("MatMul", "n w", "m"),
                node("Add", "m b", "a"),
                node("Split", "a sizes", "q.a k.a v.a", axis=-1),
            ]
        for index, name in enumerate("qkv"):
            if style == "separate":
                held |= {f"w{name}": parts["w"][index], f"b{name}": parts["b"][index]}
                nodes += [node("MatMul", f"n w{name}", f"{name}.m"), node("Add", f"{name}.m b{name}", f"{name}.a")]
            nodes += [node("Reshape", f"{name}.a heads", f"{name}.h"),
                      node("Transpose", f"{name}.h", name, perm=[0, 2, 1, 3])]  # fmt: skip
    query = "q"
    if on_dims:
        held |= {"rms": np.linspace(0.5, 1.5, DIM).astype(F)}
        nodes.append(node("Mul", "q rms", "q.n"))
        query = "q.n"
    nodes += [node("Transpose", "k", "k.t", perm=[0, 1, 3, 2]), node("MatMul", f"{query} k.t", "s0"),
              node("Mul", "s0 scale", "s1"),
              node("Add", "s1 mask", "s2"), node("Mul", "s2 head", "s3"), node("Softmax", "s3", "p", axis=-1),
              node("MatMul", "p v", "c")]  # fmt: skip
    result = "c"
    for operator in on_heads:
        nodes.append(node(operator, f"{result} head", f"{result}.{operator}"))
        result = f"{result}.{operator}"
    nodes += [node("Transpose", result, "c.t", perm=[0, 2, 1, 3]), node("Reshape", "c.t joined", "c.j"),
              node("MatMul", "c.j wo", "o"), node("Add", "o bo", "o.b"), node("Add", "x o.b", "y")]  # fmt: skip
    last = "y"
    if block:
        held |= weights(7, w1=(D, 32), b1=(32,), w2=(32, D), b2=(D,))
        held["w1"][:, 5:9] = held["b1"][5:9] = 0
        nodes += [node("LayerNormalization", "y g z", "y.n"), node("MatMul", "y.n w1", "u"), node("Add", "u b1", "u.b"),
                  node("Relu", "u.b", "u.r"), node("MatMul", "u.r w2", "w.o"), node("Add", "w.o b2", "w.b"),
                  node("Add", "y w.b", "e")]  # fmt: skip
        last = "e"
    held |= weights(8, wf=(D, 3))
    nodes.append(node("MatMul", f"{last} wf", "out"))
    return make_model(nodes, {"in": ("N", T, 8)}, {"out": ("N", T, 3)}, held)


def dead_heads(queries, keys, values, seed=0):
    """Returns dead rows of q, k and v: so many in each head, elsewhere in each."""
    return np.concatenate(
        [part * D + balanced(HEADS, DIM, count, seed + part) for part, count in enumerate((queries, keys, values))]
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_separate_projections_lose_ragged_dimensions(seed):
    result = proven(attention("separate", dead_heads(2, 0, 3, seed)))
    found = shapes(result.model)
    assert (found["wq"], found["wk"], found["wv"], found["wo"]) == ((D, 16), (D, 16), (D, 12), (12, D))
    assert (found["bq"], found["bk"], found["bv"]) == ((16,), (16,), (12,))


def test_a_projection_that_is_split_afterwards():
    result = proven(attention("split", dead_heads(0, 1, 2)))
    found = shapes(result.model)
    assert (found["w"], found["wo"]) == ((D, 20 + 20 + 16), (16, D))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_fused_projection_loses_what_queries_and_values_both_can(seed):
    result = proven(attention("fused", dead_heads(0, 2, 3, seed)))
    found = shapes(result.model)
    assert (found["wqkv"], found["wo"]) == ((D, 3 * 16), (16, D))


def test_the_least_head_decides():
    dead = [2 * D + p for p in (0, 1, 2, 7, 15, 16, 17, 22, 23)]
    result = proven(attention("separate", dead))
    assert shapes(result.model)["wv"] == (D, D - HEADS)


def test_a_dead_head_goes_whole_with_its_factors():
    head = [part * D + 6 + place for part in range(3) for place in range(DIM)]
    result = proven(attention("separate", head, on_heads=("Mul", "Add")))
    # What is added to a dead head is constant over its dimensions, and the projection folds it.
    found = shapes(result.model)
    assert (found["wq"], found["wv"], found["wo"]) == ((D, 18), (D, 18), (18, D))


def test_what_is_multiplied_to_whole_heads_ties_no_dimensions():
    result = proven(attention("separate", dead_heads(1, 0, 2), on_heads=("Mul",)))
    assert (shapes(result.model)["wq"], shapes(result.model)["wv"]) == ((D, 20), (D, 16))


def test_what_is_multiplied_to_dimensions_ties_them_over_all_heads():
    result = proven(attention("separate", dead_heads(2, 0, 2), on_dims=True))
    assert (shapes(result.model)["wq"], shapes(result.model)["wv"]) == ((D, D), (D, 16))
    same = [head * DIM + place for head in range(HEADS) for place in (1, 4)]
    result = proven(attention("separate", same, on_dims=True))
    assert (shapes(result.model)["wq"], shapes(result.model)["rms"]) == ((D, 16), (4,))


def test_a_transformer_block():
    result = proven(attention("fused", dead_heads(2, 0, 2), block=True))
    found = shapes(result.model)
    assert (found["wqkv"], found["wo"], found["w1"], found["w2"]) == ((D, 48), (16, D), (D, 28), (28, D))


def test_heads_without_a_dead_dimension_stay_as_they_are():
    model = attention("separate", [0, 1, 7])
    assert shapes(proven(model).model) == shapes(model)
