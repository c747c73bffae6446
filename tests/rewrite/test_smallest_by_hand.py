"""Networks in which it takes a choice, or a second look, to leave the smallest that there is."""

import numpy as np
import pytest
from onnx import numpy_helper
from strategies import make_model
from test_rewrite_cases import node, proven, shapes, weights

SPARE = " " * 2000  # room in the file: these networks are smaller than the names in them


def roomy(*arguments, **options):
    model = make_model(*arguments, **options)
    model.graph.doc_string = SPARE
    return model


def attention(held):
    nodes = [
        *(node("MatMul", f"in w{letter}", letter) for letter in "qkv"),
        node("Transpose", "k", "kt", perm=[0, 2, 1]),
        node("MatMul", "q kt", "scores"),
        node("Softmax", "scores", "shares", axis=-1),
        node("MatMul", "shares v", "mixed"),
        node("MatMul", "mixed wo", "out"),
    ]
    return roomy(nodes, {"in": ("N", 5, 3)}, {"out": ("N", 5, 2)}, held)


def attention_weights():
    return weights(wq=(3, 4), wk=(3, 4), wv=(3, 6), wo=(6, 2))


def test_values_of_attention_that_nothing_reads_go():
    held = attention_weights()
    held["wo"][[1, 4]] = 0
    assert shapes(proven(attention(held)).model)["wv"] == (3, 4)


def test_values_of_attention_that_are_zero_go_though_they_are_read():
    held = attention_weights()
    held["wv"][:, [0, 5]] = 0
    found = shapes(proven(attention(held)).model)
    assert (found["wv"], found["wo"]) == ((3, 4), (4, 2))


def test_queries_go_with_keys_that_are_zero():
    held = attention_weights()
    held["wk"][:, 2] = 0
    found = shapes(proven(attention(held)).model)
    assert (found["wq"], found["wk"]) == ((3, 3), (3, 3))


def carrying(middle, readers):
    """Five channels, of which 1, 2 and 3 are constant; `readers` are padded convolutions."""
    held = weights(w0=(5, 2, 1, 1), b0=(5,), **{f"v{i}": (3, 5, 3, 3) for i in range(len(readers))})
    held["w0"][[1, 2, 3]], held["b0"][[1, 2, 3]] = 0, [-6.0, 2.0, 4.0]
    nodes = [node("Conv", "in w0 b0", "x"), *middle]
    nodes += [node("Conv", f"{reader} v{i}", f"y{i}", pads=[1] * 4) for i, reader in enumerate(readers)]
    nodes.append(node("Sum", " ".join(f"y{i}" for i in range(len(readers))), "out"))
    return nodes, held


def rewritten(nodes, held):
    result = proven(roomy(nodes, {"in": ("N", 2, 6, 6)}, {"out": ("N", 3, 6, 6)}, held))
    return shapes(result.model)["w0"][0]


def test_readers_before_and_after_an_activation_share_a_carrier():
    """Before the ReLU −6 is the largest constant, after it that channel holds 0 and can bear nothing."""
    assert rewritten(*carrying([node("Relu", "x", "r")], ["x", "r"])) == 3


def test_a_constant_that_stays_anyway_bears_the_others():
    """Channel 2 is constant in x and varies in the sum that follows; the larger ones have no such reason to stay."""
    nodes, held = carrying([], ["x"])
    held |= weights(1, side=(5, 2, 1, 1), v1=(3, 5, 1, 1))
    held["side"][[1, 3]] = 0
    nodes[-1:] = [
        node("Conv", "in side", "s"),
        node("Add", "x s", "z"),
        node("Conv", "z v1", "y1"),
        node("Sum", "y0 y1", "out"),
    ]
    assert rewritten(nodes, held) == 3


@pytest.mark.parametrize("start", [1, 2, 3])
def test_one_channel_is_the_last_of_a_dead_tensor_and_of_its_slice(start):
    held = weights(w0=(4, 2, 1, 1), w1=(2, 4 - start, 1, 1))
    held["w1"][:] = 0
    held |= {"from": np.array([start]), "to": np.array([4]), "axis": np.array([1])}
    nodes = [node("Conv", "in w0", "x"), node("Slice", "x from to axis", "y"), node("Conv", "y w1", "out")]
    found = shapes(proven(roomy(nodes, {"in": (1, 2, 4, 4)}, {"out": (1, 2, 4, 4)}, held)).model)
    assert (found["w0"][0], found["w1"][1]) == (1, 1)


