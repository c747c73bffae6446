"""What every operator rule must keep: claimed values are the runtime's, and outputs stay when channels go."""

import numpy as np
import onnx
import pytest
from fused_configurations import fused_configurations, integer_configurations
from hypothesis import given, settings
from onnx import TensorProto, helper, numpy_helper
from strategies import make_model, networks

from compress.channels.alike import ROUNDINGS, likeness
from compress.channels.glance import all_apart
from compress.channels.labels import Labels
from compress.channels.rules import rules
from compress.channels.trace import Trace, trace
from compress.onnx_io.graph import channel_graph
from compress.onnx_io.session import random_inputs, session
from compress.rewrite import rewrite

C, SIDE = 6, 4
UNARY = [
    "Asinh",
    "Atan",
    "Celu",
    "Shrink",
    "Abs",
    "Ceil",
    "Cos",
    "Elu",
    "Erf",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "Mish",
    "Neg",
    "Relu",
    "Round",
    "Selu",
    "Sigmoid",
    "Sign",
    "Sin",
    "Softplus",
    "Softsign",
    "Tanh",
    "ThresholdedRelu",
    "Dropout",
    "GlobalAveragePool",
    "GlobalMaxPool",
]
I64 = np.int64


def node(operator, inputs="x", outputs="y", **attributes):
    return helper.make_node(operator, inputs.split(" "), outputs.split(" "), **attributes)


def per_channel(generator, *shape):
    return generator.uniform(0.5, 1.5, shape or (C, 1, 1)).astype(np.float32)


