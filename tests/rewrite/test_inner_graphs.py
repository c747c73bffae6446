"""Graphs inside nodes (If, Loop, Scan): what lies inside is rewritten, what crosses the boundary stays."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from strategies import IR_VERSION

from compress.onnx_io.session import session
from compress.onnx_io.tensors import graphs
from compress.rewrite import explain, rewrite
from compress.rewrite.passes import merge_duplicates

F = np.float32
CHANNELS, HIDDEN, DEAD = 4, 8, [0, 3, 5, 6]


def node(operator, inputs, outputs, **attributes):
    return helper.make_node(operator, inputs.split(), outputs.split(" "), **attributes)


def graph(nodes, outputs, held=None, inputs=()):
    """Returns a graph to hold in a node; `inputs` are (name, type, shape)."""
    return helper.make_graph(
        nodes,
        "inner",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs.split(" ")],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (held or {}).items()],
    )


def matrix(name):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, (None, None))


def whole(nodes, outputs, held=None):
    """Returns a model that reads x."""
    inner = graph(nodes, outputs, held, [("x", TensorProto.FLOAT, (1, CHANNELS, 5, 5))])
    model = helper.make_model(inner, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", 17)])
    known = onnx.shape_inference.infer_shapes(model).graph.output
    for output, value in zip(model.graph.output, known, strict=True):
        output.CopyFrom(value if value.type.tensor_type.HasField("shape") else matrix(output.name))
    onnx.checker.check_model(model)
    return model


def layers(name, seed=0, bias=0.0):
    """Returns weights of two convolutions; half of the channels between them are dead, or hold `bias`."""
    generator = np.random.default_rng(seed)
    first = generator.standard_normal((HIDDEN, CHANNELS, 1, 1)).astype(F)
    first[DEAD] = 0
    shift = np.zeros(HIDDEN, F)
    shift[DEAD] = bias
    return {
        f"{name}1": first,
        f"{name}b": shift,
        f"{name}2": generator.standard_normal((CHANNELS, HIDDEN, 1, 1)).astype(F),
    }


def chain(weights, source, result, prefix=""):
    """Returns Conv → Relu → Conv; the names of tensors begin with `prefix`."""
    hidden, active = f"{prefix}hidden", f"{prefix}active"
    return [
        node("Conv", f"{source} {weights}1 {weights}b", hidden),
        node("Relu", hidden, active),
        node("Conv", f"{active} {weights}2", result),
    ]


def choice(first, second, outputs="y", condition="c"):
    return node("If", condition, outputs, name="choice", then_branch=first, else_branch=second)


CONDITION = [node("ReduceSum", "x", "sum", keepdims=0), node("Greater", "sum zero", "c")]
ZERO = {"zero": F(0)}


def weights_of(model):
    return sorted(
        tuple(tensor.dims) for inner in graphs(model.graph) for tensor in inner.initializer if len(tensor.dims) == 4
    )


def both(model):
    """Returns outputs on inputs of which each takes another branch."""
    running = session(model.SerializeToString())
    x = np.random.default_rng(5).standard_normal((1, CHANNELS, 5, 5)).astype(F)
    return [running.run(None, {"x": sign * (np.abs(x) + 0.1 * x)}) for sign in (1, -1)]


def proven(model):
    result = rewrite(model)
    assert result.proven, result.notes
    assert not [note for note in result.notes if "left out" in note], result.notes
    onnx.checker.check_model(result.model, full_check=True)
    for before, after in zip(both(model), both(result.model), strict=True):
        for expected, found in zip(before, after, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    return result


CUT = [(CHANNELS, HIDDEN - 4, 1, 1), (HIDDEN - 4, CHANNELS, 1, 1)]


@pytest.mark.parametrize("bias", [0.0, 2.0])
@pytest.mark.parametrize("place", ["inside", "outside"])
def test_each_branch_loses_its_dead_channels(place, bias):
    """Both branches name their tensors alike, as branches may."""
    a, b = layers("a", 1, bias), layers("b", 2, bias)
    inside = place == "inside"
    first = graph(chain("a", "x", "r"), "r", a if inside else {})
    second = graph(chain("b", "x", "r"), "r", b if inside else {})
    result = proven(whole([*CONDITION, choice(first, second)], "y", ZERO | ({} if inside else a | b)))
    assert weights_of(result.model) == sorted(CUT * 2)
    assert result.channels_removed == 8
    assert "4 channels removed, in then_branch of 'choice'" in result.notes


def test_a_weight_that_is_listed_as_an_input_goes_with_its_entry():
    a = layers("a")
    first = graph([*chain("a", "x", "q", "then_"), node("Neg", "q", "r")], "r")
    model = whole([*CONDITION, choice(first, graph([node("Relu", "x", "r")], "r"))], "y", ZERO | a)
    model.graph.input.append(helper.make_tensor_value_info("a1", TensorProto.FLOAT, a["a1"].shape))
    result = proven(model)
    assert weights_of(result.model) == CUT
    assert [value.name for value in result.model.graph.input] == ["x"]


def test_what_crosses_the_boundary_stays():
    """The first convolution lies outside, the second inside; and what comes out is read outside."""
    a = layers("a")
    first = graph([node("Conv", "h a2", "r")], "r")
    second = graph([node("Conv", "h a2", "q"), node("Neg", "q", "r")], "r")
    result = proven(whole([*CONDITION, node("Conv", "x a1", "h"), choice(first, second)], "y", ZERO | a))
    assert weights_of(result.model) == [(CHANNELS, HIDDEN, 1, 1), (HIDDEN, CHANNELS, 1, 1)]


def test_a_weight_that_both_branches_read_is_cut_in_both():
    a = layers("a")
    first = graph(chain("a", "x", "r", "then_"), "r")
    second = graph([*chain("a", "x", "q", "else_"), node("Neg", "q", "r")], "r")
    result = proven(whole([*CONDITION, choice(first, second)], "y", ZERO | a))
    assert weights_of(result.model) == sorted(CUT * 2)


def test_a_weight_that_is_read_whole_elsewhere_is_not_stored_twice():
    """Outside, its channels are an output; a cut copy beside it would be larger than nothing."""
    a = layers("a")
    first, second = graph(chain("a", "x", "r"), "r"), graph([node("Relu", "x", "r")], "r")
    beside = [node("Conv", "x a1 ab", "z"), node("Conv", "w a2", "v"), node("Exp", "z", "w")]
    nodes = [*CONDITION, beside[0], beside[2], beside[1], choice(first, second)]
    result = proven(whole(nodes, "y z v", ZERO | a))
    assert weights_of(result.model) == [(CHANNELS, HIDDEN, 1, 1), (HIDDEN, CHANNELS, 1, 1)]
    assert result.params_after <= result.params_before


def test_new_constants_get_names_that_mean_nothing_outside():
    """A constant that goes becomes a bias of the second convolution; its name is taken outside."""
    a = layers("a", bias=1.0)
    first, second = graph(chain("a", "x", "r"), "r", a), graph([node("Relu", "x", "r")], "r")
    taken = {"r.bias": np.ones((1, CHANNELS, 1, 1), F)}
    result = proven(whole([*CONDITION, choice(first, second, "q"), node("Mul", "q r.bias", "y")], "y", ZERO | taken))
    assert weights_of(result.model)[-2:] == CUT
    inner = [tensor.name for g in graphs(result.model.graph) if g.name == "inner" for tensor in g.initializer]
    assert len(set(inner)) == len(inner)


def test_branches_inside_branches_are_reached():
    a, b = layers("a", 1), layers("b", 2)
    deep = choice(graph(chain("a", "x", "r"), "r", a), graph(chain("b", "x", "r"), "r"), "s")
    first = graph([deep, node("Relu", "s", "t")], "t")
    result = proven(whole([*CONDITION, choice(first, graph([node("Neg", "x", "t")], "t"))], "y", ZERO | b))
    assert weights_of(result.model) == sorted(CUT * 2)


def test_the_body_of_a_loop_is_rewritten():
    a = layers("a")
    a["a2"] *= 0.1
    body = graph(
        [*chain("a", "state", "next"), node("Identity", "go", "on")], "next",
        inputs=[("i", TensorProto.INT64, ()), ("go", TensorProto.BOOL, ()),
                ("state", TensorProto.FLOAT, (1, CHANNELS, 5, 5))],
    )  # fmt: skip
    body.output.insert(0, helper.make_tensor_value_info("on", TensorProto.BOOL, ()))
    loop = node("Loop", "count true x", "y", name="loop", body=body)
    result = proven(whole([loop], "y", a | {"count": np.int64(3), "true": np.array(True)}))
    assert weights_of(result.model) == CUT
    assert "4 channels removed, in body of 'loop'" in result.notes


def test_the_body_of_a_scan_is_rewritten():
    """It goes over the rows of x; the weights are matrices."""
    generator = np.random.default_rng(0)
    first, second = generator.standard_normal((5, 6)).astype(F), generator.standard_normal((6, 5)).astype(F)
    first[:, [1, 2]] = 0
    nodes = [node("MatMul", "row first", "h"), node("Relu", "h", "a"), node("MatMul", "a second", "r"),
             node("Add", "state r", "next"), node("Identity", "next", "each")]  # fmt: skip
    rows = [("state", TensorProto.FLOAT, (1, CHANNELS, 5)), ("row", TensorProto.FLOAT, (1, CHANNELS, 5))]
    body = graph(nodes, "next each", {"first": first, "second": second}, rows)
    start = {"start": np.zeros((1, CHANNELS, 5), F)}
    scan = node("Scan", "start x", "last y", body=body, num_scan_inputs=1, scan_input_axes=[2], scan_output_axes=[2])
    result = proven(whole([scan], "y last", start))
    (inner,) = (g for g in graphs(result.model.graph) if g is not result.model.graph)
    assert sorted(tuple(t.dims) for t in inner.initializer if len(t.dims) == 2) == [(4, 5), (5, 4)]


def test_a_choice_that_is_none_becomes_part_of_the_graph():
    """Both branches use names of each other and of the graph around them."""
    a, b = layers("a", 1), layers("b", 2)
    first, second = graph(chain("a", "h", "r"), "r", a), graph(chain("b", "h", "r"), "r", b)
    held = {"c": np.array(False), "w": np.random.default_rng(3).standard_normal((CHANNELS, CHANNELS, 1, 1)).astype(F)}
    nodes = [
        node("Conv", "x w", "h"),
        choice(first, second, "q"),
        node("Relu", "q", "hidden2"),
        node("Neg", "hidden2", "y"),
    ]
    result = proven(whole(nodes, "y", held))
    assert "If" not in {n.op_type for n in result.model.graph.node}
    # What a branch computes counts before as well: 25 places, 4 · 4, and twice 4 · 8 or 4 · 4.
    assert (result.macs_before, result.macs_after) == (25 * (16 + 2 * 32), 25 * (16 + 2 * 16))
    assert weights_of(result.model) == sorted([*CUT, (CHANNELS, CHANNELS, 1, 1)])


def test_choices_inside_choices_are_opened_before_anything_else_is_sought(monkeypatch):
    """The dearest analysis waits until all is in sight."""
    sought = []
    monkeypatch.setattr(merge_duplicates, "all_apart", lambda known, *_: sought.append(known) or True)
    inner = choice(graph([node("Exp", "r", "t")], "t"), graph([node("Neg", "r", "t")], "t"), "s", "always")
    first = graph([node("Relu", "h", "r"), inner, node("Add", "r s", "q")], "q")
    second = graph([node("Neg", "h", "q")], "q")
    weight = np.random.default_rng(0).standard_normal((CHANNELS, CHANNELS, 1, 1)).astype(F)
    nodes = [node("Conv", "x w", "h"), choice(first, second, "y", "always")]
    result = proven(whole(nodes, "y", {"w": weight, "always": np.array(True)}))
    assert [n.op_type for n in result.model.graph.node] == ["Conv", "Relu", "Exp", "Add"]
    assert len(sought) == 1


@pytest.mark.parametrize("value", [True, False])
def test_outputs_of_an_inlined_branch_keep_their_names(value):
    """An output that is a constant, and one that another inner graph reads."""
    inner = choice(graph([node("Exp", "r", "t")], "t"), graph([node("Neg", "r", "t")], "t"), "s")
    first = graph(
        [node("Relu", "x", "r"), inner, node("Add", "r s", "q"), node("Constant", "", "k", value_floats=[1.0, 2.0])],
        "r k q",
    )
    second = graph(
        [node("Neg", "x", "r"), node("Abs", "x", "q"), node("Constant", "", "k", value_floats=[3.0, 4.0])], "r k q"
    )
    model = whole([*CONDITION, choice(first, second, "y k q", "always")], "y k q", ZERO | {"always": np.array(value)})
    result = proven(model)
    assert [output.name for output in result.model.graph.output] == ["y", "k", "q"]
    assert [n.op_type for n in result.model.graph.node].count("If") == int(value)


def test_weights_that_inner_graphs_read_stay_where_they_are_stored_once():
    """What a pass changes elsewhere must not copy them into each branch."""
    a, b = layers("a"), layers("b", 2)
    a["a1"][DEAD] = np.random.default_rng(7).standard_normal((len(DEAD), CHANNELS, 1, 1))
    first = graph(chain("a", "x", "r"), "r")
    second = graph([*chain("a", "x", "q"), node("Neg", "q", "r")], "r")
    result = proven(whole([*CONDITION, choice(first, second, "q"), *chain("b", "q", "y", "m")], "y", ZERO | a | b))
    names = [tensor.name for inner in graphs(result.model.graph) for tensor in inner.initializer]
    assert sorted(names) == sorted(set(names))
    assert weights_of(result.model) == sorted([(CHANNELS, HIDDEN, 1, 1), (HIDDEN, CHANNELS, 1, 1), *CUT])


def test_layers_inside_are_explained():
    first, second = graph(chain("a", "x", "r"), "r", layers("a")), graph([node("Relu", "x", "r")], "r")
    found = explain(whole([*CONDITION, choice(first, second)], "y", ZERO))
    assert [(layer.op, layer.channels, layer.dead) for layer in found.layers] == [
        ("Conv", HIDDEN, 4),
        ("Conv", CHANNELS, 0),
    ]


@pytest.mark.parametrize("seed", range(12))
def test_any_control_flow_keeps_its_outputs(seed):
    """Random nests of choices, known and not, around layers whose weights lie inside, outside, or in both."""
    generator = np.random.default_rng(seed)
    outer = dict(ZERO) | {"true": np.array(True), "false": np.array(False)}

    def body(source, result, depth, count=[0]):  # noqa: B006
        count[0] += 1
        prefix, name, held = f"n{count[0] if generator.random() < 0.7 else 0}_{depth}_", f"w{count[0]}", {}
        if depth == 0 or generator.random() < 0.3:
            made = layers(name, count[0], float(generator.choice([0, 0, 1])))
            reuse = [key[:-1] for key in outer if key.endswith("2")]
            if reuse and generator.random() < 0.3:
                name = str(generator.choice(reuse))
            elif generator.random() < 0.5:
                outer.update(made)
            else:
                held = made
            return chain(name, source, result, prefix), held
        condition = str(generator.choice(["c", "c", "true", "false"]))
        branches = []
        for _ in range(2):
            nodes, own = body(source if generator.random() < 0.5 else "x", f"{prefix}r", depth - 1)
            branches.append(graph(nodes, f"{prefix}r", own))
        after, more = body(f"{prefix}s", result, 0)
        return [choice(*branches, f"{prefix}s", condition), *after], more

    nodes, held = body("x", "y", 2)
    result = proven(whole([*CONDITION, *nodes], "y", outer | held))
    assert result.params_after <= result.params_before
