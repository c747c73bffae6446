"""Small files that stand for more than any machine holds, found before native code unfolds them.

Shape inference writes out what a Range of constants counts up to, and inlines functions at each of their calls: a few
nested functions that call one another twice make more nodes than there is memory for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from compress.errors import ModelFileError
from compress.onnx_io.tensors import all_nodes, graphs, subgraphs

if TYPE_CHECKING:
    import onnx

_RANGE = 1 << 24  # numbers that a Range of constants may make
_NODES = 1_000_000  # of a graph with its functions written out


def require_bounded(model: onnx.ModelProto, what: str) -> None:
    """Checks that a model is not made to unfold without end.

    Args:
        model: as parsed; its tensors are sound.
        what: names it in messages.

    Raises:
        ModelFileError: naming what unfolds.
    """
    constants = _scalars(model)
    for node in all_nodes(model):
        if node.op_type != "Range" or not all(name in constants for name in node.input) or len(node.input) != 3:
            continue
        start, limit, step = (constants[name] for name in node.input)
        count = (limit - start) / step if step else np.inf
        if not count <= _RANGE:
            raise ModelFileError(
                f"{what}: Range {node.name or node.output[0]!r} counts too far",
                got=f"{count:.3g} numbers",
                allowed=f"{_RANGE}",
                next_step="do not use this file",
            )
    _require_few_nodes(model, what)


def _scalars(model: onnx.ModelProto) -> dict[str, float]:
    """Returns the single numbers that a model stores."""
    from onnx import numpy_helper

    stored = [tensor for graph in graphs(model.graph) for tensor in graph.initializer]
    named = [(tensor.name, tensor) for tensor in stored]
    named += [
        (node.output[0], attribute.t)
        for node in all_nodes(model)
        if node.op_type == "Constant" and node.output
        for attribute in node.attribute
        if attribute.name == "value"
    ]
    scalars = {name: tensor for name, tensor in named if list(tensor.dims) in ([], [1]) and not tensor.external_data}
    arrays = {name: numpy_helper.to_array(tensor) for name, tensor in scalars.items()}
    return {name: float(array.reshape(-1)[0]) for name, array in arrays.items() if array.dtype.kind in "iuf"}


def _require_few_nodes(model: onnx.ModelProto, what: str) -> None:
    bodies = {(function.domain, function.name): function for function in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Iterable[onnx.NodeProto], callers: tuple[tuple[str, str], ...]) -> int:
        total = 0
        for node in (*nodes, *(inner for graph in subgraphs(nodes) for inner in graph.node)):
            key = (node.domain, node.op_type)
            if key in callers:
                raise ModelFileError(
                    f"{what}: function {node.op_type!r} calls itself", next_step="do not use this file"
                )
            if key in bodies and key not in sizes:
                sizes[key] = size(bodies[key].node, (*callers, key))
            total += sizes.get(key, 1)
        return total

    count = size(model.graph.node, ()) if bodies else 0
    if count > _NODES:
        raise ModelFileError(
            f"{what} has too many nodes once its functions are written out",
            got=f"{count:.3g}",
            allowed=f"{_NODES}",
            next_step="do not use this file",
        )