def configurations(operator, g):
    """Returns nodes from x (N, C, 4, 4) to y, and their constants."""
    v, f = per_channel(g), np.float32
    if operator in UNARY:
        return [node(operator)], {}
    found = integer_configurations(operator, g) or fused_configurations(operator, g)
    if found is not None:
        return found
    compared = {"Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"}
    if operator in compared | {"And", "Or", "Not", "Where", "Xor"}:
        start = [node(operator if operator in compared else "Greater", "x t", "c")]
        if operator in ("And", "Or", "Xor"):
            start += [node("Less", "x v", "d"), node(operator, "c d", "e")]
        elif operator == "Not":
            start.append(node("Not", "c", "e"))
        last = start[-1].output[0]
        return [*start, node("Where", f"{last} v x")], {"t": f(0), "v": v}
    table = {
        **{name: ([node(name, "x v")], {"v": v}) for name in ("Add", "Sub", "Div", "Max", "Min", "Mean", "Sum")},
        "Mul": ([node("Mul", "x v")], {"v": v * (np.arange(C) % 3 > 0).reshape(C, 1, 1)}),
        "PRelu": ([node("PRelu", "x v")], {"v": v}),
        "Pow": ([node("Pow", "x two")], {"two": f(2)}),
        "Sqrt": ([node("Abs", "x", "a"), node("Sqrt", "a")], {}),
        "Exp": ([node("Tanh", "x", "a"), node("Exp", "a")], {}),
        "Log": ([node("Tanh", "x", "t"), node("Exp", "t", "a"), node("Log", "a")], {}),
        "Reciprocal": ([node("Tanh", "x", "t"), node("Exp", "t", "a"), node("Reciprocal", "a")], {}),
        "Mod": ([node("Mod", "x v", fmod=1)], {"v": v}),
        "Clip": ([node("Clip", "x  high")], {"high": f(0.3)}),
        "Cast": ([node("Cast", "x", "a", to=11), node("Cast", "a", to=1)], {}),
        "CastLike": ([node("CastLike", "x like")], {"like": f(0)}),
        "Conv": ([node("Conv", "x w b", group=2)], {"w": sparse(g, 4, 3, 1, 1), "b": sparse(g, 4)}),
        "MatMul": ([node("Transpose", "x", "a", perm=[0, 2, 3, 1]), node("MatMul", "a w", "d"),
                    node("Transpose", "d", perm=[0, 3, 1, 2])], {"w": sparse(g, C, 5)}),
        "Gemm": ([node("GlobalMaxPool", "x", "a"), node("Flatten", "a", "d"), node("Gemm", "d w b", "e", alpha=0.5,
                  beta=2.0), node("Unsqueeze", "e ax")],
                 {"w": sparse(g, C, 5), "b": sparse(g, 5), "ax": np.array([2, 3], I64)}),
        "BatchNormalization": ([node("BatchNormalization", "x s b m r")],
                               {"s": sparse(g, C), "b": sparse(g, C), "m": sparse(g, C), "r": v.reshape(-1)}),
        "InstanceNormalization": ([node("InstanceNormalization", "x s b")], {"s": sparse(g, C), "b": sparse(g, C)}),
        "LayerNormalization": ([node("LayerNormalization", "x s b")], {"s": v[:4, 0, 0], "b": v[:4, 0, 0]}),
        "RMSNormalization": ([node("RMSNormalization", "x s")], {"s": v[:4, 0, 0]}),
        "Softmax": ([node("Softmax", axis=2)], {}),
        "LogSoftmax": ([node("LogSoftmax", axis=1)], {}),
        "LpNormalization": ([node("Tanh", "x", "t"), node("Exp", "t", "a"), node("LpNormalization", "a", axis=1)], {}),
        "MaxPool": ([node("MaxPool", kernel_shape=[2, 2], pads=[1, 1, 0, 0])], {}),
        "AveragePool": ([node("AveragePool", kernel_shape=[2, 2], pads=[1, 1, 0, 0], count_include_pad=1)], {}),
        "Resize": ([node("Resize", "x   sizes", mode="linear")], {"sizes": np.array([2, C, 8, 8], I64)}),
        "Upsample": None,
        **{name: ([node("Tanh", "x", "a"), node(name, "a")], {}) for name in ("Acos", "Asin", "Cosh", "Sinh", "Tan")},
        "Atanh": ([node("Tanh", "x", "t"), node("Mul", "t half", "a"), node("Atanh", "a")], {"half": f(0.5)}),
        "Acosh": ([node("Tanh", "x", "t"), node("Cosh", "t", "a"), node("Acosh", "a")], {}),
        "Einsum": ([node("Einsum", "x w", "d", equation="bchw,oc->bohw"), node("Mul", "d v", "e"),
                    node("Einsum", "e d", "s", equation="bohw,bphw->boph"),
                    node("Slice", "s from to ax", "k"), node("Einsum", "k d", equation="boph,bpwx->bohx")],
                   {"w": sparse(g, 5, C), "v": (np.arange(5) % 2).astype(f).reshape(5, 1, 1),
                    "from": np.array([0], I64), "to": np.array([9], I64), "ax": np.array([3], I64)}),
        "SplitToSequence": ([node("SplitToSequence", "x s", "q", axis=1), node("SequenceAt", "q i", "a"),
                             node("SequenceAt", "q j", "b"), node("Relu", "b", "d"), node("Concat", "d a", axis=1)],
                            {"s": np.array([2, 4], I64), "i": np.array(0), "j": np.array(-1)}),
        "GatherElements": ([node("GatherElements", "x i", axis=1)], {"i": np.ones((2, 3, SIDE, SIDE), I64)}),
        "GatherND": ([node("GatherND", "x i", "a"), node("Reshape", "a s")],
                     {"i": np.array([[0, 1], [1, 4]], I64), "s": np.array([1, 2, SIDE, SIDE], I64)}),
        "ScatterND": ([node("ScatterND", "x i u")],
                      {"i": np.array([[0, 1], [1, 4]], I64), "u": np.ones((2, SIDE, SIDE), f)}),
        "ScatterElements": ([node("ScatterElements", "x i u", axis=1)],
                            {"i": np.ones((2, 1, SIDE, SIDE), I64), "u": np.ones((2, 1, SIDE, SIDE), f)}),
        "MaxUnpool": ([node("MaxPool", "x", "a i", kernel_shape=[2, 2], strides=[2, 2]),
                       node("MaxUnpool", "a i", kernel_shape=[2, 2], strides=[2, 2])], {}),
        "Compress": ([node("Compress", "x c", axis=2)], {"c": np.array([True, False, True, False])}),
        "NonZero": ([node("NonZero", "x", "n"), node("Cast", "n", "m", to=1), node("ReduceMax", "m", "a", keepdims=0),
                     node("Mul", "x a")], {}),
        "Unique": ([node("Unique", "x", "u"), node("ReduceMax", "u", "a", keepdims=0), node("Mul", "x a")], {}),
        "NonMaxSuppression": ([node("ReduceMax", "x", "r", axes=[1], keepdims=0), node("ReduceMax", "x", "p", axes=[3],
                               keepdims=0), node("NonMaxSuppression", "r p m", "i"), node("Shape", "i", "n"),
                               node("Cast", "n", "k", to=1), node("ReduceSum", "k", "a", keepdims=0),
                                   node("Mul", "x a")],
                              {"m": np.array([2], I64)}),
        "OneHot": ([node("ArgMax", "x", "a", axis=1, keepdims=0), node("OneHot", "a n v", axis=1)],
                   {"n": np.array(C), "v": np.array([0, 1], f)}),
        **{name: ([node(name, "x", "a", axis=2, keepdims=0), node("Cast", "a", "b", to=1), node("Unsqueeze", "b ax")],
                  {"ax": np.array([2], I64)}) for name in ("ArgMax", "ArgMin")},
        "TopK": ([node("TopK", "x k", "a i", axis=2), node("Cast", "i", "j", to=1), node("Add", "a j")],
                 {"k": np.array([2], I64)}),
        "CumSum": ([node("CumSum", "x ax")], {"ax": np.array(2)}),
        "Trilu": ([node("Trilu", "x k", upper=0)], {"k": np.array(0)}),
        "MeanVarianceNormalization": ([node("MeanVarianceNormalization")], {}),
        "GridSample": ([node("GridSample", "x grid")], {"grid": g.uniform(-1.5, 1.5, (2, 3, 3, 2)).astype(f)}),
        **{name: ([node(name, "x", kernel_shape=[2, 2], pads=[1, 1, 0, 0])], {}) for name in ("LpPool",)},
        "GlobalLpPool": ([node("GlobalLpPool")], {}),
        "RoiAlign": ([node("RoiAlign", "x r i", output_height=2, output_width=3)],
                     {"r": np.array([[0, 0, 3, 3], [1, 1, 2, 3], [0, 2, 2, 3]], f), "i": np.array([0, 1, 0], I64)}),
        "MaxRoiPool": ([node("MaxRoiPool", "x r", pooled_shape=[2, 2])],
                       {"r": np.array([[0, 0, 0, 3, 3], [1, 1, 1, 2, 3]], f)}),
        "ReduceLogSum": ([node("Tanh", "x", "t"), node("Exp", "t", "a"), node("ReduceLogSum", "a", axes=[3])], {}),
        "ReduceLogSumExp": ([node("ReduceLogSumExp", "x", axes=[3])], {}),
        "DFT": ([node("Unsqueeze", "x ax", "e"), node("DFT", "e", "d", axis=1), node("ReduceMax", "d",
            axes=[4], keepdims=0)],
                {"ax": np.array([4], I64)}),
        "STFT": ([node("Flatten", "x", "e"), node("STFT", "e n  l", "d", onesided=1), node("ReduceMax", "d",
            "m", keepdims=0),
                  node("Mul", "x m")], {"n": np.array(8), "l": np.array(16)}),
        "Transpose": ([node("Transpose", "x", "a", perm=[0, 2, 1, 3]), node("Transpose", "a", perm=[0, 2, 1, 3])], {}),
        "Flatten": ([node("Flatten", "x", "a"), node("Reshape", "a s")], {"s": np.array([0, C, SIDE, SIDE], I64)}),
        "Reshape": ([node("Reshape", "x s", "a"), node("Transpose", "a", "d", perm=[0, 2, 1, 3, 4]),
                     node("Reshape", "d t")],
                    {"s": np.array([0, 2, 3, SIDE, SIDE], I64), "t": np.array([-1, C, SIDE, SIDE], I64)}),
        "Squeeze": ([node("GlobalMaxPool", "x", "a"), node("Squeeze", "a ax", "d"), node("Unsqueeze", "d ax")],
                    {"ax": np.array([2, 3], I64)}),
        "DepthToSpace": ([node("SpaceToDepth", "x", "a", blocksize=2), node("DepthToSpace", "a", blocksize=2)], {}),
        "Concat": ([node("Concat", "x c x", axis=1)], {"c": np.zeros((2, 2, SIDE, SIDE), f)}),
        "Split": ([node("Split", "x s", "a b", axis=1), node("Relu", "b", "d"), node("Concat", "d a", axis=1)],
                  {"s": np.array([2, 4], I64)}),
        "Slice": ([node("Slice", "x s e ax")], {"s": np.array([1, 1], I64), "e": np.array([-1, 9], I64),
                                               "ax": np.array([1, 3], I64)}),
        "Gather": ([node("Gather", "x i", axis=2)], {"i": np.array([0, -1, 2], I64)}),
        "Pad": ([node("Pad", "x p v")], {"p": np.array([0, 1, 0, 0, 0, 2, 0, 0], I64), "v": f(0.5)}),
        "ConvTranspose": ([node("ConvTranspose", "x w b", strides=[2, 2])],
                          {"w": sparse(g, C, 5, 3, 3), "b": sparse(g, 5)}),
        "GroupNormalization": ([node("GroupNormalization", "x s b", num_groups=2)],
                               {"s": v[:, 0, 0], "b": v[:, 0, 0]}),
        "LRN": ([node("LRN", "x", size=3)], {}),
        "Hardmax": ([node("Hardmax", axis=1)], {}),
        "Tile": ([node("Tile", "x r")], {"r": np.array([1, 2, 1, 3], I64)}),
        "Expand": ([node("GlobalMaxPool", "x", "a"), node("Expand", "a s")], {"s": np.array([1, C, 3, 3], I64)}),
        "Shape": ([node("Shape", "x", "s"), node("Reshape", "x s")], {}),
        **{name: ([node("QuantizeLinear", "x v z", "q", axis=1), node("DequantizeLinear", "q v z", axis=1)],
                  {"v": v.reshape(-1), "z": np.arange(C, dtype=np.uint8)})
           for name in ("QuantizeLinear", "DequantizeLinear")},
        **{name: ([node("ReduceMax", "x", "a", axes=[3], keepdims=0), node("Transpose", "a", "d", perm=[2, 0, 1]),
                   node(name, "d w r b", "e", direction="bidirectional", hidden_size=5),
                   node("Transpose", "e", "g", perm=[2, 1, 3, 0]), node("Reshape", "g s")],
                  {"s": np.array([2, 10, SIDE, 1], I64), **recurrent(g, name, C, 5)})
           for name in ("LSTM", "GRU")},
        "Size": ([node("Size", "x", "n"), node("Cast", "n", "k", to=1), node("Div", "x k")], {}),
        "ConstantOfShape": ([node("Shape", "x", "s"), node("ConstantOfShape", "s", "z"), node("Add", "x z")], {}),
        "Range": ([node("Range", "a b c", "r"), node("Gather", "x r", axis=2)],
                  {"a": np.array(0), "b": np.array(3), "c": np.array(2)}),
        **{name: ([node(name, "x", axes=[2, 3])], {}) for name in ("ReduceMean", "ReduceMax", "ReduceMin")},
        **{f"Reduce{kind}": ([node(f"Reduce{kind}", "x", axes=[3])], {}) for kind in ("L1", "L2", "SumSquare", "Prod")},
        "ReduceSum": ([node("ReduceSum", "x ax")], {"ax": np.array([2, 3], I64)}),
    }  # fmt: skip
    table["Unsqueeze"], table["SpaceToDepth"] = table["Squeeze"], table["DepthToSpace"]
    return table[operator]


