"""The ways in which real files write the same network, and what a rewrite says when it cannot do its work."""

import importlib.resources
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from strategies import make_model

from compress.errors import ModelFileError
from compress.onnx_io.graph import channel_graph
from compress.onnx_io.session import random_inputs, session
from compress.recipe import RewriteSettings
from compress.rewrite import passes as passes_package
from compress.rewrite import rewrite, rewrite_file
from compress.rewrite.graph_pass import Pass
from compress.rewrite.passes import passes

F = np.float32
SHARED_MODELS = Path(__file__).parents[3] / "shared" / "models"


def node(operator, inputs, outputs, **attributes):
    return helper.make_node(operator, inputs.split(" "), outputs.split(" "), **attributes)


def weights(seed=0, **shapes):
    generator = np.random.default_rng(seed)
    return {name: generator.standard_normal(shape).astype(F) for name, shape in shapes.items()}


def run(model, batch_size=1):
    return session(model.SerializeToString()).run(None, random_inputs(model, 3, batch_size=batch_size))


def shapes(model):
    return {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}


def proven(model, settings=None):
    result = rewrite(model, settings)
    assert result.proven, result.notes
    assert not [note for note in result.notes if "left out" in note], result.notes
    for expected, found in zip(run(model), run(result.model), strict=True):
        assert np.abs(expected - found).max(initial=0) <= 1e-5 * max(1, np.abs(expected).max(initial=0))
    return result


def two_convolutions(middle=(), constants=None, *, opset=17, channels=4, name="x", shape=("N", 2, 4, 4), **more):
    """Conv(2 → 4), `middle` from x to `name`, Conv(`channels` → 24): channels 1 and 3 of the first are zero."""
    held = weights(w0=(4, 2, 1, 1), w1=(24, channels, 1, 1)) | (constants or {})
    held["w0"][[1, 3]] = 0
    nodes = [node("Conv", "in w0", "x"), *middle, node("Conv", f"{name} w1", "out")]
    return make_model(nodes, {"in": shape}, {"out": (shape[0], 24, *shape[2:])}, held, opset=opset, **more)


# Constants and biases


@pytest.mark.parametrize("bias", [True, False])
def test_a_constant_moves_into_the_next_bias(bias):
    held = weights(w0=(3, 2, 1, 1), b0=(3,), w1=(2, 3, 3, 3), b1=(2,))
    held["w0"][1] = 0
    nodes = [node("Conv", "in w0 b0", "x"), node("Relu", "x", "r"), node("Conv", "r w1 b1" if bias else "r w1", "out")]
    held["b0"][1] = 2
    result = proven(make_model(nodes, {"in": ("N", 2, 5, 5)}, {"out": ("N", 2, 3, 3)}, held))
    found = {i.name: numpy_helper.to_array(i) for i in result.model.graph.initializer}
    last = next(n for n in result.model.graph.node if n.output[0] == "out")
    expected = held["w1"][:, 1].sum(axis=(1, 2)) * 2 + (held["b1"] if bias else 0)
    assert found[last.input[1]].shape == (2, 2, 3, 3)
    np.testing.assert_allclose(found[last.input[2]], expected, rtol=1e-5)


def test_beside_zero_padding_a_constant_stays_and_the_reason_is_given():
    held = weights(w0=(3, 2, 1, 1), b0=(3,), w1=(2, 3, 3, 3))
    held["w0"][1], held["b0"][1] = 0, 2
    nodes = [node("Conv", "in w0 b0", "x"), node("Conv", "x w1", "out", pads=[1] * 4)]
    result = proven(make_model(nodes, {"in": ("N", 2, 5, 5)}, {"out": ("N", 2, 5, 5)}, held))
    assert result.params_after == result.params_before
    assert [(b.tensor, b.channels) for b in result.blocked] == [("x", 1)]
    assert "padding" in result.blocked[0].reason


