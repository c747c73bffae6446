"""Kernels with zeros: positions, stripes and columns that hold nothing are not computed, and outputs stay."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from onnx import helper
from strategies import make_model

from compress.channels.graph import Node
from compress.channels.trace import trace
from compress.onnx_io.graph import channel_graph
from compress.onnx_io.session import session
from compress.recipe import RewriteSettings
from compress.rewrite import explain, rewrite
from compress.rewrite.kernel_plans import MEASURED, MEASURED_INT8, WHATEVER, Cost, Stripes, Tolls, cheapest, plans
from compress.rewrite.kernels import Convolved, Kernel, Span, convolutions
from compress.rewrite.passes.split_kernels import Split

F = np.float32


def node(operator, inputs, outputs, **attributes):
    return helper.make_node(operator, inputs.split(), outputs.split(), **attributes)


def network(weight, *, size=12, bias=True, sizes=None, opset=17, **attributes):
    """Returns x → Conv → Relu → y."""
    rank, groups = weight.ndim - 2, attributes.get("group", 1)
    held = {"w": weight.astype(F)} | ({"b": np.arange(1, len(weight) + 1, dtype=F)} if bias else {})
    conv = node("Conv", "x w b" if bias else "x w", "c", name="conv", **attributes)
    shape = (1, weight.shape[1] * groups, *(sizes or [size] * rank))
    return make_model([conv, node("Relu", "c", "y")], {"x": shape}, {"y": None if opset else ()}, held, opset=opset)


def with_outputs(model):
    """Gives the output its rank, as the checker wants it."""
    rank = len(model.graph.input[0].type.tensor_type.shape.dim)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, [None] * rank))
    return model


def drawn(filters, inputs, kernel, positions, seed=0):
    """Returns a weight with entries at some positions only, given as pairs."""
    weight = np.zeros((filters, inputs, *kernel), F)
    for position in positions:
        weight[(slice(None), slice(None), *position)] = np.random.default_rng(seed).standard_normal((filters, inputs))
        seed += 1
    return weight


def proven(model, **settings):
    model = with_outputs(model)
    result = rewrite(model, RewriteSettings(**settings))
    assert result.proven, result.notes
    assert not [note for note in result.notes if "left out" in note or "kept" in note], result.notes
    shape = [d.dim_value or 7 for d in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(3).standard_normal(shape).astype(F)
    before, after = (session(m.SerializeToString()).run(None, {"x": x})[0] for m in (model, result.model))
    assert before.shape == after.shape
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)
    assert result.macs_after <= result.macs_before
    assert result.file_bytes_after <= result.file_bytes_before
    return result


def of(model, operator="Conv"):
    return [n for n in model.graph.node if n.op_type == operator]


def attributes(n):
    plain = {"strides": [1, 1], "dilations": [1, 1], "pads": [0, 0, 0, 0]}
    return plain | {a.name: helper.get_attribute_value(a) for a in n.attribute}


def shapes(model):
    return {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}


# Positions


CROPS = {
    "a row": ([(1, 0), (1, 1), (1, 2)], (1, 3), [0, 1, 0, 1], [1, 1]),
    "a column": ([(0, 1), (2, 1)], (2, 1), [1, 0, 1, 0], [2, 1]),
    "the centre": ([(1, 1)], (1, 1), [0, 0, 0, 0], [1, 1]),
    "two corners": ([(0, 0), (2, 2)], (2, 2), [1, 1, 1, 1], [2, 2]),
    "the upper rows": ([(0, 0), (1, 2)], (2, 2), [1, 1, 0, 1], [1, 2]),
}


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", CROPS)
def test_positions_that_hold_nothing_go(name, groups, stride):
    positions, kernel, pads, dilations = CROPS[name]
    weight = drawn(4, 4, (3, 3), positions)
    model = network(weight, pads=[1] * 4, strides=[stride] * 2, group=groups)
    result = proven(model, stripes="never")
    (conv,) = of(result.model)
    assert (attributes(conv)["pads"], attributes(conv)["dilations"]) == (pads, dilations)
    assert shapes(result.model)["w"][2:] == kernel


@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("pads", [[0] * 4, [2, 0, 1, 3], [3, 4, 0, 0]])
@pytest.mark.parametrize("seed", range(3))
def test_any_positions_with_any_padding_keep_the_outputs(seed, pads, dilation):
    generator = np.random.default_rng(seed)
    kernel = tuple(generator.integers(2, 6, 2))
    used = [tuple(p) for p in np.argwhere(generator.random(kernel) < 0.2)] or [(0, kernel[1] - 1)]
    for stripes in ("never", "always"):
        proven(network(drawn(8, 4, kernel, used), pads=pads, dilations=[dilation] * 2, size=17), stripes=stripes)


def test_the_input_is_cut_where_that_is_cheaper_than_computing_zeros():
    weight = drawn(64, 64, (3, 3), [(2, 2)])
    result = proven(network(weight, size=20))
    assert result.macs_after == 18 * 18 * 64 * 64
    assert [n.op_type for n in result.model.graph.node] == ["Slice", "Conv", "Relu"]


def test_padding_that_the_runtime_works_out_is_written_down():
    for automatic, stride, kernel in (("SAME_UPPER", 1, [2, 1]), ("SAME_LOWER", 2, [2, 2]), ("VALID", 1, [4, 4])):
        weight = drawn(4, 4, (4, 4), [(1, 1), (2, 1)])
        model = network(weight, auto_pad=automatic, strides=[stride] * 2, size=11)
        result = proven(model, stripes="never")
        # Without padding there is none to take away, and little is saved by cutting the input.
        assert shapes(result.model)["w"] == (4, 4, *kernel)


def test_padding_that_follows_from_a_free_size_stays():
    weight = drawn(4, 4, (3, 3), [(1, 1)])
    model = network(weight, auto_pad="SAME_UPPER", strides=[2, 2], sizes=["H", "W"])
    assert shapes(proven(model).model)["w"] == (4, 4, 3, 3)
    model = network(weight, auto_pad="SAME_UPPER", sizes=["H", "W"])
    assert shapes(proven(model).model)["w"] == (4, 4, 1, 1)


@pytest.mark.parametrize("rank", [1, 3])
def test_kernels_of_other_ranks_are_cropped(rank):
    kernel = (3,) * rank
    weight = drawn(4, 4, kernel, [(1,) * rank, (2,) + (1,) * (rank - 1)])
    result = proven(network(weight, pads=[1] * 2 * rank, size=6))
    assert shapes(result.model)["w"] == (4, 4, 2, *[1] * (rank - 1))


def test_a_weight_that_two_convolutions_share_is_cropped_for_both():
    weight = drawn(4, 4, (3, 3), [(1, 1), (1, 2)])
    nodes = [
        node("Conv", "x w", "a", pads=[1] * 4),
        node("Relu", "a", "b"),
        node("Conv", "b w", "y", pads=[1] * 4, strides=[2, 2]),
    ]
    result = proven(make_model(nodes, {"x": (1, 4, 9, 9)}, {"y": None}, {"w": weight}))
    assert [shapes(result.model)[conv.input[1]] for conv in of(result.model)] == [(4, 4, 1, 2)] * 2


# Stripes and columns


def striped(filters, inputs, counts, seed=0, kernel=(3, 3)):
    """Returns a weight whose filter o has `counts[o % len(counts)]` stripes at random positions."""
    generator = np.random.default_rng(seed)
    weight = generator.standard_normal((filters, inputs, *kernel)).astype(F) / 4
    for o in range(filters):
        gone = generator.permutation(np.prod(kernel))[counts[o % len(counts)] :]
        weight.reshape(filters, inputs, -1)[o][:, gone] = 0
    return weight


def columned(filters, inputs, counts, seed=0):
    return np.ascontiguousarray(striped(inputs, filters, counts, seed).transpose(1, 0, 2, 3))


@pytest.mark.parametrize("make", [striped, columned])
@pytest.mark.parametrize("counts", [(1,), (2,), (3,), (1, 2), (1, 4, 1, 2)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("stripes", ["auto", "always"])
def test_fewer_stripes_and_columns_are_fewer_multiply_accumulates(make, counts, stride, stripes):
    weight = make(32, 32, counts)
    result = proven(network(weight, pads=[1] * 4, strides=[stride] * 2, size=24), stripes=stripes)
    # Stripes are mixed at every position of the input, of which a stride leaves out most.
    if stride == 1 or (make is columned and stripes == "always"):
        assert result.macs_after < 0.75 * result.macs_before


def test_all_macs_of_columns_of_zeros_are_saved():
    """35 of 288 columns: one block of 32, and the 3 others beside it."""
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((32, 32, 3, 3)).astype(F)
    gone = np.ones(288, bool)
    gone[generator.permutation(288)[:35]] = False
    weight.reshape(32, 288)[:, gone] = 0
    result = proven(network(weight, pads=[1] * 4, size=24), stripes="always")
    assert result.macs_after == 24 * 24 * 35 * (32 + 9)


def test_stripes_of_filters_that_differ_much_are_added_up():
    """70 of 288 stripes: 17 blocks of 4, and 2 beside them."""
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((32, 32, 3, 3)).astype(F)
    gone = np.ones(288, bool)
    gone[generator.permutation(288)[:70]] = False
    weight = np.where(gone.reshape(32, 3, 3)[:, None], 0, weight)
    node = Node("Conv", "conv", ("x", "w"), ("c",))
    kernel = Kernel(tuple(Span(3, 1, 1, 1, 1) for _ in range(2)), 1)
    one = Convolved(node, kernel, weight, weight != 0, (24, 24), (24, 24))
    (plan,) = [plan for plan in plans(one, MEASURED) if isinstance(plan, Stripes)]
    assert [len(block) for block in plan.blocks] == [68, 2]
    assert plan.cost.macs == 24 * 24 * 70 * (32 + 9 + 32)
    model = with_outputs(network(weight, pads=[1] * 4, size=24))
    graph = gs.import_onnx(model)
    Split(graph, graph.nodes[0], one).into(plan)
    after = gs.export_onnx(graph.cleanup().toposort())
    after.ir_version = model.ir_version
    x = np.random.default_rng(3).standard_normal((1, 32, 24, 24)).astype(F)
    first, second = (session(m.SerializeToString()).run(None, {"x": x})[0] for m in (model, after))
    np.testing.assert_allclose(second, first, rtol=1e-4, atol=1e-4)


def test_filters_are_regrouped_by_the_positions_that_they_use():
    """Half of them use one row, the others one column, in turn."""
    weight = np.zeros((32, 32, 5, 5), F)
    weight[::2, :, 2, :] = np.random.default_rng(0).standard_normal((16, 32, 5))
    weight[1::2, :, :, 2] = np.random.default_rng(1).standard_normal((16, 32, 5))
    result = proven(network(weight, pads=[2] * 4, size=20))
    assert sorted(shapes(result.model)[conv.input[1]][2:] for conv in of(result.model)) == [(1, 5), (5, 1)]
    assert result.macs_after * 5 == result.macs_before
    assert len(of(result.model, "Gather")) == 1


def test_each_plan_is_taken_where_it_is_cheapest():
    def plan(weight, tolls=MEASURED, stride=1, size=28):
        kernel = Kernel(tuple(Span(3, stride, 1, 1, 1) for _ in range(2)), 1)
        node = Node("Conv", "conv", ("x", "w"), ("c",))
        return cheapest(Convolved(node, kernel, weight, weight != 0, (size,) * 2, (size // stride,) * 2), tolls)

    assert str(plan(striped(64, 64, (2,)))) == "2 ranks of stripes"
    assert str(plan(columned(64, 64, (2,)))) == "2 ranks of columns"
    assert str(plan(columned(64, 64, (1, 1, 1, 6)))) == "144 columns"
    assert str(plan(striped(64, 64, (0, 1, 1, 0, 3)), size=8)) == "62 stripes"
    # Two stripes beside 15 blocks are not worth it in integers.
    assert not isinstance(plan(striped(64, 64, (0, 1, 1, 0, 3)), MEASURED_INT8, size=8), Stripes)
    assert str(plan(columned(256, 256, (1,)), MEASURED_INT8, size=7)) == "1 ranks of columns"
    assert plan(striped(64, 64, (9,))) is None
    # Half of the multiply-accumulates are not worth their moves where there are few channels.
    assert plan(striped(16, 16, (4,))) is None
    assert plan(striped(16, 16, (4,)), WHATEVER) is not None
    # Stripes are mixed at every position of the input, of which a stride leaves out most.
    assert plan(striped(64, 64, (4,)), stride=2) is None


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("tolls", [WHATEVER, Tolls(0, 0), Tolls(0, 2_000)])
def test_no_plan_within_a_limit_is_left_out(seed, tolls):
    generator = np.random.default_rng(seed)
    filters, inputs, size, stride = 8, int(generator.choice([4, 6])), 6, 1 + seed % 2
    weight = generator.standard_normal((filters, inputs, 3, 3)).astype(F)
    weight[generator.random((filters, inputs, 3, 3)) < generator.choice([0, 0.1])] = 0
    weight[np.broadcast_to(generator.random((filters, 1, 3, 3)) < generator.choice([0, 0.02, 0.5]), weight.shape)] = 0
    weight[np.broadcast_to(generator.random((1, inputs, 3, 3)) < generator.choice([0, 0.02, 0.5]), weight.shape)] = 0
    kernel = Kernel(tuple(Span(3, stride, 1, 1, 1) for _ in range(2)), 1)
    node = Node("Conv", "conv", ("x", "w"), ("c",))
    one = Convolved(node, kernel, weight, weight != 0, (size,) * 2, (size // stride,) * 2)
    every = [tolls.of(plan.cost) for plan in plans(one, tolls)]
    for limit in every:
        within = [tolls.of(plan.cost) for plan in plans(one, tolls, limit)]
        assert [charge for charge in within if charge <= limit] == [charge for charge in every if charge <= limit]
    assert not every or list(plans(one, tolls, min(every) / 4)) == []


@pytest.mark.parametrize(("zeros", "count"), [(0, 0), (1, 1), (36, 0)])
def test_kernels_without_zeros_and_of_zeros_alone_are_not_looked_at(zeros, count):
    weight = np.ones(36, F)
    weight[:zeros] = 0
    known = trace(channel_graph(network(weight.reshape(2, 2, 3, 3))))
    assert len(list(convolutions(known))) == count


def test_filters_that_save_nothing_are_not_parted(monkeypatch):
    """One filter of 64 holds nothing, for instance because a bias stands for it: no plan could pay for its node."""
    monkeypatch.setattr("compress.rewrite.kernel_plans._parts", None)
    weight = striped(64, 64, (9,))
    weight[0] = 0
    kernel = Kernel(tuple(Span(3, 1, 1, 1, 1) for _ in range(2)), 1)
    node = Node("Conv", "conv", ("x", "w"), ("c",))
    assert cheapest(Convolved(node, kernel, weight, weight != 0, (28, 28), (28, 28)), MEASURED) is None


def test_a_charge_is_for_all_that_is_done():
    assert Tolls(2, 3).of(Cost(10, 5, 4, 100)) == 10 + 10 + 12


@pytest.mark.parametrize("stripes", ["auto", "always", "never"])
def test_what_is_split_is_not_split_again(stripes):
    model = network(striped(32, 32, (1, 2, 3)), pads=[1] * 4, size=24)
    once = proven(model, stripes=stripes)
    assert (once.macs_after == once.macs_before) == (stripes == "never")
    again = rewrite(once.model, RewriteSettings(stripes=stripes))
    assert again.macs_after == once.macs_after
    assert [n.op_type for n in again.model.graph.node] == [n.op_type for n in once.model.graph.node]


@pytest.mark.parametrize("seed", range(8))
def test_any_zeros_keep_the_outputs(seed):
    """Dead filters and inputs, stripes, columns and single zeros together, in two layers with a residual sum."""
    generator = np.random.default_rng(seed)
    held, nodes = {}, []
    for index in range(2):
        weight = generator.standard_normal((16, 16, 3, 3)).astype(F) / 8
        weight *= generator.random((16, 1, 3, 3)) < generator.choice([0.3, 1])
        weight *= generator.random((1, 16, 3, 3)) < generator.choice([0.3, 1])
        weight *= generator.random((16, 1, 1, 1)) < 0.8
        held |= {f"w{index}": weight, f"b{index}": generator.standard_normal(16).astype(F)}
        dilation = int(generator.integers(1, 3))
        nodes.append(
            node(
                "Conv",
                f"{'x' if index == 0 else 'r'} w{index} b{index}",
                f"c{index}",
                pads=[dilation] * 4,
                dilations=[dilation] * 2,
            )
        )
        nodes.append(node("Relu", "c0", "r") if index == 0 else node("Add", "c1 x", "y"))
    for stripes in ("auto", "always"):
        proven(make_model(nodes, {"x": ("N", 16, 12, "W")}, {"y": None}, held), stripes=stripes)


def test_weights_that_are_computed_or_in_half_precision_stay():
    weight = striped(32, 32, (1,)).astype(np.float16)
    nodes = [node("Cast", "w", "v", to=1), node("Conv", "x v", "c", pads=[1] * 4), node("Relu", "c", "y")]
    result = proven(make_model(nodes, {"x": (1, 32, 24, 24)}, {"y": None}, {"w": weight}))
    assert len(of(result.model)) == 1


# What is said of it


def test_what_holds_nothing_is_explained():
    weight = np.zeros((32, 32, 3, 3), F)
    weight[:, :, 1:, :] = striped(32, 32, (2,), kernel=(2, 3))
    model = with_outputs(network(weight, pads=[1] * 4, size=24))
    (layer,) = explain(model).layers
    assert (layer.positions, layer.stripes, layer.columns) == (3, 32 * 4, 0)
    assert layer.kernel.endswith("a kernel of 2×3 holds the others; computed as 2 ranks of stripes")
    assert (
        "conv: 3 of 9 positions of its kernel and 128 of 192 stripes hold nothing: a kernel of 2×3 holds the others; "
        in (explain(model).markdown())
    )
    (layer,) = explain(model, RewriteSettings(stripes="never")).layers
    assert layer.kernel.endswith("not split: stripes = never")
    (layer,) = explain(with_outputs(network(striped(8, 8, (5,)), pads=[1] * 4))).layers
    assert layer.kernel.endswith("not split: to put the parts together takes more than they save")
    assert "stripes" not in explain(with_outputs(network(striped(8, 8, (9,))))).markdown()
