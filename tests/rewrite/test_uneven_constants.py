"""Channels whose constant value differs from place to place, as padding makes it: they go where nobody sees that."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from strategies import make_model

from compress.onnx_io.session import session
from compress.rewrite import rewrite

SIDE = 4
VARIES, CONSTANT = 0, 1  # of the first layer's channels


def node(operator, inputs, outputs, **attributes):
    return helper.make_node(operator, inputs.split(" "), outputs.split(" "), **attributes)


class Net:
    """A network whose first layer has a channel that varies and a constant one, and whose second one pads both."""

    def __init__(self, seed=0):
        self.random = np.random.default_rng(seed)
        self.nodes, self.constants = [], {}

    def weight(self, name, *shape):
        self.constants[name] = self.random.uniform(0.3, 1, shape).astype(np.float32)
        return self.constants[name]

    def add(self, *args, **attributes):
        self.nodes.append(node(*args, **attributes))
        return self

    def begin(self):
        """input → first (2 channels, one of them constant) → x."""
        self.weight("first", 2, 3, 1, 1)[CONSTANT] = 0
        self.constants["b"] = np.float32([0.25, 1.5])
        return self.add("Conv", "input first b", "x")

    def depthwise(self, source="x", result="y"):
        """Pads: the constant is uneven behind it."""
        self.weight("depth", 2, 1, 3, 3)
        return self.add("Conv", f"{source} depth", result, group=2, pads=[1] * 4)

    def rewritten(self, output="out", shape=("N", None)):
        model = make_model(self.nodes, {"input": ("N", 3, SIDE, SIDE)}, {output: shape}, self.constants, opset=18)
        # Room for what a rewrite adds to a file of a kilobyte.
        model.graph.doc_string = " " * 4000
        result = rewrite(model)
        assert result.proven, result.notes
        assert not [note for note in result.notes if "left out" in note or "kept" in note]
        images = np.random.default_rng(9).standard_normal((3, 3, SIDE, SIDE)).astype(np.float32)
        before, after = (session(m.SerializeToString()).run(None, {"input": images})[0] for m in (model, result.model))
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)
        again = rewrite(result.model)
        assert again.params_after == result.params_after
        return {t.name: tuple(t.dims) for t in result.model.graph.initializer}, result

    def head(self, source, channels, output="out"):
        """Mean over space, then a matrix product."""
        self.weight("head", channels, 2)
        self.add("GlobalAveragePool", source, "pooled").add("Flatten", "pooled", "flat")
        return self.add("MatMul", "flat head", output)


def test_a_mean_over_space_makes_it_even():
    shapes, _ = Net().begin().depthwise().add("Relu", "y", "r").head("r", 2).rewritten()
    assert shapes["first"] == (1, 3, 1, 1)
    assert shapes["head"] == (1, 2)


@pytest.mark.parametrize("pool", ["MaxPool", "AveragePool"])
def test_pools_pass_it_on(pool):
    net = Net().begin().depthwise().add(pool, "y", "p", kernel_shape=[2, 2], strides=[2, 2])
    shapes, _ = net.add("Sigmoid", "p", "r").head("r", 2).rewritten()
    assert shapes["first"] == (1, 3, 1, 1)


def test_a_matrix_product_reads_each_place_by_itself():
    net = Net().begin().depthwise().add("Tanh", "y", "t").add("Flatten", "t", "f")
    net.weight("head", 2 * SIDE**2, 2)
    shapes, _ = net.add("MatMul", "f head", "out").rewritten()
    assert shapes["first"] == (1, 3, 1, 1)
    assert shapes["head"] == (SIDE**2, 2)


def test_the_inside_of_it_is_even():
    net = Net().begin().depthwise().add("Slice", "y from to axes", "inside")
    net.constants |= {"from": np.int64([1, 1]), "to": np.int64([3, 3]), "axes": np.int64([2, 3])}
    net.weight("v", 2, 2, 1, 1)
    shapes, _ = net.add("Conv", "inside v", "out").rewritten(shape=("N", None, None, None))
    assert shapes["first"] == (1, 3, 1, 1)
    assert shapes["v"] == (2, 1, 1, 1)


def test_one_position_is_even():
    net = Net().begin().depthwise()
    net.weight("v", 2, 2, SIDE, SIDE)
    shapes, _ = net.add("Conv", "y v", "out").rewritten(shape=("N", None, None, None))
    assert shapes["first"] == (1, 3, 1, 1)
    assert shapes["v"] == (2, 1, SIDE, SIDE)


def test_taps_that_never_leave_the_input_show_nothing():
    net = Net().begin()
    w = net.weight("v", 2, 2, 3, 3)
    w[:, CONSTANT, [0, 2]] = w[:, CONSTANT, :, [0, 2]] = 0
    shapes, _ = net.add("Conv", "x v", "out", pads=[1] * 4).rewritten(shape=("N", None, None, None))
    assert shapes["first"] == (1, 3, 1, 1)


def test_where_a_padded_convolution_reads_it_place_by_place_it_stays():
    net = Net().begin().depthwise()
    net.weight("v", 2, 2, 3, 3)
    shapes, _ = net.add("Conv", "y v", "out", pads=[1] * 4).rewritten(shape=("N", None, None, None))
    assert shapes["first"] == (2, 3, 1, 1)


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.INT32, TensorProto.FLOAT16])
def test_what_is_asked_of_integers_is_asked_of_what_they_are_made_of(kind):
    """A layer that pads is all constant, and what it makes is rounded before it meets what varies."""
    net = Net().begin().depthwise()
    net.constants["first"][:] = 0
    net.weight("mix", 2, 2, 1, 1)
    net.constants["mix"] *= 10
    net.weight("other", 2, 3, 1, 1)
    net.add("Conv", "y mix", "m").add("Cast", "m", "levels", to=kind).add("Cast", "levels", "q", to=TensorProto.FLOAT)
    net.add("Conv", "input other", "o").add("Add", "q o", "s").add("Relu", "s", "r")
    net.weight("v", 2, 2, 3, 3)
    shapes, _ = net.add("Conv", "r v", "out", pads=[1] * 4).rewritten(shape=("N", None, None, None))
    assert shapes["mix"] == (2, 2, 1, 1)


def test_a_transposed_convolution_makes_a_pattern_of_it():
    net = Net().begin()
    net.weight("up", 2, 2, 2, 2)[VARIES, 1] = 0
    net.constants["up"][CONSTANT, 0] = 0
    net.add("ConvTranspose", "x up", "y", strides=[2, 2]).add("Relu", "y", "r")
    shapes, _ = net.head("r", 2).rewritten()
    assert shapes["first"] == (1, 3, 1, 1)
    assert shapes["head"] == (1, 2)


@pytest.mark.parametrize("between", [None, "BatchNormalization", "Add", "Conv"])
def test_of_what_varies_only_the_mean_is_read(between):
    """Both channels are read together, so the result varies; but nothing behind tells its places apart."""
    net = Net().begin()
    net.weight("v", 2, 2, 3, 3)
    net.add("Conv", "x v", "y", pads=[1] * 4)
    if between == "BatchNormalization":
        for name in "smtu":
            net.weight(name, 2)
        net.add(between, "y s m t u", "z")
    elif between == "Add":
        net.weight("other", 2, 3, 1, 1)
        net.add("Conv", "input other", "o").add("Add", "y o", "z")
    elif between == "Conv":
        net.weight("other", 2, 2, 1, 1)
        net.add("Conv", "y other", "z")
    shapes, _ = net.head("z" if between else "y", 2).rewritten()
    assert shapes["first"] == (1, 3, 1, 1)


@pytest.mark.parametrize("between", ["Relu", "MaxPool", "Conv"])
def test_where_places_are_told_apart_before_the_mean_it_stays(between):
    net = Net().begin()
    net.weight("v", 2, 2, 3, 3)
    net.add("Conv", "x v", "y", pads=[1] * 4)
    if between == "Conv":
        net.weight("other", 2, 2, 3, 3)
        net.add("Conv", "y other", "z", pads=[1] * 4)
    else:
        net.add(between, "y", "z", **({"kernel_shape": [2, 2]} if between == "MaxPool" else {}))
    shapes, _ = net.head("z", 2).rewritten()
    assert shapes["first"] == (2, 3, 1, 1)


@pytest.mark.parametrize("together", [True, False])
def test_attention_of_equal_shares_reads_the_mean(together):
    net = Net().begin()
    if together:
        net.weight("w", 2, 2, 3, 3)
        net.add("Conv", "x w", "y", pads=[1] * 4)
    else:
        net.depthwise()
    net.add("Reshape", "y tokens", "t").add("Transpose", "t", "s", perm=[0, 2, 1])
    net.constants["tokens"] = np.int64([0, 2, SIDE**2])
    for name in "qkv":
        net.weight(name, 2, 2)
        net.add("MatMul", f"s {name}", f"s{name}")
    net.constants["q"][:, 0] = net.constants["k"][:, 1] = 0
    net.add("Transpose", "sk", "kt", perm=[0, 2, 1]).add("MatMul", "sq kt", "scores").add("Softmax", "scores", "shares")
    net.add("MatMul", "shares sv", "mixed")
    net.weight("last", 2, 2)
    shapes, _ = net.add("MatMul", "mixed last", "out").rewritten(shape=("N", None, None))
    assert shapes["first"] == (1, 3, 1, 1)


@pytest.mark.parametrize("head", [0.0, 1.0])
def test_products_of_maps_are_not_stored(head):
    """Queries and keys are constant and differ from token to token; their products are as many as pairs of tokens."""
    net = Net().begin().depthwise()
    net.constants["first"][:] = 0
    net.add("Reshape", "y tokens", "t").add("Transpose", "t", "s", perm=[0, 2, 1])
    net.constants["tokens"] = np.int64([0, 2, SIDE**2])
    for name in "qkv":
        net.weight(name, 2, 2)
        net.add("MatMul", f"s {name}", f"s{name}")
    net.add("Transpose", "sk", "kt", perm=[0, 2, 1]).add("MatMul", "sq kt", "scores").add("Softmax", "scores", "shares")
    net.add("MatMul", "shares sv", "mixed")
    net.weight("last", 2, 2)[:] *= head
    _, result = net.add("MatMul", "mixed last", "out").rewritten(shape=("N", None, None))
    assert result.params_after <= result.params_before - (head == 0)


def test_a_channel_that_stays_while_nothing_makes_it_is_not_read():
    """All channels are dead, one of each tensor stays: with the map it no longer holds, it must not be read."""
    net = Net().begin().depthwise()
    net.constants["first"][:] = 0
    shapes, result = net.head("y", 2).rewritten()
    assert shapes["first"] == (1, 3, 1, 1)
    assert result.params_after < 20


def test_a_weight_that_is_read_twice_is_not_changed():
    net = Net().begin().depthwise()
    net.weight("v", 2, 2, 3, 3)
    net.constants["first"][:] = 0
    net.add("Conv", "y v", "z", pads=[1] * 4).add("Relu", "z", "r").add("Conv", "r v", "u", pads=[1] * 4)
    _, result = net.head("u", 2).rewritten()
    assert result.params_after <= result.params_before


def test_a_constant_that_bears_others_must_come_out_right():
    """The carrier of the last convolution is uneven before the pool, and has to be made."""
    net = Net().begin().depthwise().add("GlobalAveragePool", "y", "g").add("Mul", "x g", "m")
    net.weight("v", 3, 2, 3, 3)
    net.add("Conv", "m v", "out", pads=[1] * 4).rewritten(shape=("N", None, None, None))


def test_no_map_is_stored_where_what_makes_it_is_smaller():
    net = Net().begin()
    net.weight("other", 2, 3, 1, 1)[:] = 0
    net.constants["ob"] = np.float32([0.7, 0.4])
    net.add("Conv", "input other ob", "o").depthwise("o", "y").add("Add", "y x", "sum").add("Relu", "sum", "r")
    net.weight("v", 2, 2, 3, 3)
    shapes, _ = net.add("Conv", "r v", "out", pads=[1] * 4).rewritten(shape=("N", None, None, None))
    assert max(int(np.prod(shape)) for shape in shapes.values()) <= 2 * 2 * 9