@pytest.mark.parametrize("operator", ["Gemm", "MatMul"])
def test_a_constant_moves_past_a_matrix_product(operator):
    held = weights(w0=(60, 4), b0=(4,), w1=(4, 30), b1=(30,))
    held["w0"][:, 1], held["b0"][1] = 0, 2
    tail = [node("Gemm", "x w1 b1", "out")] if operator == "Gemm" else [node("MatMul", "x w1", "out")]
    result = proven(make_model([node("Gemm", "in w0 b0", "x"), *tail], {"in": ("N", 60)}, {"out": ("N", 30)}, held))
    assert (shapes(result.model)["w0"], shapes(result.model)["w1"]) == ((60, 3), (3, 30))
    assert result.model.graph.node[-1].op_type == ("Gemm" if operator == "Gemm" else "Add")


@pytest.mark.parametrize("inputs", ["x w1 b1", "x w1"], ids=["bias", "no bias"])
def test_a_constant_moves_into_a_bias_that_is_scaled(inputs):
    held = weights(w0=(60, 4), b0=(4,), w1=(4, 3), b1=(3,))
    held["w0"][:, 1], held["b0"][1] = 0, 2
    nodes = [node("Gemm", "in w0 b0", "x"), node("Gemm", inputs, "out", alpha=0.5, beta=4.0)]
    result = proven(make_model(nodes, {"in": ("N", 60)}, {"out": ("N", 3)}, held))
    assert shapes(result.model)["w1"] == (3, 3)


def test_a_channel_whose_slice_is_needed_stays_and_says_so():
    held = weights(w0=(4, 2, 1, 1), w1=(3, 4, 1, 1)) | {"a": np.array([0, 2, 2, 4, 4]), "b": np.array([0, 4, 4, 4])}
    held["w0"][0] = 0
    nodes = [node("Conv", "in w0", "x"), node("Reshape", "x a", "g"), node("Transpose", "g", "t", perm=[0, 2, 1, 3, 4]),
             node("Reshape", "t b", "y"), node("Conv", "y w1", "out")]  # fmt: skip
    result = proven(make_model(nodes, {"in": (1, 2, 4, 4)}, {"out": (1, 3, 4, 4)}, held))
    assert [b.reason for b in result.blocked] == [
        "only whole slices can go, and other channels of its slice are needed"
    ]


def test_a_dead_residual_branch_shrinks_to_one_channel():
    held = weights(w0=(3, 2, 1, 1), w1=(4, 3, 1, 1), w2=(3, 4, 1, 1), w3=(2, 3, 1, 1))
    held["w2"][:] = 0
    nodes = [node("Conv", "in w0", "x"), node("Conv", "x w1", "h"), node("Relu", "h", "r"), node("Conv", "r w2", "d"),
             node("Add", "x d", "s"), node("Conv", "s w3", "out")]  # fmt: skip
    result = proven(make_model(nodes, {"in": (1, 2, 4, 4)}, {"out": (1, 2, 4, 4)}, held))
    assert shapes(result.model).get("w1", (1,))[0] == 1


# Initializers


def test_convolutions_that_share_a_weight_lose_the_same():
    held = weights(w0=(4, 2, 1, 1), w=(4, 4, 1, 1), w2=(3, 4, 1, 1))
    held["w"][1], held["w"][:, 1], held["w0"][1], held["w2"][:, 2] = 0, 0, 0, 0
    nodes = [
        node("Conv", "in w0", "x"),
        node("Conv", "x w", "y"),
        node("Conv", "y w", "z"),
        node("Conv", "z w2", "out"),
    ]
    result = proven(make_model(nodes, {"in": (1, 2, 4, 4)}, {"out": (1, 3, 4, 4)}, held))
    assert shapes(result.model)["w"] == (3, 3, 1, 1)


def test_convolutions_that_share_a_bias_each_get_their_own_gain():
    held = weights(w0=(3, 40, 1, 1), b0=(3,), w1=(2, 3, 1, 1), w2=(2, 3, 1, 1), b=(2,))
    held["w0"][1], held["b0"][1] = 0, 2
    nodes = [node("Conv", "in w0 b0", "x"), node("Conv", "x w1 b", "y"), node("Conv", "x w2 b", "z"),
             node("Mul", "y z", "out")]  # fmt: skip
    result = proven(make_model(nodes, {"in": (1, 40, 4, 4)}, {"out": (1, 2, 4, 4)}, held))
    assert shapes(result.model)["w1"] == (2, 2, 1, 1)


