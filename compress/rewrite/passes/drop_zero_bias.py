"""A bias of zeros goes: it is an optional input, and exporters compute it at run time."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from compress.channels.trace import Trace
from compress.rewrite.graph_pass import Pass, origin, producers
from compress.rewrite.passes import passes

# The bias is optional from these versions of ONNX on.
_SINCE = {"Conv": 1, "ConvTranspose": 1, "Gemm": 11}


class DropZeroBias(Pass):
    """Conv(x, w, 0) = Conv(x, w), and likewise for transposed convolutions and Gemm."""

    name = "drop-zero-bias"
    order = 5

    def run(self, graph: gs.Graph, trace: Trace) -> list[str]:
        """Drops; see `Pass.run`."""
        nodes = producers(graph)
        dropped = 0
        for node in trace.graph.nodes:
            if node.domain or node.whole or trace.graph.opset < _SINCE.get(node.operator, trace.graph.opset + 1):
                continue
            bias = trace.constant(node.input(2)) if node.input(2) else None
            if bias is not None and not bias.any():
                origin(nodes, node).inputs.pop(2)
                dropped += 1
        return [f"{dropped} biases of zeros dropped"] if dropped else []


passes.register(DropZeroBias.name)(DropZeroBias())
