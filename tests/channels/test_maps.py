"""Constants that differ from place to place: what is known of them is what ONNX Runtime computes."""

import numpy as np
import pytest
from onnx import helper
from strategies import make_model

from compress.channels.trace import trace
from compress.onnx_io.graph import channel_graph
from compress.onnx_io.session import session

SIDE = 5


def known(operator, constants=(), *, channels=3, opset=18, inputs="x", side=SIDE, **attributes):
    """Returns what is known of an operator on an image of which channel 0 varies, and what the runtime makes of it."""
    random = np.random.default_rng(0)
    image = random.standard_normal((1, channels - 1, side, side)).astype(np.float32)
    constants = {name: np.asarray(value) for name, value in dict(constants).items()}
    nodes = [
        helper.make_node("Concat", ["in", "image"], ["x"], axis=1),
        helper.make_node(operator, inputs.split(" "), ["out"], **attributes),
    ]
    model = make_model(nodes, {"in": (1, 1, side, side)}, {"out": None}, {"image": image, **constants}, opset=opset)
    found = trace(channel_graph(model))
    feeds = {"in": random.standard_normal((1, 1, side, side)).astype(np.float32)}
    expected = session(model.SerializeToString()).run(None, feeds)[0]
    return np.broadcast_to(found.values["out"], expected.shape), expected


def agree(found, expected, *, varying=1):
    """Tells whether all channels but the first are known, and all that is known is as the runtime has it."""
    unknown = np.isnan(found)
    assert unknown[:, :varying].reshape(varying, -1).any(axis=1).all()
    assert not unknown[:, varying:].any()
    np.testing.assert_allclose(found[~unknown], expected[~unknown], rtol=1e-5, atol=1e-5)


def weight(*shape):
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"pads": [1, 1, 1, 1]},
        {"pads": [0, 2, 1, 0], "strides": [2, 1]},
        {"pads": [2, 2, 2, 2], "dilations": [2, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 3]},
        {"auto_pad": "VALID", "strides": [2, 2]},
    ],
)
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("kernel", [(3, 3), (2, 3)])
def test_convolutions(attributes, grouped, kernel):
    w = weight(6, 1 if grouped else 3, *kernel)
    if not grouped:
        w[:2, 1:], w[2:, 0] = 0, 0
    groups = {"group": 3} if grouped else {}
    found, expected = known("Conv", {"w": w, "b": weight(6)}, inputs="x w b", **attributes, **groups)
    agree(found, expected, varying=2)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"strides": [2, 2]},
        {"strides": [2, 3], "pads": [1, 0, 0, 1], "output_padding": [1, 0]},
        {"strides": [2, 2], "dilations": [2, 1], "pads": [1, 1, 1, 1]},
    ],
)
@pytest.mark.parametrize("grouped", [False, True])
def test_transposed_convolutions(attributes, grouped):
    w = weight(3, 2 if grouped else 6, 3, 2)
    if not grouped:
        w[0, 2:], w[1:, :2] = 0, 0
    groups = {"group": 3} if grouped else {}
    found, expected = known("ConvTranspose", {"w": w, "b": weight(6)}, inputs="x w b", **attributes, **groups)
    agree(found, expected, varying=2)


@pytest.mark.parametrize("attributes", [{"auto_pad": "SAME_UPPER", "strides": [2, 2]}, {"output_shape": [7, 7]}])
def test_what_runtimes_pad_differently_is_not_known(attributes):
    w = weight(3, 3, 3, 3)
    w[0, 1:], w[1:, 0] = 0, 0
    with pytest.raises(KeyError):
        known("ConvTranspose", {"w": w}, inputs="x w", **attributes)


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [2, 2]},
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]},
        {"kernel_shape": [3, 2], "pads": [1, 0, 0, 1], "strides": [2, 1]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
        {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER"},
    ],
)
def test_pools(operator, attributes):
    agree(*known(operator, **attributes))
    if operator == "AveragePool" and "ceil_mode" not in attributes:
        agree(*known(operator, **attributes, count_include_pad=1))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("places", ["asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners"])
@pytest.mark.parametrize("scales", [(2, 2), (1.5, 3), (0.5, 1)])
def test_resizing(mode, places, scales):
    constants = {"scales": np.float32([1, 1, *scales])}
    attributes = {"mode": mode, "coordinate_transformation_mode": places}
    if mode == "nearest":
        for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
            agree(*known("Resize", constants, inputs="x  scales", side=4, nearest_mode=rounding, **attributes))
    else:
        agree(*known("Resize", constants, inputs="x  scales", side=4, **attributes))
    sizes = {"sizes": np.int64([1, 3, 7, 3])}
    agree(*known("Resize", sizes, inputs="x   sizes", **attributes))


@pytest.mark.parametrize("operator", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pools(operator):
    agree(*known(operator))


@pytest.mark.parametrize("name", ["Mean", "Max", "Min", "Sum", "L1", "L2", "SumSquare", "Prod", "LogSumExp"])
@pytest.mark.parametrize("axes", [(2, 3), (3,)])
def test_reductions(name, axes):
    agree(*known(f"Reduce{name}", {"axes": np.int64(axes)}, inputs="x axes"))


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_padding(mode):
    pads = {"pads": np.int64([0, 0, 1, 2, 0, 0, 0, 1])}
    agree(*known("Pad", pads, inputs="x pads", mode=mode))


def test_slices_and_repetitions():
    bounds = {"starts": [1, 0], "ends": [4, -1], "axes": [2, 3], "steps": [1, 2]}
    bounds = {name: np.int64(values) for name, values in bounds.items()}
    agree(*known("Slice", bounds, inputs="x starts ends axes steps"))
    agree(*known("Tile", {"repeats": np.int64([1, 1, 2, 3])}, inputs="x repeats"))


def test_padding_shows_a_constant_that_is_the_same_everywhere():
    nodes = [
        helper.make_node("Conv", ["in", "w", "b"], ["x"]),
        helper.make_node("Pad", ["x", "pads"], ["padded"]),
        helper.make_node("Conv", ["padded", "v"], ["out"]),
    ]
    w, v = np.zeros((2, 1, 1, 1), np.float32), weight(1, 2, 3, 3)
    constants = {"w": w, "b": np.float32([2, 3]), "v": v, "pads": np.int64([0, 0, 1, 1, 0, 0, 1, 1])}
    model = make_model(nodes, {"in": (1, 1, 4, 4)}, {"out": None}, constants, opset=18)
    found = trace(channel_graph(model)).values["out"]
    expected = session(model.SerializeToString()).run(None, {"in": np.zeros((1, 1, 4, 4), np.float32)})[0]
    np.testing.assert_allclose(np.broadcast_to(found, expected.shape), expected, rtol=1e-5)
    assert np.ptp(expected) > 0.1