def test_initializers_that_are_inputs_as_well():
    model = two_convolutions(ir_version=3)
    for name, shape in shapes(model).items():
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    assert shapes(proven(model).model)["w1"] == (24, 2, 1, 1)


def test_functions_of_the_model_itself_are_looked_into():
    model = two_convolutions()
    body = [node("Conv", "a w", "b"), node("Relu", "b", "c")]
    opsets = list(model.opset_import)
    model.functions.append(helper.make_function("own", "ConvRelu", ["a", "w"], ["c"], body, opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node[1].op_type, model.graph.node[1].domain = "ConvRelu", "own"
    result = proven(model)
    assert shapes(result.model)["w1"] == (24, 2, 1, 1)
    assert result.channels_removed == 2


def test_constant_nodes_are_weights_too():
    model = two_convolutions()
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    del model.graph.initializer[:]
    for name, tensor in held.items():
        model.graph.node.insert(0, helper.make_node("Constant", [], [name], value=tensor))
    assert proven(model).params_after == 2 * 2 + 24 * 2


def test_unnamed_nodes():
    model = two_convolutions([node("Relu", "x", "r")], name="r")
    for one in model.graph.node:
        one.ClearField("name")
    assert proven(model).channels_removed == 2


def test_equally_named_nodes_are_for_the_runtime_to_refuse():
    model = two_convolutions()
    for one in model.graph.node:
        one.name = "same"
    with pytest.raises(ModelFileError, match="two nodes with same node name"):
        rewrite(model)


# Operator versions


def versions():
    one, two, zero, end = (np.array([v], np.int64) for v in (1, 2, 0, 2**31))
    pads = np.array([0, 1, 0, 0, 0, 1, 0, 0], np.int64)
    cases = {
        "Slice-9": (9, [node("Slice", "x", "y", axes=[1], starts=[1], ends=[4])], {}, 3),
        "Slice-11": (11, [node("Slice", "x s e a", "y")], {"s": one, "e": end, "a": one}, 3),
        "Slice-batch": (13, [node("Slice", "x s e a", "y")],
                        {"s": np.array([1, 0]), "e": np.array([4, -1]), "a": np.array([1, 2])}, 3),
        "Pad-9": (9, [node("Pad", "x", "y", pads=pads.tolist(), value=0.0)], {}, 6),
        "Pad-13": (13, [node("Pad", "x p", "y")], {"p": pads}, 6),
        "Pad-axes": (18, [node("Pad", "x p  a", "y")], {"p": np.array([1, 1]), "a": one}, 6),
        "Split-9": (9, [node("Split", "x", "a b", axis=1, split=[1, 3]), node("Concat", "b a", "y", axis=1)], {}, 4),
        "Split-13": (13, [node("Split", "x s", "a b", axis=1), node("Concat", "b a", "y", axis=1)],
                     {"s": np.array([1, 3])}, 4),
        "Split-18": (18, [node("Split", "x", "a b", axis=1, num_outputs=2), node("Concat", "b a", "y", axis=1)], {}, 4),
        "Clip-9": (9, [node("Clip", "x", "y", min=-1.0, max=1.0)], {}, 4),
        "Clip-13": (13, [node("Clip", "x  h", "y")], {"h": F(1)}, 4),
        "Dropout-9": (9, [node("Dropout", "x", "y", ratio=0.5)], {}, 4),
        "Dropout-13": (13, [node("Dropout", "x r", "y")], {"r": F(0.5)}, 4),
        "Squeeze-9": (9, [node("Unsqueeze", "x", "u", axes=[2]), node("Squeeze", "u", "y", axes=[2])], {}, 4),
        "Squeeze-13": (13, [node("Unsqueeze", "x t", "u"), node("Squeeze", "u t", "y")], {"t": two}, 4),
        "ReduceMean-13": (13, [node("ReduceMean", "x", "y", axes=[2, 3])], {}, 4),
        "ReduceMean-18": (18, [node("ReduceMean", "x a", "y")], {"a": np.array([2, 3])}, 4),
        "Reshape-literal": (13, [node("Reshape", "x a", "f"), node("Reshape", "f b", "y")],
                            {"a": np.array([0, 64]), "b": np.array([-1, 4, 4, 4])}, 4),
        "Reshape-computed": (13, [node("Shape", "x", "s"), node("Gather", "s z", "n"),
                                  node("Concat", "n c", "t", axis=0), node("Reshape", "x t", "y")],
                             {"z": zero, "c": np.array([4, 16, 1], np.int64)}, 4),
        "Resize-19": (19, [node("Resize", "x   s", "y", axes=[2, 3], mode="nearest")],
                      {"s": np.array([8, 8], np.int64)}, 4),
        "Identity-21": (21, [node("Identity", "x", "y")], {}, 4),
    }  # fmt: skip
    return [pytest.param(*case, id=name) for name, case in cases.items()]


@pytest.mark.parametrize(("opset", "middle", "constants", "channels"), versions())
def test_each_version_of_an_operator(opset, middle, constants, channels):
    model = two_convolutions(middle, constants, opset=opset, channels=channels, name="y", ir_version=7)
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output[0].type.tensor_type.ClearField("shape")
    for axis, size in enumerate(run(probe)[0].shape[2:], start=2):
        model.graph.output[0].type.tensor_type.shape.dim[axis].dim_value = size
    model.ir_version = 10 if opset > 19 else 8
    result = proven(model)
    assert result.channels_removed >= 1
    assert result.params_after < result.params_before
    for batch_size in (1, 3):
        assert run(result.model, batch_size)[0].shape == run(model, batch_size)[0].shape


def test_a_free_spatial_axis_keeps_its_bounds_as_they_are_written():
    constants = {"s": np.array([1, 0]), "e": np.array([4, -1]), "a": np.array([1, 2])}
    model = two_convolutions([node("Slice", "x s e a", "y")], constants, channels=3, name="y", shape=("N", 2, "H", 4))
    model.graph.output[0].type.tensor_type.shape.dim[2].Clear()
    result = proven(model)
    assert result.channels_removed
    feed = {"in": np.random.default_rng(0).standard_normal((2, 2, 9, 4)).astype(F)}
    first, second = (session(m.SerializeToString()).run(None, feed)[0] for m in (model, result.model))
    assert first.shape == second.shape == (2, 24, 8, 4)


def test_a_shape_that_only_a_folded_node_reads_goes_with_it():
    """The batch is free, so the shape is not known as a whole; the channels in it are, and they shrink."""
    held = {"one": np.array([1]), "batch": np.array([-1]), "space": np.array([4, 4])}
    middle = [
        node("Shape", "x", "s"),
        node("Gather", "s one", "c"),
        node("Concat", "batch c space", "t", axis=0),
        node("Reshape", "x t", "y"),
    ]
    result = proven(two_convolutions(middle, held, name="y"))
    assert result.channels_removed == 2


# What cannot go


def test_an_operator_of_another_domain_keeps_what_it_touches():
    triangle = node("Trilu", "x", "y", domain="com.microsoft", name="triangle")
    model = two_convolutions([triangle], name="y", extra_opsets=["com.microsoft"])
    result = proven(model)
    assert result.params_after == result.params_before
    assert [(b.tensor, b.node, b.channels) for b in result.blocked] == [("x", "triangle", 2)]
    assert result.blocked[0].reason == "operator com.microsoft::Trilu has no rule"


CHANCE = [node("ReduceSum", "in", "sum", keepdims=0), node("Greater", "sum zero", "c")]


def test_a_branch_keeps_what_it_reads_from_outside():
    def branch(name, operator):
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([node(operator, "x", name)], name, [], [out])

    choose = helper.make_node(
        "If", ["c"], ["y"], name="if", then_branch=branch("t", "Relu"), else_branch=branch("e", "Neg")
    )
    result = proven(two_convolutions([*CHANCE, choose], {"zero": F(0)}, name="y"))
    assert [(b.node, b.reason) for b in result.blocked] == [("if", "operator If has no rule")]


def test_a_branch_inside_a_branch_keeps_what_it_reads_and_hides_what_it_defines():
    """The inner branches read x, a weight from outside, and a weight of their own."""

    def graph(nodes, name, held=None):
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        stored = [numpy_helper.from_array(value, key) for key, value in (held or {}).items()]
        return helper.make_graph(nodes, name, [], [out], stored)

    def choose(name, output, first, second):
        return helper.make_node("If", ["c"], [output], name=name, then_branch=first, else_branch=second)

    gain = {"own": np.ones((1, 4, 1, 1), F)}
    inner = choose(
        "inner", "i", graph([node("Mul", "x outer", "p")], "p"), graph([node("Mul", "x own", "q")], "q", gain)
    )
    outer = choose("outer", "y", graph([inner, node("Neg", "i", "t")], "t"), graph([node("Relu", "x", "e")], "e"))
    held = {"zero": F(0), "outer": np.arange(4, dtype=F).reshape(1, 4, 1, 1)}
    model = two_convolutions([*CHANCE, outer], held, name="y")
    result = proven(model)
    assert {b.node for b in result.blocked} == {"outer"}
    assert shapes(result.model)["outer"] == (1, 4, 1, 1)
    assert set(channel_graph(model).nodes[3].captured) == {"c", "x", "outer"}


def test_an_output_keeps_its_channels():
    held = weights(w0=(4, 2, 1, 1))
    held["w0"][1] = 0
    result = proven(make_model([node("Conv", "in w0", "out")], {"in": (1, 2, 4, 4)}, {"out": (1, 4, 4, 4)}, held))
    assert [(b.reason, b.channels) for b in result.blocked] == [("it is an output of the network", 1)]


def test_the_last_channel_of_a_tensor_stays_and_says_so():
    held = weights(w0=(3, 2, 1, 1), b=(2,), w1=(2, 3, 1, 1))
    held["w0"][:] = 0
    nodes = [node("Conv", "in w0", "x"), node("Conv", "x w1 b", "out")]
    result = proven(make_model(nodes, {"in": (1, 2, 4, 4)}, {"out": (1, 2, 4, 4)}, held))
    assert "a tensor keeps at least one channel" in {b.reason for b in result.blocked if b.tensor == "x"}


def test_numerically_dead_weights_go_unless_only_true_zeros_count():
    model = two_convolutions()
    tiny = {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in model.graph.initializer}
    tiny["w1"][:, 0] = 1e-10
    del model.graph.initializer[:]
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in tiny.items())
    assert shapes(proven(model).model)["w1"] == (24, 1, 1, 1)
    assert shapes(proven(model, RewriteSettings(epsilon=0)).model)["w1"] == (24, 2, 1, 1)


def test_tensors_without_elements_and_scalars():
    empty = {"none": np.zeros((0, 4), F), "k": F(2)}
    model = two_convolutions([node("Mul", "x k", "y")], empty, name="y")
    model.graph.node.append(node("Identity", "none", "more"))
    model.graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, (0, 4)))
    assert proven(model).channels_removed == 2


