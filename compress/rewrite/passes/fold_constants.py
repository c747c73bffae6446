"""What follows from integers and fixed shapes alone becomes a constant."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from compress.channels.trace import Trace
from compress.rewrite.graph_pass import Pass, producers
from compress.rewrite.passes import passes


class FoldConstants(Pass):
    """Replaces nodes whose results are known by these results, Constant nodes among them.

    Weights are left as they are: a constant that is computed from one would be stored twice.
    """

    name = "fold-constants"
    order = 10

    def run(self, graph: gs.Graph, trace: Trace) -> list[str]:
        """Folds; see `Pass.run`."""
        made_by = producers(graph)
        folded = 0
        for name, value in trace.graph.constants.items():
            node = made_by.get(name)
            if node is None or len(node.outputs) != 1 or any(out is node.outputs[0] for out in graph.outputs):
                continue
            node.outputs[0].to_constant(np.array(value, order="C"))
            node.outputs.clear()
            folded += 1
        return [f"{folded} constant nodes folded"] if folded else []


passes.register(FoldConstants.name)(FoldConstants())
