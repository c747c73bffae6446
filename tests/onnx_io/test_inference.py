"""Shapes are inferred for as few examples as tell all, and again only where a value has to be worked out."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

from compress.channels.graph import Array
from compress.onnx_io.cost import onnx_work
from compress.onnx_io.graph import channel_graph


@pytest.fixture
def inferences(monkeypatch: pytest.MonkeyPatch) -> list[ModelProto]:
    """What shapes are inferred of."""
    seen: list[ModelProto] = []
    infer = shape_inference.infer_shapes

    def counted(model: ModelProto, **settings: bool) -> ModelProto:
        seen.append(ModelProto())
        seen[-1].CopyFrom(model)
        return infer(model, **settings)

    monkeypatch.setattr(shape_inference, "infer_shapes", counted)
    return seen


def network(nodes: list[NodeProto], constants: dict[str, Array] | None = None, **inputs: list[str | int]) -> ModelProto:
    """Inputs of these shapes; the output y is of any."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("of.others", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def test_symbols_that_must_be_one_size_are() -> None:
    graph = channel_graph(network([helper.make_node("Add", ["a", "b"], ["y"])], a=[3, "H"], b=[3, "W"]))
    assert graph.shapes["a"] == graph.shapes["b"] == graph.shapes["y"]
    assert graph.dynamic["y"] == (False, True)


def test_symbols_that_may_differ_do(inferences: list[ModelProto]) -> None:
    graph = channel_graph(network([helper.make_node("MatMul", ["a", "b"], ["y"])], a=["N", "H", 4], b=["N", 4, "W"]))
    assert len(set(graph.shapes["y"])) == 3
    assert graph.dynamic["y"] == (True, True, True)
    # Three examples, since there are free axes beside the first.
    assert len(inferences) == 3


def test_what_no_size_makes_known_is_not_tried_with_others(inferences: list[ModelProto]) -> None:
    """The branches have results of different ranks."""
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("t", "e")]
    branches = {
        "then_branch": helper.make_graph([helper.make_node("Identity", ["r"], ["t"])], "then", [], results[:1]),
        "else_branch": helper.make_graph([helper.make_node("Squeeze", ["r"], ["e"])], "else", [], results[1:]),
    }
    nodes = [helper.make_node("Relu", ["a"], ["r"]), helper.make_node("If", ["which"], ["y"], **branches)]
    graph = channel_graph(network(nodes, {"which": np.array(True)}, a=[1, "H"]))
    assert graph.dynamic["r"] == (False, True)
    assert "y" not in graph.shapes
    # One for each example.
    assert len(inferences) == 3
    del inferences[:]
    # That the rank, and so the branch, is known tells no more, which is found out but once.
    nodes.insert(1, helper.make_node("Shape", ["r"], ["sizes"]))
    nodes.insert(2, helper.make_node("Size", ["sizes"], ["rank"]))
    nodes.insert(3, helper.make_node("Equal", ["rank", "two"], ["which"]))
    channel_graph(network(nodes, {"two": np.array(2)}, a=[1, "H"]))
    assert len(inferences) == 3
    del inferences[:]
    # A value that something else reads as well may tell more, which is found out but once.
    nodes.append(helper.make_node("Where", ["which", "r", "r"], ["z"]))
    channel_graph(network(nodes, {"two": np.array(2)}, a=[1, "H"]))
    assert len(inferences) == 4


def test_shapes_before_an_unknown_operator_are_inferred() -> None:
    nodes = [helper.make_node("Relu", ["a"], ["r"]), helper.make_node("Riddle", ["r"], ["y"], domain="of.others")]
    graph = channel_graph(network(nodes, a=[3, "H"]))
    assert graph.dynamic["r"] == (False, True)
    assert "y" not in graph.shapes


def test_what_follows_from_constants_is_worked_out_once(inferences: list[ModelProto]) -> None:
    """Pads come out of a Where of constants, which shape inference does not evaluate."""
    nodes = [
        helper.make_node("Where", ["mask", "some", "none"], ["pads"]),
        helper.make_node("Reshape", ["pads", "list"], ["in_a_row"]),
        helper.make_node("Pad", ["a", "in_a_row"], ["y"]),
    ]
    constants = {"mask": np.array([[False, True], [False, False]]), "some": np.array(2), "none": np.array(0)}
    graph = channel_graph(network(nodes, {**constants, "list": np.array([-1])}, a=["N", 5]))
    assert graph.shapes["y"][1] == 7
    assert graph.dynamic["y"] == (True, False)
    # Twice for the first example, once for the other one.
    assert len(inferences) == 3
    assert {"Where", "Reshape"}.isdisjoint(node.op_type for node in inferences[-1].graph.node)


def test_what_holds_for_all_sizes_is_not_worked_out_for_a_cost(inferences: list[ModelProto]) -> None:
    nodes = [
        helper.make_node("Where", ["mask", "some", "none"], ["pads"]),
        helper.make_node("Pad", ["a", "pads"], ["p"]),
        helper.make_node("MatMul", ["w", "p"], ["y"]),
    ]
    constants = {"mask": np.array([True, False, False, False]), "some": np.array(2), "none": np.array(0)}
    model = network(nodes, {**constants, "w": np.ones((3, 7), np.float32)}, a=[5, "H"])
    graph = channel_graph(model)
    del inferences[:]
    work = onnx_work(model, graph)
    assert len(inferences) == 1
    assert work == onnx_work(model)
    assert work.macs == 3 * 7 * 64


@pytest.mark.parametrize("read", [False, True])
def test_what_only_folded_nodes_read_is_folded_away(read: bool) -> None:
    """The rank of a tensor is known where its sizes are not; what nothing has ever read stays."""
    nodes = [
        helper.make_node("Shape", ["a"], ["sizes"]),
        helper.make_node("Size", ["sizes"], ["rank"]),
        helper.make_node("Expand", ["a", "sizes" if read else "rank"], ["y"]),
        helper.make_node("Abs", ["a"], ["unread"]),
    ]
    graph = channel_graph(network(nodes, a=["N", 5]))
    assert [node.operator for node in graph.nodes] == [*(["Shape"] if read else []), "Expand", "Abs"]


def test_what_follows_from_an_example_is_worked_out_for_each(inferences: list[ModelProto]) -> None:
    nodes = [
        helper.make_node("Shape", ["a"], ["sizes"]),
        helper.make_node("Where", ["mask", "sizes", "sizes"], ["to"]),
        helper.make_node("Expand", ["one", "to"], ["y"]),
    ]
    constants = {"mask": np.array([False, True]), "one": np.ones(1, np.float32)}
    graph = channel_graph(network(nodes, constants, a=["N", 5]))
    assert graph.shapes["y"] == (1, 5)
    assert graph.dynamic["y"] == (True, False)
    assert len(inferences) == 4