# What goes wrong


class _Wrong(Pass):
    name = "wrong"
    order = 25

    def run(self, graph, trace):
        weight = graph.tensors()["w1"]
        if (weight.values == 7).all():
            return []
        weight.values = np.full_like(weight.values, 7)
        return ["1 weight spoilt"]


class _Raising(Pass):
    name = "raising"
    order = 25

    def run(self, graph, trace):
        raise IndexError("no such\nchannel")


class _Restless(Pass):
    name = "restless"
    order = 25

    def run(self, graph, trace):
        return ["1 thing done"]


class _Growing(Pass):
    name = "growing"
    order = 25

    def run(self, graph, trace):
        if graph.name != "g":
            return []
        graph.name = "a name that is longer than all that could be saved " * 100
        return ["1 graph renamed"]


class _GrowingToo(Pass):
    name = "growing-too"
    order = 26

    def run(self, graph, trace):
        if len(graph.nodes[0].name) > 1000:
            return []
        graph.nodes[0].name = "a name " * 1000
        return ["1 node renamed"]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [(_Wrong, "differs by"), (_Raising, "IndexError"), (_Restless, "did not settle"), (_Growing, "bytes would become")],
)
def test_a_pass_that_fails_is_left_out_and_named(broken, reason, monkeypatch):
    len(list(passes))
    monkeypatch.setitem(passes._entries, broken.name, broken())
    result = rewrite(two_convolutions())
    assert result.proven
    assert result.channels_removed == 2
    named = [note for note in result.notes if note.startswith(f"pass {broken.name} left out")]
    assert len(named) == 1
    assert reason in named[0]


