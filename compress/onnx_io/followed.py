"""Nodes that ONNX's shape inference follows values through, in place of ones that it does not.

Inference carries the sizes that a graph computes through sums and products, but not through Where, nor through the
Reshape and the Expand that make a list of one size; and it does not see how often a tensor is repeated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from onnx import NodeProto, helper, numpy_helper

from compress.channels.graph import Array
from compress.onnx_io.inference import SMALL

# What makes a size, or a list of them, of such.
_HANDS_ON = ("Squeeze", "Cast", "Identity")
_BROADCASTS = 7  # the first version in which a sum of a number and a list is a list
_RESHAPES = 14  # the first version in which a shape that is computed is followed


def followed(nodes: Iterable[NodeProto], constants: Mapping[str, Array], opset: int) -> Iterator[NodeProto]:
    """Yields nodes that compute what others do; each of those itself if no better ones are known.

    Args:
        nodes: of any domain, in topological order.
        constants: initializers and constants by name.
        opset: version of ONNX's own operators.
    """
    # Tensors of at most one axis that hold sizes; inference knows the value of those that are no constants.
    sizes = {n for n, v in constants.items() if v.ndim <= 1 and v.size <= SMALL and v.dtype == np.int64}
    for node in nodes:
        kind = node.op_type if not node.domain else ""
        if kind == "Where" and len(node.input) == 3:
            yield from _chosen(node, constants)
        elif kind in ("Reshape", "Expand") and opset >= _BROADCASTS and node.input[0] in sizes:
            yield from _listed(node, constants, sizes)
        elif kind == "Tile" and opset >= _RESHAPES and node.input[1] not in constants:
            yield from _repeated(node)
        else:
            yield node
            if kind == "Shape" or (kind in _HANDS_ON and node.input[0] in sizes):
                sizes.add(node.output[0])


def _chosen(node: NodeProto, constants: Mapping[str, Array]) -> list[NodeProto]:
    """Sizes of which some are given: computed · (0 or 1) + (given or 0)."""
    where, given, computed = constants.get(node.input[0]), constants.get(node.input[1]), node.input[2]
    if where is None or given is None or where.ndim != 1 or given.shape != where.shape or given.dtype != np.int64:
        return [node]
    result = node.output[0]
    factors, terms, product = (f"{result}/{part}" for part in ("factors", "terms", "product"))
    return [
        _constant(factors, np.where(where, 0, 1)),
        _constant(terms, np.where(where, given, 0)),
        helper.make_node("Mul", [computed, factors], [product]),
        helper.make_node("Add", [product, terms], [result]),
    ]


def _listed(node: NodeProto, constants: Mapping[str, Array], sizes: set[str]) -> list[NodeProto]:
    """A size, or a list of some, as a list: plus a list of one zero. Constants are worked out."""
    wanted = constants.get(node.input[1])
    if wanted is None or wanted.tolist() != ([-1] if node.op_type == "Reshape" else [1]):
        return [node]
    known, result, zero = constants.get(node.input[0]), node.output[0], f"{node.output[0]}/zero"
    sizes.add(result)
    if known is not None:
        return [_constant(result, known.reshape(-1))]
    return [_constant(zero, np.zeros(1, np.int64)), helper.make_node("Add", [node.input[0], zero], [result])]


def _repeated(node: NodeProto) -> list[NodeProto]:
    """A tensor of the shape that repeating one gives; a Reshape to it is taken for one that keeps all numbers."""
    (read, repeats), (result,) = node.input, node.output
    sizes, product = f"{result}/sizes", f"{result}/product"
    return [
        helper.make_node("Shape", [read], [sizes]),
        helper.make_node("Mul", [sizes, repeats], [product]),
        helper.make_node("Reshape", [read, product], [result]),
    ]


def _constant(name: str, value: Array) -> NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))
