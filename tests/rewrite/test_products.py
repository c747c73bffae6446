"""Products of two tensors that both depend on the input, as attention has them: what is known and needed of them."""

import numpy as np
import pytest
from onnx import helper
from strategies import make_model

from compress.channels.trace import trace
from compress.onnx_io.graph import channel_graph
from compress.rewrite import rewrite

F = np.float32
TOKENS, INNER, COLUMNS = 3, 4, 5


def node(operator, inputs, output, **attributes):
    return helper.make_node(operator, inputs.split(), [output], **attributes)


def product(first, second):
    """(x · first) · (y · second)."""
    nodes = [
        node("MatMul", "x first", "a"),
        node("MatMul", "y second", "b"),
        node("MatMul", "a b", "p"),
        node("Relu", "p", "out"),
    ]
    inputs = {"x": (2, TOKENS, 2), "y": (2, INNER, 2)}
    constants = {"first": first.astype(F), "second": second.astype(F)}
    return trace(channel_graph(make_model(nodes, inputs, {"out": (2, TOKENS, COLUMNS)}, constants)))


def test_a_zero_column_of_the_second_operand_is_one_of_the_product():
    random = np.random.default_rng(0)
    second = random.standard_normal((2, COLUMNS))
    second[:, [1, 3]] = 0
    found = product(random.standard_normal((2, INNER)), second)
    value = np.broadcast_to(found.values["p"], found.graph.shapes["p"])
    assert (value[..., [1, 3]] == 0).all()
    assert np.isnan(value[..., [0, 2, 4]]).all()
    needed = np.broadcast_to(found.demand("b"), found.graph.shapes["b"])
    assert needed[..., [0, 2, 4]].all()
    assert not needed[..., [1, 3]].any()


def test_a_contracted_position_that_is_zero_in_one_operand_is_idle_in_the_other():
    random = np.random.default_rng(1)
    first = random.standard_normal((2, INNER))
    first[:, 2] = 0
    found = product(first, random.standard_normal((2, COLUMNS)))
    needed = np.broadcast_to(found.demand("b"), found.graph.shapes["b"])
    assert not needed[:, 2].any()
    assert needed[:, [0, 1, 3]].all()
    assert "p" not in found.values


def attention(*, tokens=6, keep=(), weight="softmax"):
    """out = softmax(q kᵀ) v · w, half of the dimensions of q, k and v constant but for those that `keep` names."""
    random = np.random.default_rng(2)
    constants, nodes = {}, []
    for name in "qkv":
        matrix, bias = random.standard_normal((40, 8)) / 100, random.standard_normal(8)
        matrix[:, [d for d in (1, 3, 4, 6) if f"{name}{d}" not in keep]] = 0
        constants |= {f"w{name}": matrix.astype(F), f"b{name}": bias.astype(F)}
        nodes += [node("MatMul", f"x w{name}", f"m{name}"), node("Add", f"m{name} b{name}", name)]
    constants["w"] = random.standard_normal((8, 16)).astype(F)
    weighing = {"softmax": "Softmax", "sigmoid": "Sigmoid"}[weight]
    nodes += [node("Transpose", "k", "t", perm=[0, 2, 1]), node("MatMul", "q t", "logits")]
    nodes += [
        node(weighing, "logits", "weights"),
        node("MatMul", "weights v", "mixed"),
        node("MatMul", "mixed w", "out"),
    ]
    return make_model(nodes, {"x": ("N", tokens, 40)}, {"out": ("N", tokens, 16)}, constants)


def widths(model):
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    return shapes["wq"][1], shapes["wk"][1], shapes["wv"][1]


@pytest.mark.parametrize("tokens", [6, "T"])
def test_constant_dimensions_of_attention_go(tokens):
    result = rewrite(attention(tokens=tokens))
    assert result.proven
    assert widths(result.model) == (4, 4, 4)


def test_a_constant_that_meets_what_varies_stays():
    result = rewrite(attention(keep=("q1", "k3")))
    assert result.proven
    assert widths(result.model) == (6, 6, 4)


def test_weights_that_do_not_sum_to_one_do_not_average():
    result = rewrite(attention(weight="sigmoid"))
    assert result.proven
    # The four constants become multiples of one sum of weights, so one of them stands for all.
    assert widths(result.model) == (4, 4, 5)
