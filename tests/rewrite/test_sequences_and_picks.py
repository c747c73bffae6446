"""Sequences, sums of products, picks by index and transposed convolutions: half of their channels are zero, and go."""

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from strategies import make_model
from torch import nn

from compress.compact import compact, plan_of_zeros
from compress.onnx_io.session import random_inputs, session
from compress.rewrite import rewrite
from compress.torch_graph import to_onnx

F, I64 = np.float32, np.int64


def node(operator, inputs, outputs, **attributes):
    return helper.make_node(operator, inputs.split(" "), outputs.split(" "), name=outputs, **attributes)


def sizes(model):
    return {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}


def shaped(model):
    """Gives each output the shape that it has."""
    values = session(model.SerializeToString()).run(None, random_inputs(model, 0))
    for output, value in zip(model.graph.output, values, strict=True):
        if not output.type.tensor_type.HasField("shape") and output.type.HasField("tensor_type"):
            output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, value.shape))
    return model


def proven(model):
    model = shaped(model)
    result = rewrite(model)
    assert result.proven, result.notes
    assert not [note for note in result.notes if "left out" in note], result.notes
    feeds = random_inputs(model, 1, batch_size=2)
    outputs = [session(one.SerializeToString()).run(None, feeds) for one in (model, result.model)]
    for expected, found in zip(*outputs, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
    return sizes(result.model)


def between(nodes, constants, *, dead, channels=12, read=None, opset=17):
    """Returns Conv(2 → `channels`), `nodes` from x to y, Conv(`read` → 30); channels in `dead` are zero."""
    generator = np.random.default_rng(0)
    first = generator.standard_normal((channels, 2, 1, 1)).astype(F)
    first[dead] = 0
    held = {"w0": first, "w1": generator.standard_normal((30, read or channels, 1, 1)).astype(F), **constants}
    whole = [node("Conv", "in w0", "x"), *nodes, node("Conv", "y w1", "out")]
    return make_model(whole, {"in": (2, 2, 4, 4)}, {"out": None}, held, opset=opset)


# Sequences


class Chunked(nn.Module):
    """Splits its channels in two, mixes one half, joins both: the block of many detectors."""

    def __init__(self, width, by):
        super().__init__()
        self.first, self.inner = nn.Conv2d(3, 2 * width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.last, self.by = nn.Conv2d(3 * width, 5, 1), by

    def forward(self, x):
        halves = self.first(x)
        a, b = halves.chunk(2, 1) if self.by == "chunk" else halves.split(list(self.by), 1)
        return self.last(torch.cat([a, b, self.inner(b)], 1))


def zeroed(network, dead):
    """Zeroes every channel of the first convolution in `dead`, and every second one of the inner."""
    with torch.no_grad():
        for layer, rows in ((network.first, dead), (network.inner, slice(None, None, 2))):
            layer.weight[rows] = 0
            layer.bias[rows] = 0
    return network


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_a_network_with_chunks_is_compacted_and_rewritten_to_its_true_size():
    torch.manual_seed(0)
    network = zeroed(Chunked(16, "chunk"), slice(None, None, 2))
    model = to_onnx(network, (3, 8, 8))
    assert "SplitToSequence" in {n.op_type for n in model.graph.node}
    target = parameters(Chunked(8, "chunk"))
    assert sum(np.prod(size) for name, size in proven(model).items() if "." in name) == target
    assert compact(network, plan_of_zeros(network, (3, 8, 8)), (3, 8, 8)) <= 1e-5
    assert parameters(network) == target
    assert rewrite(to_onnx(network, (3, 8, 8))).channels_removed == 0


def test_a_network_with_chunks_loses_the_same_of_each_in_torch_and_more_in_onnx():
    torch.manual_seed(0)
    network = zeroed(Chunked(16, "chunk"), [0, 1, 2, 18])
    found = proven(to_onnx(network, (3, 8, 8)))
    assert found["first.weight"] == (28, 3, 3, 3)
    compact(network, plan_of_zeros(network, (3, 8, 8)), (3, 8, 8))
    assert network.first.weight.shape == (30, 3, 3, 3)


def test_sizes_that_stand_in_the_code_stay_in_torch_and_follow_in_onnx():
    torch.manual_seed(0)
    network = zeroed(Chunked(16, (16, 16)), slice(None, None, 2))
    assert proven(to_onnx(network, (3, 8, 8)))["first.weight"] == (16, 3, 3, 3)
    compact(network, plan_of_zeros(network, (3, 8, 8)), (3, 8, 8))
    assert network.first.weight.shape == (32, 3, 3, 3)


SIZES = {"s": np.array([4, 8], I64), "five": np.array(5), "i": np.array(0), "j": np.array(1), "k": np.array(-1)}


@pytest.mark.parametrize(
    ("nodes", "read"),
    [
        (["SplitToSequence x s q axis=1", "ConcatFromSequence q y axis=1"], 12),
        (["SplitToSequence x five q axis=1", "SequenceAt q j y"], 5),
        (["SplitToSequence x s q axis=1", "SequenceAt q k a", "SequenceAt q i b", "Concat a b y axis=1"], 12),
        (["Relu x r", "SequenceConstruct x r q", "ConcatFromSequence q y axis=1"], 24),
        (["SequenceConstruct x q", "SequenceInsert q x r", "SequenceErase r i t", "SequenceAt t i y"], 12),
        (["SplitToSequence x s q axis=1", "SequenceAt q i a", "SequenceInsert q a r i",
          "ConcatFromSequence r y axis=1"], 16),
    ],
)  # fmt: skip
def test_sequences_are_followed(nodes, read):
    made = []
    for text in nodes:
        operator, *names = text.split()
        attributes = {n.partition("=")[0]: int(n.partition("=")[2]) for n in names if "=" in n}
        names = [n for n in names if "=" not in n]
        if operator == "SequenceInsert" and len(names) == 4:
            names = [names[0], names[1], names[3], names[2]]
        inputs, output = names[:-1], names[-1]
        made.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
    found = proven(between(made, SIZES, dead=[1, 3, 5, 7, 9, 11], read=read))
    assert found["w0"] == (6, 2, 1, 1) if read != 5 else (2, 2, 1, 1)


@pytest.mark.parametrize("index", ["n", "i"])
def test_a_sequence_that_is_not_followed_keeps_what_it_holds(index):
    """An index that is computed; a sequence that is an output."""
    nodes = [node("ReduceMax", "in", "m", keepdims=0), node("Clip", "m zero one", "c"), node("Cast", "c", "n", to=7),
             node("SplitToSequence", "x six", "q", axis=1), node("SequenceAt", f"q {index}", "y")]  # fmt: skip
    constants = SIZES | {"six": np.array(6), "zero": F(0), "one": F(1)}
    model = between(nodes, constants, dead=[1, 3], read=6)
    if index == "i":
        kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
        model.graph.output.append(helper.make_value_info("q", kind))
    result = rewrite(shaped(model))
    assert sizes(result.model)["w0"] == (12, 2, 1, 1)


# Sums of products


@pytest.mark.parametrize(
    ("equation", "weight"),
    [("bchw,oc->bohw", (9, 12)), ("oc,bchw->bohw", (9, 12)), ("bchw,co", (12, 9)), ("bchw,chwo->bo", (12, 4, 4, 9))],
)
def test_a_contracted_letter_loses_what_is_zero_in_either(equation, weight):
    held = {"m": np.random.default_rng(1).standard_normal(weight).astype(F)}
    letters = equation.split("->")[0].split(",")["b" in equation.split(",")[0]]
    np.moveaxis(held["m"], letters.index("c"), 0)[[1, 2]] = 0
    inputs = "x m" if equation.startswith("b") else "m x"
    model = make_model(
        [node("Conv", "in w0", "x"), node("Einsum", inputs, "out", equation=equation)],
        {"in": (2, 2, 4, 4)},
        {"out": None},
        held | {"w0": np.where(np.arange(12) % 2, 1, 0).astype(F).reshape(12, 1, 1, 1) * np.ones((1, 2, 1, 1), F)},
    )
    found = proven(model)
    assert found["w0"] == (5, 2, 1, 1)
    assert found["m"][letters.index("c")] == 5


def test_two_operands_that_vary_are_tied_by_their_letters():
    nodes = [node("Relu", "x", "r"), node("Einsum", "x r", "a", equation="bchw,bdhw->bcd"),
             node("Einsum", "a x", "y", equation="bcd,bdhw->bchw")]  # fmt: skip
    assert proven(between(nodes, {}, dead=[0, 1, 2, 3]))["w0"] == (8, 2, 1, 1)


@pytest.mark.parametrize("equation", ["bcii->bci", "...chw->...hwc"])
def test_an_equation_that_is_not_understood_keeps_its_channels_and_says_so(equation):
    nodes = [node("Einsum", "x", "a", equation=equation), node("ReduceMax", "a", "m"), node("Mul", "x m", "y")]
    result = rewrite(shaped(between(nodes, {}, dead=[0, 1])))
    assert result.proven
    assert sizes(result.model)["w0"] == (12, 2, 1, 1)
    assert equation in result.blocked[0].reason


# Picks


@pytest.mark.parametrize(
    ("index", "kept"),
    [
        ([11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0], 6),
        ([4, 1, -1, 0], 2),
        ([1, 1, 3, 0, 3, 1], 2),
        ([5], 1),
    ],
)
def test_indices_follow_the_channels_that_they_pick(index, kept):
    """Even channels are zero; of the others those go that nobody picks."""
    model = between(
        [node("Gather", "x i", "y", axis=1)], {"i": np.array(index, I64)}, dead=slice(0, None, 2), read=len(index)
    )
    found = proven(model)
    assert found["w0"] == (kept, 2, 1, 1)
    assert found["w1"][1] == sum(position % 2 for position in index)


def test_one_channel_that_is_picked_stays():
    nodes = [node("Gather", "x i", "g", axis=1), node("Unsqueeze", "g ax", "y")]
    found = proven(between(nodes, {"i": np.array(7), "ax": np.array([1])}, dead=slice(0, None, 2), read=1))
    assert found["w0"] == (1, 2, 1, 1)


@pytest.mark.parametrize(
    ("start", "end", "step", "dead", "left"),
    [
        (11, -99, -1, slice(0, None, 2), 6),
        (7, 2, -1, slice(0, None, 2), 3),
        (0, 12, 2, [0, 1, 4, 5, 6], 8),
        (1, 2**31, 3, [0, 1, 2, 9, 10, 11, 4], 6),
        (0, 9, 3, [0, 1, 2, 4], 12),
    ],
)
def test_slices_with_steps(start, end, step, dead, left):
    """`x` is read by the slice and by a sum over all of its channels."""
    nodes = [node("Slice", "x s e ax st", "y"), node("Conv", "x w2", "whole")]
    constants = {"s": np.array([start]), "e": np.array([end]), "ax": np.array([1]), "st": np.array([step])}
    whole = np.random.default_rng(3).standard_normal((1, 12, 1, 1)).astype(F)
    if step == -1 and end == 2:
        nodes = nodes[:1]
    model = between(nodes, constants | {"w2": whole}, dead=dead, read=len(range(12)[slice(start, end, step)]))
    if len(nodes) > 1:
        model.graph.output.append(helper.make_tensor_value_info("whole", TensorProto.FLOAT, None))
    else:
        del model.graph.initializer[-1]
    assert proven(model)["w0"] == (left, 2, 1, 1)


# Transposed convolutions


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("groups", "per_output"), [(1, 6), (4, 3), (12, 1), (12, 2)])
def test_transposed_convolutions_of_any_rank_and_grouping(rank, groups, per_output):
    generator = np.random.default_rng(4)
    ones, kernel = (1,) * rank, (3,) * rank
    held = {
        "w0": generator.standard_normal((12, 2, *ones)).astype(F),
        "w1": generator.standard_normal((12, per_output, *kernel)).astype(F),
        "b1": generator.standard_normal(groups * per_output).astype(F),
        "w2": generator.standard_normal((40, groups * per_output, *ones)).astype(F),
    }
    held["w0"][::3] = 0
    # The last output of each group is read by none.
    held["w2"][:, per_output - 1 :: per_output] *= per_output == 1
    if per_output == 1:
        held["w2"] = generator.standard_normal((40, 12, *ones)).astype(F)
        held["w2"][:, ::2] = 0
    nodes = [node("Conv", "in w0", "x"),
             node("ConvTranspose", "x w1 b1", "y", group=groups, dilations=[2] * rank, strides=[2] * rank,
                  output_padding=[1] * rank, pads=[1] * 2 * rank), node("Conv", "y w2", "out")]  # fmt: skip
    found = proven(make_model(nodes, {"in": (2, 2, *([3] * rank))}, {"out": None}, held))
    expected = {(1, 6): (8, 5), (4, 3): (8, 2), (12, 1): (4, 1), (12, 2): (8, 2)}[(groups, per_output)]
    assert found["w1"][:2] == expected


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("groups", [1, 2, 12])
def test_convolutions_along_one_and_three_axes(rank, groups):
    generator = np.random.default_rng(5)
    held = {"w0": generator.standard_normal((12, 2, *(1,) * rank)).astype(F),
            "w1": generator.standard_normal((12, 12 // groups, *(2,) * rank)).astype(F),
            "w2": generator.standard_normal((40, 12, *(1,) * rank)).astype(F)}  # fmt: skip
    held["w0"][::2] = held["w1"][::2] = 0
    nodes = [node("Conv", "in w0", "x"), node("Conv", "x w1", "y", group=groups, dilations=[2] * rank),
             node("Conv", "y w2", "out")]  # fmt: skip
    found = proven(make_model(nodes, {"in": (2, 2, *([5] * rank))}, {"out": None}, held))
    assert (found["w0"][0], found["w1"][0]) == (6, 6)


def test_groups_of_a_transposed_convolution_lose_alike():
    """Two channels of the first group are zero, one of each other."""
    generator = np.random.default_rng(6)
    held = {name: generator.standard_normal(shape).astype(F)
            for name, shape in {"w0": (12, 2, 1, 1), "w1": (12, 3, 3, 3), "w2": (40, 12, 1, 1)}.items()}  # fmt: skip
    held["w0"][[0, 1, 3, 6, 9]] = 0
    nodes = [node("Conv", "in w0", "x"), node("ConvTranspose", "x w1", "y", group=4), node("Conv", "y w2", "out")]
    assert proven(make_model(nodes, {"in": (2, 2, 3, 3)}, {"out": None}, held))["w1"] == (8, 3, 3, 3)
