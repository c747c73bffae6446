"""What a rewrite does once is done once: counted, since no test can time it."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from topologies import masked

from compress.channels.graph import Graph
from compress.channels.rules import windowed
from compress.channels.windows import windows
from compress.onnx_io.parts import FileParts
from compress.onnx_io.runtime import RemoteSession, Runtime, borrowed_runtime, prepare_runtime
from compress.onnx_io.weights import Parted, take_apart
from compress.recipe import RewriteSettings
from compress.rewrite import analysis, rewrite, rewrite_file, sources
from compress.rewrite.passes import passes
from compress.rewrite.proof import Judge, prove
from compress.rewrite.workpiece import Workpiece

CHANNELS = 48


def network(*, dead: int = 0, zero_bias: bool = False, shared: bool = False, batch: int | str = 1) -> ModelProto:
    """Two convolutions, some channels of the first zero; with a bias of zeros at the first, or one shared by both."""
    generator = np.random.default_rng(0)
    first, second = generator.standard_normal((2, CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
    first[:dead] = 0
    weights = {"first": first, "second": second}
    if zero_bias or shared:
        weights["bias"] = np.zeros(CHANNELS, np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "first", *(["bias"] if zero_bias or shared else [])], ["h"], pads=[1] * 4),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Conv", ["r", "second", *(["bias"] if shared else [])], ["y"], pads=[1] * 4),
    ]
    shape = (batch, CHANNELS, 6, 6)
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts analyses, shape inferences, imports and exports."""
    counts: Counter[str] = Counter()

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **keywords: Any) -> Any:
            counts[name] += 1
            return function(*args, **keywords)

        return run

    for owner, name in (
        (analysis, "trace"),
        (analysis, "evaluated"),
        (analysis, "completed"),
        (onnx.shape_inference, "infer_shapes"),
        (gs, "import_onnx"),
        (gs, "export_onnx"),
    ):
        monkeypatch.setattr(owner, name, counted(name, getattr(owner, name)))
    monkeypatch.setattr("compress.onnx_io.inference.shape_inference.infer_shapes", onnx.shape_inference.infer_shapes)
    return counts


def test_a_model_that_nothing_changes_is_analysed_once(calls: Counter[str]) -> None:
    assert rewrite(network()).proven
    # Shapes that are inferred for the analysis serve the costs.
    assert calls == {"trace": 1, "infer_shapes": 1, "import_onnx": 1}


def test_what_is_known_of_what_is_left_follows(calls: Counter[str]) -> None:
    result = rewrite(network(dead=5, zero_bias=True))
    assert result.channels_removed == 5
    # Two passes change something; without a bias of zeros all that is known holds on, and of what is left no less.
    assert calls == {"trace": 1, "infer_shapes": 1, "import_onnx": 1, "export_onnx": 1}