def recurrent(generator, operator, features, units):
    """Returns W, R and B of both directions; some units have a candidate of zero."""
    gates = {"LSTM": 4, "GRU": 3}[operator]
    shapes = {"w": (2, gates, units, features), "r": (2, gates, units, units), "b": (2, 2, gates, units)}
    values = {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    for direction in (0, 1):
        idle = generator.random(units) < 0.4
        values["w"][direction, -1, idle] = values["r"][direction, -1, idle] = 0
        values["b"][direction, :, -1, idle] = 0
    columns = {"w": features, "r": units}
    return {name: v.reshape(2, -1, *([columns[name]] if name in columns else [])) for name, v in values.items()}


def sparse(generator, *shape):
    value = generator.standard_normal(shape).astype(np.float32)
    value[generator.random(shape[0]) < 0.4] = 0
    return value


def network_around(operator, seed, opset=17):
    """Returns x = Conv(input) with dead and constant channels, the operator, and a convolution that reads y in part."""
    g = np.random.default_rng(seed)
    nodes, constants = configurations(operator, g)
    opset = {
        "Gelu": 20,
        "Attention": 23,
        "RotaryEmbedding": 23,
        "GridSample": 16,
        "GroupNormalization": 21,
        "Mish": 18,
        "RMSNormalization": 23,
    }.get(operator, opset)
    first, bias = sparse(g, C, 2, 1, 1), sparse(g, C)
    before = make_model(
        [node("Conv", "input w0 b0", "x"), *nodes],
        {"input": (2, 2, SIDE, SIDE)},
        {"y": None},
        {"w0": first, "b0": bias, **constants},
        opset=opset,
        extra_opsets=["com.microsoft"],
    )
    shape = session(before.SerializeToString()).run(None, random_inputs(before, 0))[0].shape
    last = g.standard_normal((3, shape[1], 1, 1)) * (g.random((1, shape[1], 1, 1)) < 0.6)
    return make_model(
        [node("Conv", "input w0 b0", "x"), *nodes, node("Conv", "y w9", "output")],
        {"input": (2, 2, SIDE, SIDE)},
        {"output": (2, 3, *shape[2:])},
        {"w0": first, "b0": bias, "w9": last.astype(np.float32), **constants},
        opset=opset,
        extra_opsets=["com.microsoft"],
    )


def assert_values_are_the_runtimes(model):
    known = trace(channel_graph(model))
    names = [name for n in model.graph.node for name in n.output if name in known.values and name in known.graph.shapes]
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(names))
    if not names:
        return 0
    for seed in (0, 1):
        feeds = random_inputs(probe, seed, batch_size=1)
        for name, found in zip(dict.fromkeys(names), session(probe.SerializeToString()).run(None, feeds), strict=True):
            claimed = np.broadcast_to(known.values[name], found.shape)
            known_there = ~np.isnan(claimed) if claimed.dtype.kind == "f" else np.ones(claimed.shape, bool)
            np.testing.assert_allclose(found[known_there], claimed[known_there], rtol=1e-5, atol=1e-5, err_msg=name)
    return len(names)