def test_two_broken_passes_cost_nothing_of_what_the_others_do(monkeypatch):
    len(list(passes))
    monkeypatch.setitem(passes._entries, "wrong", _Wrong())
    monkeypatch.setitem(passes._entries, "raising", _Raising())
    model = two_convolutions()
    result = rewrite(model)
    assert result.proven
    assert result.channels_removed == 2
    assert any("left out" in note for note in result.notes)
    assert not any("\n" in note for note in result.notes)


def test_two_passes_that_enlarge_the_file_cost_nothing_of_what_the_others_do(monkeypatch):
    len(list(passes))
    for growing in (_Growing, _GrowingToo):
        monkeypatch.setitem(passes._entries, growing.name, growing())
    result = rewrite(two_convolutions())
    assert result.proven
    assert result.channels_removed == 2
    assert result.file_bytes_after < result.file_bytes_before
    assert any(note.startswith("pass growing, growing-too left out: ") for note in result.notes)


def test_a_model_that_cannot_be_fed_is_one_line():
    sequence = helper.make_tensor_sequence_value_info("in", TensorProto.FLOAT, None)
    graph = helper.make_graph([node("ConcatFromSequence", "in", "out", axis=0)], "g", [sequence],
                              [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)])  # fmt: skip
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    with pytest.raises(ModelFileError, match="cannot be fed") as caught:
        rewrite(model)
    assert "\n" not in str(caught.value)


