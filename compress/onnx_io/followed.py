"""Nodes that ONNX's shape inference follows values through, in place of ones that it does not.

Inference carries the sizes that a graph computes through sums and products, but not through Where.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import NodeProto, helper, numpy_helper

from compress.channels.graph import Array


def followed(node: NodeProto, constants: Mapping[str, Array]) -> list[NodeProto]:
    """Returns nodes that compute what a node does; the node itself if none are known.

    Args:
        node: of any domain.
        constants: initializers and constants by name.
    """
    if node.op_type != "Where" or node.domain or len(node.input) != 3:
        return [node]
    where, given, computed = constants.get(node.input[0]), constants.get(node.input[1]), node.input[2]
    if where is None or given is None or where.ndim != 1 or given.shape != where.shape or given.dtype != np.int64:
        return [node]
    result = node.output[0]
    factors, terms, product = (f"{result}/{part}" for part in ("factors", "terms", "product"))
    return [
        helper.make_node("Constant", [], [factors], value=numpy_helper.from_array(np.where(where, 0, 1))),
        helper.make_node("Constant", [], [terms], value=numpy_helper.from_array(np.where(where, given, 0))),
        helper.make_node("Mul", [computed, factors], [product]),
        helper.make_node("Add", [product, terms], [result]),
    ]