OPERATORS = sorted(set(rules) - {"Upsample"})


def test_rules_are_covered():
    assert len(OPERATORS) > 140


@pytest.mark.parametrize("operator", OPERATORS)
def test_claimed_values_are_the_runtimes(operator):
    for seed in range(3):
        assert_values_are_the_runtimes(network_around(operator, seed))


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_rule_that_is_prompted_by_values_says_nothing_without(operator):
    graph = channel_graph(network_around(operator, 0))
    for one in graph.nodes:
        silent = Trace(graph, Labels(graph))
        if silent.rule(one).prompted:
            silent.rule(one).evaluate(one, silent)
            assert not any((silent.values, silent.examples, silent.fixed, silent.averaging, silent.tainted))


@pytest.mark.parametrize("operator", OPERATORS)
def test_what_goes_leaves_the_outputs_as_they_were(operator):
    for seed in range(2):
        result = rewrite(network_around(operator, seed))
        assert result.proven
        assert not [note for note in result.notes if "drop-channels left out" in note], result.notes


@settings(settings.get_profile("stable"), max_examples=40)
@given(networks())
def test_claimed_values_hold_through_networks(model):
    assert_values_are_the_runtimes(model)


def assert_likes_are_the_runtimes(model):
    """Checks every claim that cells of a tensor are multiples; returns how many there are."""
    found = likeness(trace(channel_graph(model), epsilon=2**-24))
    cells = {name: one for name, one in found.cells.items() if one.ids.size > 1}
    # Who reads channels with a weight says that it multiplies: what no such node reads is never merged.
    assert all(found.trace.rule(read.node).multiplies for read in found.reads)
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    names = [name for n in model.graph.node for name in n.output if name in cells]
    if not names:
        return 0
    del probe.graph.output[:]
    probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    claims = 0
    for seed in (0, 1):
        outputs = session(probe.SerializeToString()).run(None, random_inputs(probe, seed, batch_size=1))
        for name, values in zip(names, outputs, strict=True):
            ids, scales = cells[name].ids, cells[name].scales
            axes = [axis for axis, size in enumerate(ids.shape) if size > 1]
            rows = np.moveaxis(values, axes, range(len(axes))).reshape(ids.size, -1).astype(np.float64)
            _, first = np.unique(ids.reshape(-1), return_index=True)
            ids, scales = ids.reshape(-1), scales.reshape(-1)
            for head in first:
                mine = np.flatnonzero((ids == ids[head]) & (scales != 0))
                claims += len(mine) - 1
                shares = rows[mine] / scales[mine, None]
                close = {"rtol": 1e-4, "atol": 1e-5 / np.abs(scales[mine]).min(initial=1)}
                for row in shares:
                    np.testing.assert_allclose(row, shares[0], **close, err_msg=name)
    return claims


