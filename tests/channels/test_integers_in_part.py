"""Integers of which only some are known: what is claimed of them is what the runtime computes."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from strategies import make_model

from compress.channels.trace import trace
from compress.onnx_io.graph import channel_graph
from compress.onnx_io.session import session
from compress.rewrite import rewrite

F = np.float32
CHANNELS = 6
KINDS = {TensorProto.INT64: np.int64, TensorProto.INT32: np.int32}


def node(operator, inputs, outputs, **attributes):
    return helper.make_node(operator, inputs.split(" "), outputs.split(" "), **attributes)


def partly(nodes, constants, *, to=TensorProto.INT64, scale=50.0):
    """Returns a model of `nodes` around k: integers of channels 1 and 4 are 0 and −7, those of the others vary."""
    held = {"gain": np.full((1, CHANNELS, 1, 1), scale, F), "shift": np.zeros((1, CHANNELS, 1, 1), F)}
    held["gain"][0, [1, 4]], held["shift"][0, 4] = 0, -7
    start = [node("Mul", "x gain", "m"), node("Add", "m shift", "n"), node("Cast", "n", "k", to=to)]
    ends = [node("Cast", nodes[-1].output[0] if nodes else "k", "y", to=TensorProto.FLOAT)]
    return make_model([*start, *nodes, *ends], {"x": (1, CHANNELS, 2, 2)}, {"y": None}, held | constants)


def claimed(model):
    """Returns the values that are claimed, after comparing each with what the runtime computes on two inputs."""
    known = trace(channel_graph(model))
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    names = [name for n in model.graph.node for name in n.output if name in known.values]
    del probe.graph.output[:]
    probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    running = session(probe.SerializeToString())
    for seed in (0, 1):
        x = np.random.default_rng(seed).standard_normal((1, CHANNELS, 2, 2)).astype(F)
        for name, found in zip(names, running.run(None, {"x": x}), strict=True):
            value = np.broadcast_to(known.values[name], found.shape)
            sure = ~np.isnan(value) if value.dtype.kind == "f" else np.ones(value.shape, bool)
            assert np.array_equal(found[sure], value[sure]), (name, value, found)
            assert value.dtype.kind == "f" or value.dtype == found.dtype
    return known.values


def channels(values, name):
    return [None if np.isnan(v) else v for v in np.broadcast_to(values[name], (1, CHANNELS, 1, 1)).reshape(-1)]


@pytest.mark.parametrize("to", list(KINDS))
def test_arithmetic_of_known_channels_is_that_of_integers(to):
    held = {"three": KINDS[to](3), "two": KINDS[to](2)}
    model = partly([node("Mul", "k three", "a"), node("Div", "a two", "b"), node("Sub", "b three", "c")], held, to=to)
    # −7 · 3 / 2 goes towards zero.
    assert channels(claimed(model), "c") == [None, -3, None, None, -13, None]


def test_a_product_with_zero_is_known_whatever_the_other_factor_is():
    mask = np.array([0, 1, 1, 0, 1, 1]).reshape(1, CHANNELS, 1, 1)
    values = claimed(partly([node("Mul", "k mask", "a")], {"mask": mask}))
    assert channels(values, "a") == [0, 0, None, 0, -7, None]


def test_truth_values_of_known_channels_choose():
    held = {"limit": np.int64(-3), "low": np.int64(5)}
    nodes = [node("Less", "k limit", "c"), node("Not", "c", "d"), node("Where", "c low k", "a")]
    values = claimed(partly(nodes, held))
    assert channels(values, "d") == [None, 1, None, None, 0, None]
    assert channels(values, "a") == [None, 0, None, None, 5, None]


def test_what_is_moved_and_joined_keeps_what_is_known_and_its_type():
    held = {"more": np.arange(2).reshape(1, 2, 1, 1), "shape": np.array([1, 8, 4]), "index": np.array([1, 4, 6])}
    more = node("Expand", "more size", "wide")
    nodes = [
        more,
        node("Concat", "k wide", "a", axis=1),
        node("Reshape", "a shape", "b"),
        node("Gather", "b index", "c", axis=1),
    ]
    values = claimed(partly(nodes, held | {"size": np.array([1, 2, 2, 2])}))
    assert values["c"].reshape(-1).tolist() == [0, -7, 0]
    assert values["c"].dtype == np.int64


def test_what_wraps_or_does_not_fit_a_double_is_not_claimed():
    held = {"large": np.int64(2**62), "one": np.int64(1)}
    values = claimed(partly([node("Mul", "k large", "a"), node("Add", "a one", "b"), node("Sub", "a k", "c")], held))
    assert channels(values, "b") == [None, 1, None, None, None, None]


def test_a_mean_of_integers_is_cut_off():
    nodes = [node("ReduceMean", "k", "a", axes=[2, 3])]
    assert channels(claimed(partly(nodes, {}, to=TensorProto.INT32)), "a") == [None, 0, None, None, -7, None]


@pytest.mark.parametrize("to", list(KINDS))
def test_an_integer_product_with_what_varies_is_not_known(to):
    weight = np.ones((CHANNELS, 3), KINDS[to])
    weight[[0, 2, 3, 5], 1] = 0
    nodes = [node("Transpose", "k", "t", perm=[0, 2, 3, 1]), node("MatMul", "t w", "a")]
    found = claimed(partly(nodes, {"w": weight}, to=to))["a"].reshape(-1)
    assert np.array_equal(found, [np.nan, -7, np.nan], equal_nan=True)


@pytest.mark.parametrize("seed", range(60))
def test_claims_hold_through_chains(seed):
    """Any chain of integer operators; divisors and shifts are other than zero."""
    generator = np.random.default_rng(seed)
    to = generator.choice(list(KINDS))
    kind, nodes, held, last = KINDS[to], [], {}, "k"
    for index in range(6):
        operator = generator.choice(["Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "Where", "Neg", "Abs", "Cast"])
        size = [1, CHANNELS, 1, 1] if generator.random() < 0.6 else [1]
        values = generator.integers(-4, 5, size)
        held[f"c{index}"] = (np.where(values == 0, 3, values) if operator in ("Div", "Mod") else values).astype(kind)
        result = f"r{index}"
        if operator == "Where":
            nodes += [node(str(generator.choice(["Greater", "Less", "Equal"])), f"{last} c{index}", f"b{index}")]
            nodes += [node("Where", f"b{index} {last if generator.random() < 0.5 else 'k'} c{index}", result)]
        elif operator == "Cast":
            nodes += [node("Cast", last, f"b{index}", to=int(generator.choice([TensorProto.FLOAT, TensorProto.INT32])))]
            nodes += [node("Cast", f"b{index}", result, to=to)]
        elif operator in ("Neg", "Abs"):
            nodes += [node(operator, last, result)]
        else:
            nodes += [node(operator, f"{last} {f'c{index}' if generator.random() < 0.8 else 'k'}", result)]
            if operator in ("Div", "Mod"):
                nodes[-1].input[1] = f"c{index}"
        last = result
    claimed(partly(nodes, held, to=int(to), scale=5.0))


def test_dead_channels_go_through_integer_arithmetic_that_stands_between_layers():
    """Conv → scale in integers, as quantizers that write plain arithmetic do → depthwise Conv → the same → Conv."""
    generator = np.random.default_rng(0)
    dead = np.array([0, 3, 4, 7])
    held = {"times": np.array([35]), "over": np.array([64])}
    nodes, last = [], "x"
    for index, shape in enumerate([(8, 3, 3, 3), (8, 1, 3, 3), (40, 8, 1, 1)]):
        held[f"w{index}"] = generator.integers(-9, 10, shape).astype(F)
        held[f"k{index}"] = generator.integers(1, 9, (1, shape[0], 1, 1)).astype(F)
        held[f"b{index}"] = generator.integers(-50, 50, (1, shape[0], 1, 1)).astype(F)
        if index < 2:
            held[f"w{index}"][dead] = 0
            held[f"b{index}"][:, dead] = 0
        attributes = {"group": 8} if index == 1 else {}
        nodes += [
            node("Conv", f"{last} w{index}", f"c{index}", pads=[shape[2] // 2] * 4, **attributes),
            node("Mul", f"k{index} c{index}", f"s{index}"),
            node("Add", f"s{index} b{index}", f"a{index}"),
            node("Cast", f"a{index}", f"i{index}", to=TensorProto.INT64),
            node("Mul", f"i{index} times", f"m{index}"),
            node("Div", f"m{index} over", f"d{index}"),
            node("Cast", f"d{index}", f"f{index}", to=TensorProto.FLOAT),
        ]
        last = f"f{index}"
        if index < 2:
            nodes.append(node("Clip", f"{last} low high", f"y{index}"))
            last = f"y{index}"
    model = make_model(nodes, {"x": (1, 3, 8, 8)}, {last: (1, 40, 8, 8)}, held | {"low": F(0), "high": F(255)})
    result = rewrite(model)
    found = {tensor.name: tuple(tensor.dims) for tensor in result.model.graph.initializer}
    assert result.proven
    assert result.max_abs_diff == 0
    assert [found[f"w{index}"] for index in range(3)] == [(4, 3, 3, 3), (4, 1, 3, 3), (40, 4, 1, 1)]