def test_the_last_channel_of_a_dead_part_is_one_that_its_group_can_spare():
    """Of channels 0 to 3 in two groups the last is needed; the first part of the split is dead and keeps one."""
    held = weights(w0=(4, 2, 1, 1), wg=(4, 2, 1, 1), w1=(2, 4, 1, 1)) | {"sizes": np.array([2, 2])}
    held["w1"][:, [0, 2, 3]] = 0
    nodes = [
        node("Conv", "in w0", "x"),
        node("Conv", "x wg", "g", group=2),
        node("Split", "g sizes", "a b", axis=1),
        node("Relu", "a", "r"),
        node("Concat", "b r", "c", axis=1),
        node("Conv", "c w1", "out"),
    ]
    found = shapes(proven(roomy(nodes, {"in": (1, 2, 4, 4)}, {"out": (1, 2, 4, 4)}, held)).model)
    assert found["wg"][0] == 2


def test_a_carrier_is_the_last_channel_of_a_part_as_well():
    """Channel 0 varies, the others are constant and padding shows them; each part of the split keeps one channel."""
    held = weights(w0=(4, 2, 1, 1), b0=(4,), w1=(2, 4, 3, 3)) | {"sizes": np.array([2, 2])}
    held["w0"][1:], held["b0"][:] = 0, [0, 5, 2, 1]
    nodes = [
        node("Conv", "in w0 b0", "x"),
        node("Split", "x sizes", "a b", axis=1),
        node("Relu", "a", "r"),
        node("Concat", "r b", "c", axis=1),
        node("Conv", "c w1", "out", pads=[1] * 4),
    ]
    found = shapes(proven(roomy(nodes, {"in": (1, 2, 4, 4)}, {"out": (1, 2, 4, 4)}, held)).model)
    assert found["w0"][0] == 2


def test_a_constant_moves_into_the_addition_that_follows_a_matrix_product():
    held = weights(w0=(3, 4), b0=(4,), w1=(4, 2), b1=(2,))
    held["w0"][:, 1], held["b0"][1] = 0, 2
    nodes = [node("Gemm", "in w0 b0", "x"), node("MatMul", "x w1", "p"), node("Add", "b1 p", "out")]
    result = proven(roomy(nodes, {"in": ("N", 3)}, {"out": ("N", 2)}, held))
    assert [one.op_type for one in result.model.graph.node] == ["Gemm", "MatMul", "Add"]
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in result.model.graph.initializer}
    added = next(name for name in result.model.graph.node[-1].input if name in found)
    np.testing.assert_allclose(found[added], held["b1"] + 2 * held["w1"][1], rtol=1e-5)


def test_an_addition_after_two_products_is_not_changed_for_one():
    held = weights(w0=(3, 4), b0=(4,), w1=(4, 2))
    held["w0"][:, 1], held["b0"][1] = 0, 2
    nodes = [
        node("Gemm", "in w0 b0", "x"),
        node("MatMul", "x w1", "p"),
        node("Relu", "p", "r"),
        node("Add", "p r", "out"),
    ]
    result = proven(roomy(nodes, {"in": ("N", 3)}, {"out": ("N", 2)}, held))
    assert shapes(result.model)["w1"] == (3, 2)


def test_constants_that_reach_a_product_in_two_rounds_are_added_under_two_names():
    """The concatenation of a constant becomes one more constant channel only once its layer has gone."""
    held = weights(w0=(3, 2), b0=(2,), w1=(2, 2), b1=(2,), w2=(4, 2), w3=(2, 2))
    held["w1"][:] = 0
    nodes = [
        node("Gemm", "in w0 b0", "x"),
        node("Gemm", "x w1 b1", "dead"),
        node("Add", "dead x", "s"),
        node("Concat", "dead s", "c", axis=1),
        node("MatMul", "c w2", "p"),
        node("Relu", "p", "r"),
        node("MatMul", "r w3", "out"),
    ]
    result = proven(roomy(nodes, {"in": ("N", 3)}, {"out": ("N", 2)}, held))
    names = [one.name for one in result.model.graph.node if one.name]
    assert len(names) == len(set(names))