def coarse(model):
    """Makes weights so simple that many channels are multiples of one another."""
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32 and value.ndim:
            value = np.clip(np.round(value * 2) / 2, -1, 1)
            if tensor.name in ("w0", "b0"):
                value = value[np.arange(len(value)) % 2] * np.float32([1, 1, 2, 1, 1, -1]).reshape(
                    -1, *[1] * (value.ndim - 1)
                )
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return model


@pytest.mark.parametrize("operator", OPERATORS)
def test_claimed_likes_are_the_runtimes(operator):
    for seed in range(3):
        assert_likes_are_the_runtimes(coarse(network_around(operator, seed)))


@settings(settings.get_profile("stable"), max_examples=60)
@given(networks())
def test_claimed_likes_hold_through_networks(model):
    assert_likes_are_the_runtimes(coarse(model))


def assert_glance_is_true(model):
    """Checks that no weight reads two channels that are alike where a glance shows that; returns whether it does."""
    known = trace(channel_graph(model), epsilon=2**-24)
    apart = all_apart(known, known.graph.nodes, ROUNDINGS * known.epsilon)
    for read in likeness(known).reads if apart else ():
        for ids in read.columns.ids:
            assert np.unique(ids).size == ids.size
    return apart


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_glance_is_true(operator):
    for seed in range(3):
        assert_glance_is_true(network_around(operator, seed))
        assert_glance_is_true(coarse(network_around(operator, seed)))