@pytest.mark.parametrize("style", ["zero", "constant"])
@pytest.mark.parametrize("name", ["plain", "dense", "shuffle", "squeeze-excite", "transformer"])
def test_the_shapes_of_what_is_left_are_those_that_are_inferred(
    name: str, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    original = analysis.channel_graph

    def derived_and_inferred(model: ModelProto, weights: dict[str, np.ndarray], sized: Graph | None) -> Graph:
        found.append((original(model, weights, sized), original(model, weights), sized))
        return found[-1][0]

    monkeypatch.setattr(analysis, "channel_graph", derived_and_inferred)
    assert rewrite(masked(name, style, "unaligned")[1]).channels_removed
    assert found[-1][2] is not None
    for derived, inferred, _ in found:
        named = {one for node in inferred.nodes for one in (*node.inputs, *node.outputs) if one}
        for part in ("shapes", "elements", "types", "dynamic"):
            mine, theirs = ({k: v for k, v in getattr(g, part).items() if k in named} for g in (derived, inferred))
            assert mine == theirs


@pytest.mark.parametrize("style", ["zero", "constant"])
def test_shapes_are_inferred_for_the_original_alone(style: str, calls: Counter[str]) -> None:
    """Where constants go, a sum is put behind a product that has no bias."""
    assert rewrite(masked("transformer", style, "unaligned")[1]).channels_removed
    # Two examples of the batch axis.
    assert calls["infer_shapes"] == 2


def test_a_bias_of_zeros_that_ties_two_layers_is_analysed_without(calls: Counter[str]) -> None:
    result = rewrite(network(dead=5, shared=True))
    assert result.channels_removed == 5
    assert calls["trace"] + calls["completed"] == 2


def test_opening_a_graph_costs_an_analysis_of_values_for_each_depth(calls: Counter[str]) -> None:
    """What is done with a rank is decided by branches inside branches; only what they have come to is traced."""

    def chosen(name: str, read: str, operator: str, *inner: NodeProto) -> list[NodeProto]:
        """If read has two axes, what is inside or the operator; else nothing is done."""
        result = helper.make_tensor_value_info(f"{name}.then", TensorProto.FLOAT, None)
        other = helper.make_tensor_value_info(f"{name}.else", TensorProto.FLOAT, None)
        branches = {
            "then_branch": helper.make_graph(
                [*inner, helper.make_node(operator, [inner[-1].output[0] if inner else read], [result.name])],
                f"{name}.1",
                [],
                [result],
            ),
            "else_branch": helper.make_graph(
                [helper.make_node("Squeeze", [read], [other.name])], f"{name}.2", [], [other]
            ),
        }
        return [
            helper.make_node("Shape", [read], [f"{name}.sizes"]),
            helper.make_node("Size", [f"{name}.sizes"], [f"{name}.rank"]),
            helper.make_node("Equal", [f"{name}.rank", "two"], [f"{name}.which"]),
            helper.make_node("If", [f"{name}.which"], [name], **branches),
        ]

    nodes = chosen("y", "x", "Relu", *chosen("inside", "x", "Abs"))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 4))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("N", 4))],
        [numpy_helper.from_array(np.array(2), "two")],
    )
    result = rewrite(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    assert result.proven
    assert [node.op_type for node in result.model.graph.node] == ["Abs", "Relu"]
    assert {name: calls[name] for name in ("trace", "evaluated", "completed")} == {
        "trace": 1,
        "evaluated": 2,
        "completed": 1,
    }


def test_free_axes_are_inferred_for_each_example_and_no_more(calls: Counter[str]) -> None:
    assert rewrite(network(batch="N")).proven
    # Two examples of the free axis, of which the first serves the cost.
    assert calls["infer_shapes"] == 2


def free_sides(only: int | None = None) -> ModelProto:
    """y = x + 1 over two free axes; through a reshape that takes but one size, if `only` says so."""
    nodes = [helper.make_node("Add", ["x", "one"], ["h"])]
    constants = {"one": np.ones(1, np.float32)}
    if only:
        nodes += [helper.make_node("Reshape", ["h", "sizes"], ["y"])]
        constants["sizes"] = np.array([-1, only // 2, 2])
    else:
        nodes += [helper.make_node("Relu", ["h"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("H", "W"))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (None,) * (3 if only else 2))],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(("only", "magnitudes"), [(None, {1.0}), (512, {0.0, 1e-3, 1.0, 100.0})])
def test_large_inputs_are_tried_once_unless_nothing_else_runs(
    monkeypatch: pytest.MonkeyPatch, only: int | None, magnitudes: set[float]
) -> None:
    tried: set[float] = set()
    run = RemoteSession.run

    def watched(session: RemoteSession, feeds: Any) -> Any:
        if feeds["x"].shape[1] == 512:
            scale = np.abs(feeds["x"]).mean() / np.sqrt(2 / np.pi)
            tried.add(0.0 if scale == 0 else 10.0 ** round(np.log10(scale)))
        return run(session, feeds)

    monkeypatch.setattr(RemoteSession, "run", watched)
    model = free_sides(only)
    assert prove(model, model, tolerance=1e-6).holds
    assert tried == magnitudes


@pytest.mark.parametrize(("dead", "runs"), [(0, 2), (5, 8)])
def test_what_no_pass_has_changed_is_compared_once(monkeypatch: pytest.MonkeyPatch, dead: int, runs: int) -> None:
    counts: Counter[str] = Counter()
    run = RemoteSession.run

    def counted(session: RemoteSession, feeds: Any) -> Any:
        counts["runs"] += 1
        return run(session, feeds)

    monkeypatch.setattr(RemoteSession, "run", counted)
    assert rewrite(network(dead=dead)).proven
    assert counts["runs"] == runs


def test_a_proof_makes_no_files_of_models_that_fit_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "TemporaryDirectory", lambda **_: pytest.fail("a folder is made"))
    assert rewrite(network(dead=5)).proven


def test_nobody_waits_for_a_model_to_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []
    receive = Runtime._receive
    monkeypatch.setattr(Runtime, "_receive", lambda runtime: (waited.append(runtime._owed), receive(runtime))[1])
    with Judge(FileParts(network()), 1e-5) as judge:
        assert judge.prove(FileParts(network()), once=True).holds
        waited.clear()
    prepare_runtime()
    assert not waited
    with borrowed_runtime() as runtime:
        assert runtime._owed == 2
        runtime.settle()
    assert len(waited) == 2


def test_the_runtime_opens_the_original_while_it_is_analysed(monkeypatch: pytest.MonkeyPatch) -> None:
    opening: list[bool] = []
    wait = RemoteSession.wait
    original = analysis.trace

    def traced(*args: Any, **keywords: Any) -> Any:
        opening.append(False)
        return original(*args, **keywords)

    def waited(session: RemoteSession) -> None:
        opening.append(session._asked)
        wait(session)

    monkeypatch.setattr(analysis, "trace", traced)
    monkeypatch.setattr(RemoteSession, "wait", waited)
    assert rewrite(network()).proven
    assert opening[:2] == [False, True]


def test_each_file_is_laid_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    laid_out: list[ModelProto | Parted] = []
    made = FileParts.__init__
    monkeypatch.setattr(FileParts, "__init__", lambda parts, model: (laid_out.append(model), made(parts, model))[1])
    result = rewrite(network(dead=5))
    assert result.proven
    assert len(laid_out) == 2


def test_weights_are_decoded_once_and_never_copied() -> None:
    parted = take_apart(network(zero_bias=True))
    piece = Workpiece(parted, RewriteSettings())
    known = piece.trace
    assert np.shares_memory(known.values["first"], parted.weights["first"])
    assert np.shares_memory(known.full("first"), parted.weights["first"])
    assert piece.apply(passes.get("drop-zero-bias"))
    assert piece.model.weights["first"] is parted.weights["first"]
    assert np.shares_memory(piece.trace.values["first"], parted.weights["first"])
    assert not parted.weights["first"].flags.writeable


def test_a_file_is_written_from_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "before.onnx", tmp_path / "after.onnx"
    onnx.save(network(dead=5), source)
    with monkeypatch.context() as watched:
        watched.setattr(Parted, "model", lambda _: pytest.fail("it is put together"))
        result = rewrite_file(source, target)
    assert result.proven
    assert target.read_bytes() == result.model.SerializeToString(deterministic=True)


def test_a_large_constant_node_is_a_weight_like_any_other() -> None:
    model = network(dead=5)
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "first")
    stored = onnx.TensorProto(data_type=weight.data_type, dims=weight.dims, raw_data=weight.raw_data)
    model.graph.node.insert(0, helper.make_node("Constant", [], ["first"], value=stored))
    model.graph.initializer.remove(weight)
    assert take_apart(model).weights.keys() == {"first", "second"}
    result = rewrite(model)
    assert result.proven
    assert result.channels_removed == 5


@pytest.mark.parametrize(("zero_bias", "looked_at"), [(True, 0), (False, 1)])
def test_where_windows_lie_matters_only_to_what_adds_something(
    zero_bias: bool, looked_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(dead=5, zero_bias=True)
    if not zero_bias:
        (bias,) = (tensor for tensor in model.graph.initializer if tensor.name == "bias")
        bias.CopyFrom(numpy_helper.from_array(np.ones(CHANNELS, np.float32), "bias"))
    asked = Counter[str]()

    def counted(*args: Any, **keywords: Any) -> Any:
        asked["windows"] += 1
        return windows(*args, **keywords)

    monkeypatch.setattr(windowed, "windows", counted)
    analysis.analyse(model, RewriteSettings())
    assert asked["windows"] == looked_at


@pytest.mark.parametrize("name", list(passes))
def test_a_pass_that_reports_nothing_has_changed_nothing(name: str) -> None:
    parted = take_apart(network())
    piece = Workpiece(parted, RewriteSettings())
    graph = gs.import_onnx(network())
    before = gs.export_onnx(graph).SerializeToString(deterministic=True)
    assert not passes.get(name).run(graph, piece.trace)
    assert gs.export_onnx(graph).SerializeToString(deterministic=True) == before
