"""Where a tensor would lose all of its channels, the one that stays leaves the fewest numbers behind it."""

import numpy as np
from onnx import helper
from strategies import make_model

from compress.onnx_io.session import session
from compress.rewrite import rewrite


def node(operator, inputs, outputs, **attributes):
    return helper.make_node(operator, inputs.split(" "), outputs.split(" "), **attributes)


def shapes(nodes, constants, shape):
    """Rewrites and returns the shapes of what remains of the constants."""
    random = np.random.default_rng(0)
    constants = {
        name: random.uniform(0.3, 1, value).astype(np.float32) if isinstance(value, tuple) else np.asarray(value)
        for name, value in constants.items()
    }
    model = make_model(nodes, {"input": ("N", *shape)}, {"out": ("N", *[None] * len(shape))}, constants)
    model.graph.doc_string = " " * 4000  # room for what a rewrite adds to a file of a kilobyte
    result = rewrite(model)
    assert result.proven, result.notes
    feeds = {"input": random.standard_normal((2, *shape)).astype(np.float32)}
    before, after = (session(m.SerializeToString()).run(None, feeds)[0] for m in (model, result.model))
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)
    return {tensor.name: tuple(tensor.dims) for tensor in result.model.graph.initializer}


def test_one_that_the_next_layer_does_not_read():
    """Each half of four dead channels keeps one. The first of all is cut off later: with it the reader is narrower."""
    nodes = [
        node("Gemm", "input w b", "x", transB=1),
        node("Split", "x sizes", "first second", axis=1),
        node("Relu", "first", "r"),
        node("Concat", "r second", "c", axis=1),
        node("Slice", "c from to axes", "s"),
        node("Gemm", "s v", "out", transB=1),
    ]
    sizes = {"sizes": np.int64([2, 2]), "from": np.int64([1]), "to": np.int64([4]), "axes": np.int64([1])}
    found = shapes(nodes, {"w": np.zeros((4, 3), np.float32), "b": (4,), "v": (2, 3), **sizes}, (3,))
    assert found["w"] == (2, 3)
    assert found["v"] == (2, 1)


def test_those_of_two_tensors_that_are_of_one_group():
    """Three channels make two each; both halves of these keep one: two that the middle channel makes."""
    nodes = [
        node("Conv", "input w b", "x"),
        node("Conv", "x u", "y", group=3),
        node("Split", "y sizes", "first second", axis=1),
        node("Relu", "first", "r"),
        node("Concat", "second r", "c", axis=1),
        node("Conv", "c v", "out"),
    ]
    weights = {"w": np.zeros((3, 2, 1, 1), np.float32), "b": (3,), "u": (6, 1, 1, 1), "v": (2, 6, 1, 1)}
    found = shapes(nodes, weights | {"sizes": np.int64([3, 3])}, (2, 4, 4))
    assert found["w"] == (1, 2, 1, 1)
    assert found["u"] == (2, 1, 1, 1)


def test_those_that_whole_slices_allow():
    """Of a grid of 2 × 5, joined from eight channels in groups and two others, a row or a column stays."""
    nodes = [
        node("Conv", "input w", "x"),
        node("Conv", "x u b", "y", group=4),
        node("Conv", "y t", "z"),
        node("Concat", "y z", "c", axis=1),
        node("Reshape", "c apart", "grid"),
        node("Transpose", "grid", "turned", perm=[0, 2, 1, 3, 4]),
        node("Reshape", "turned together", "s"),
        node("Conv", "s v", "out"),
    ]
    weights = {
        "w": (4, 2, 1, 1),
        "u": np.zeros((8, 1, 1, 1), np.float32),
        "b": (8,),
        "t": (2, 8, 1, 1),
        "v": (2, 10, 1, 1),
    }
    sizes = {"apart": np.int64([0, 2, 5, 4, 4]), "together": np.int64([0, 10, 4, 4])}
    found = shapes(nodes, weights | sizes, (2, 4, 4))
    assert found["w"] == (1, 2, 1, 1)
    assert found["v"] == (2, 2, 1, 1)


def test_a_carrier_that_the_halves_of_a_tensor_need_anyway():
    """Two constants could be borne by either; one of them is all that its half of the tensor has left."""
    random = np.random.default_rng(1)
    w = random.uniform(0.3, 1, (4, 1, 1, 1)).astype(np.float32)
    w[[0, 2, 3]] = 0
    nodes = [
        node("Conv", "input first", "x"),
        node("Conv", "x w b", "y", group=2),
        node("Split", "y sizes", "one two", axis=1),
        node("Sigmoid", "one", "r"),
        node("Concat", "two r", "c", axis=1),
        node("Conv", "c v", "out", pads=[1] * 4),
    ]
    v = random.uniform(0.3, 1, (3, 4, 3, 3)).astype(np.float32)
    v[:, [0, 2]] = 0
    constants = {"first": (2, 3, 1, 1), "w": w, "b": np.float32([0, 0.2, 0, 0.5]), "v": v, "sizes": np.int64([2, 2])}
    found = shapes(nodes, constants, (3, 4, 4))
    assert found["w"][0] == 2
    assert found["v"] == (3, 2, 3, 3)
