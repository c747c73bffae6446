"""Nodes in any order, as some converters leave them: runtimes take that, ONNX does not."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from strategies import make_model

from compress.errors import ModelFileError
from compress.onnx_io.file import read_model
from compress.onnx_io.node_order import sort_nodes
from compress.onnx_io.session import session
from compress.rewrite import explain, rewrite


def shuffled(model, order):
    other = onnx.ModelProto()
    other.CopyFrom(model)
    del other.graph.node[:]
    other.graph.node.extend(model.graph.node[index] for index in order)
    return other


def chain():
    nodes = [
        helper.make_node("MatMul", [name, f"w{name}"], [after]) for name, after in zip("abcd", "bcde", strict=True)
    ]
    constants = {f"w{name}": np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32) for name in "abcd"}
    constants["wa"][:, :2] = 0
    return make_model(nodes, {"a": (1, 4)}, {"e": (1, 4)}, constants)


@given(st.permutations(range(4)))
def test_each_node_stands_behind_what_it_reads(order):
    model = shuffled(chain(), order)
    assert sort_nodes(model.graph) is (order != sorted(order))
    assert model == chain()


def test_what_is_in_order_stays_as_it_is():
    nodes = [
        helper.make_node("Relu", ["x"], ["late"]),
        helper.make_node("Abs", ["x"], ["early"]),
        helper.make_node("Add", ["late", "early"], ["y"]),
    ]
    model = make_model(nodes, {"x": (1, 4)}, {"y": (1, 4)}, {})
    assert not sort_nodes(model.graph)
    assert [node.op_type for node in model.graph.node] == ["Relu", "Abs", "Add"]


def test_a_node_stands_behind_what_its_inner_graphs_read():
    """If(c) { z = Neg(h); y = Relu(z) }, both graphs back to front, before h is made."""
    inner = [helper.make_node("Relu", ["z"], ["t"]), helper.make_node("Neg", ["h"], ["z"])]
    branch = helper.make_graph(inner, "b", [], [helper.make_tensor_value_info("t", TensorProto.FLOAT, (1, 4))])
    nodes = [
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
        helper.make_node("Abs", ["x"], ["h"]),
    ]
    model = make_model(nodes, {"x": (1, 4)}, {"y": (1, 4)}, {"c": np.array(True)})
    assert sort_nodes(model.graph)
    onnx.checker.check_model(model)
    x = np.float32([[1, -2, 3, -4]])
    np.testing.assert_array_equal(session(model.SerializeToString()).run(None, {"x": x})[0], np.zeros((1, 4)))


def test_such_files_and_models_are_read_explained_and_rewritten(tmp_path):
    model, path = shuffled(chain(), [3, 1, 0, 2]), tmp_path / "model.onnx"
    onnx.save(model, path)
    assert read_model(path).graph.node == chain().graph.node
    for source in (model, path):
        assert rewrite(source).params_after == rewrite(chain()).params_after < 4 * 16
        assert explain(source).layers == explain(chain()).layers


def test_a_circle_is_refused(tmp_path):
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    path = tmp_path / "model.onnx"
    onnx.save(make_model(nodes, {"x": (1, 4)}, {"b": (1, 4)}, {}), path)
    with pytest.raises(ModelFileError, match="topologically sorted"):
        read_model(path)