@settings(settings.get_profile("stable"), max_examples=60)
@given(networks())
def test_a_glance_is_true_of_networks(model):
    assert_glance_is_true(model)
    assert_glance_is_true(coarse(model))


def test_a_comparison_with_what_is_not_known_is_not_known():
    model = make_model(
        [node("Greater", "x t", "c"), node("Cast", "c", "y", to=TensorProto.FLOAT)],
        {"x": (1, 3)}, {"y": None}, {"t": np.float32(0)},
    )  # fmt: skip
    assert "c" not in trace(channel_graph(model)).values


def test_an_unknown_condition_decides_only_where_both_sides_agree():
    model = make_model(
        [node("Greater", "x t", "c"), node("Where", "c a b", "y")],
        {"x": (1, 3)}, {"y": None},
        {"t": np.float32(0), "a": np.float32([1, 2, 3]), "b": np.float32([1, 5, 3])},
    )  # fmt: skip
    value = trace(channel_graph(model)).values["y"].reshape(-1)
    assert np.array_equal(value, [1, np.nan, 3], equal_nan=True)


def test_an_absent_lower_limit_is_no_limit():
    model = make_model([node("Clip", "w  high", "z"), node("Add", "x z", "y")], {"x": (1, 3)}, {"y": None},
                       {"w": np.float32([-9, 0, 9]), "high": np.float32(1)})  # fmt: skip
    assert trace(channel_graph(model)).values["z"].reshape(-1).tolist() == [-9, 0, 1]
