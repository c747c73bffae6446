"""A Concat with constant ends becomes a Pad, and the shapes that these ends were expanded to are no longer computed."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from compress.channels.graph import Node
from compress.channels.trace import Trace
from compress.rewrite.graph_pass import Pass, constant, origin, producers
from compress.rewrite.passes import passes

_PAD_WITH_INPUTS = 11


class PadNotConcat(Pass):
    """Concat(c, x, c) along one axis = Pad(x, c), if c holds one value throughout.

    Residual shortcuts of the padding kind come out of exporters as Concat with expanded zeros.
    """

    name = "pad-not-concat"
    order = 30

    def run(self, graph: gs.Graph, trace: Trace) -> list[str]:
        """Replaces; see `Pass.run`."""
        nodes = producers(graph)
        replaced = 0
        for node in trace.graph.nodes:
            if node.operator != "Concat" or node.domain or node.whole or trace.graph.opset < _PAD_WITH_INPUTS:
                continue
            replaced += _replace(graph, origin(nodes, node), node, trace)
        return [f"{replaced} Concat with constants became Pad"] if replaced else []


def _replace(graph: gs.Graph, target: gs.Node, node: Node, trace: Trace) -> bool:
    shapes = trace.graph.shapes
    varying = [index for index, name in enumerate(node.inputs) if _fill(name, trace) is None]
    fills = {fill for name in node.inputs if (fill := _fill(name, trace)) is not None}
    if len(varying) != 1 or len(fills) != 1:
        return False
    middle = varying[0]
    rank = len(shapes[node.outputs[0]])
    axis = int(node.attributes["axis"]) % rank
    if any(trace.graph.is_dynamic(name, axis) for name in node.inputs):
        return False
    pads = np.zeros(2 * rank, dtype=np.int64)
    pads[axis] = sum(shapes[name][axis] for name in node.inputs[:middle])
    pads[axis + rank] = sum(shapes[name][axis] for name in node.inputs[middle + 1 :])
    x = target.inputs[middle]
    inputs = [x, constant(graph, f"{node.outputs[0]}.pads", pads)]
    fill = fills.pop()
    if fill != 0:
        inputs.append(constant(graph, f"{node.outputs[0]}.fill", np.asarray(fill)))
    target.op, target.attrs = "Pad", {}
    target.inputs = inputs
    return True


def _fill(name: str, trace: Trace) -> np.generic | None:
    """Returns the one value that a floating-point tensor holds everywhere, or None."""
    value = trace.constant(name)
    if value is None or value.dtype != np.float32 or value.size == 0 or (value != value.flat[0]).any():
        return None
    first: np.generic = value.reshape(-1)[0]
    return first


passes.register(PadNotConcat.name)(PadNotConcat())
