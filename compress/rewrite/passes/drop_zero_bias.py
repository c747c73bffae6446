"""A bias of zeros goes: it is an optional input, and exporters compute it at run time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import onnx_graphsurgeon as gs

from compress.channels.graph import Node
from compress.channels.trace import Trace
from compress.rewrite.graph_pass import Pass, origin, producers
from compress.rewrite.passes import passes

_BIAS = 2  # its place among the inputs
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
        for node in _with_zeros(trace):
            inputs = origin(nodes, node).inputs
            if len(inputs) > _BIAS:
                inputs.pop(_BIAS)
                dropped += 1
        return [f"{dropped} biases of zeros dropped"] if dropped else []

    def known(self, trace: Trace) -> Trace | None:
        """Returns the same if each bias is read once: what several nodes read ties their channels together."""
        reads = Counter(name for node in trace.graph.nodes for name in (*node.inputs, *node.captured))
        biases = [node.input(_BIAS) for node in _with_zeros(trace)]
        return trace if all(name in trace.graph.constants and reads[name] == 1 for name in biases) else None


def _with_zeros(trace: Trace) -> Iterator[Node]:
    """Yields the nodes whose bias is zero everywhere."""
    for node in trace.graph.nodes:
        if node.domain or node.whole or trace.graph.opset < _SINCE.get(node.operator, trace.graph.opset + 1):
            continue
        bias = trace.constant(node.input(_BIAS)) if node.input(_BIAS) else None
        if bias is not None and not bias.any():
            yield node


passes.register(DropZeroBias.name)(DropZeroBias())
