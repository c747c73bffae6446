"""Models that sum over one axis after the other.

A runtime that adds up a hundred thousand float32 numbers one by one is off by more than a rewrite may be. The mean of
the means of all rows is the same mean, and each of its sums is short.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from compress.onnx_io.weights import Parted, values_of

# The first version in which the axes are an input.
_AXES_AS_INPUT = {"ReduceSum": 13, "ReduceMean": 18}


def with_split_sums(model: Parted) -> Parted | None:
    """Returns a model that computes the same, with one more reduction before each over several axes: over the last.

    Args:
        model: not changed.

    Returns:
        None if there is no such reduction.
    """
    graph = model.skeleton.graph
    axes = {t.name: values_of(t) for t in graph.initializer if t.data_type == t.INT64 and len(t.dims) == 1}
    lasts = [_last_axis(node, axes) for node in graph.node]
    if all(last is None for last in lasts):
        return None
    result = ModelProto()
    result.CopyFrom(model.skeleton)
    opset = next((entry.version for entry in result.opset_import if entry.domain in ("", "ai.onnx")), 1)
    nodes: list[NodeProto] = []
    for index, (node, last) in enumerate(zip(result.graph.node, lasts, strict=True)):
        if last is not None:
            rows, given = f"{node.input[0]}.rows{index}", f"{node.input[0]}.axis{index}"
            operator = "ReduceSum" if node.op_type == "ReduceSum" else "ReduceMean"
            if opset < _AXES_AS_INPUT[operator]:
                nodes.append(helper.make_node(operator, [node.input[0]], [rows], axes=[last], keepdims=1))
            else:
                result.graph.initializer.append(numpy_helper.from_array(np.array([last]), given))
                nodes.append(helper.make_node(operator, [node.input[0], given], [rows], keepdims=1))
            node.input[0] = rows
        nodes.append(node)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return Parted(result, model.weights)


def _last_axis(node: NodeProto, constants: Mapping[str, np.ndarray]) -> int | None:
    """Returns the last of several axes that a node sums over, None if it does not."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "GlobalAveragePool":
        return -1
    if node.op_type not in _AXES_AS_INPUT:
        return None
    given = next((list(attribute.ints) for attribute in node.attribute if attribute.name == "axes"), None)
    if given is None and len(node.input) > 1 and node.input[1] in constants:
        given = constants[node.input[1]].tolist()
    return int(given[-1]) if given is not None and len(given) > 1 else None