def test_a_model_that_takes_none_of_the_inputs_is_kept():
    model = two_convolutions(
        [node("Reshape", "x s", "y")], {"s": np.array([1, 4, 5, 5])}, name="y", shape=("N", 2, "H", "H")
    )
    result = rewrite(model)
    assert not result.proven
    assert "takes none of the inputs" in result.notes[0]


def test_rewrite_does_not_change_what_it_is_given_and_writes_what_it_returns(tmp_path):
    model = two_convolutions()
    before = model.SerializeToString()
    onnx.save(model, tmp_path / "a.onnx")
    result = rewrite_file(tmp_path / "a.onnx", tmp_path / "b.onnx")
    rewrite(model)
    assert model.SerializeToString() == before
    assert onnx.load(tmp_path / "b.onnx") == result.model
    assert result.to_dict()["channels_removed"] == 2


def test_passes_are_all_known():
    assert passes_package.passes is passes
    assert {"fold-constants", "drop-channels", "pad-not-concat"} <= set(passes)


# Networks of others

# Those of the nine that take seconds; the others hold up to 144 million weights.
LIGHT = [
    Path(str(importlib.resources.files("onnx"))) / f"backend/test/data/light/light_{name}.onnx"
    for name in ("inception_v1", "shufflenet", "squeezenet")
]


@pytest.mark.slow
@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_networks_whose_weights_are_computed(path):
    if not path.is_file():
        pytest.skip(f"this onnx brings no {path.name}")
    result = rewrite(onnx.load(path))
    assert result.proven, result.notes
    assert result.params_after <= result.params_before
    assert result.file_bytes_after <= result.file_bytes_before


QUICK = ("ai8x", "dory", "esp-dl", "qonnx", "TensorRT")
FOUND = [path for path in sorted(SHARED_MODELS.glob("*.onnx")) if path.name.startswith(QUICK)]


@pytest.mark.skipif(not FOUND, reason="no folder of released models beside the repository")
@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_released_models_are_rewritten_and_proven(path):
    result = rewrite(path)
    assert result.proven, result.notes
    assert result.params_after <= result.params_before
    assert result.macs_after <= result.macs_before
    assert result.file_bytes_after <= result.file_bytes_before
