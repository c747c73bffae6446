"""What follows from integers and fixed shapes alone becomes a constant."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from compress.channels.trace import Trace
from compress.rewrite.graph_pass import Pass
from compress.rewrite.passes import passes


class FoldConstants(Pass):
    """Replaces nodes whose results are known by these results, Constant nodes among them.

    Weights are left as they are: a constant that is computed from one would be stored twice.
    """

    name = "fold-constants"
    order = 10
    opens = True

    def run(self, graph: gs.Graph, trace: Trace) -> list[str]:
        """Folds; see `Pass.run`."""
        results = {out.name for out in graph.outputs}
        folded = 0
        for node in graph.nodes:
            names = [out.name for out in node.outputs if out.name]
            if not names or not all(name in trace.graph.constants and name not in results for name in names):
                continue
            for out in [out for out in node.outputs if out.name]:
                out.to_constant(np.array(trace.graph.constants[out.name], order="C"))
            node.outputs.clear()
            folded += 1
        return [f"{folded} constant nodes folded"] if folded else []

    def known(self, trace: Trace) -> Trace:
        """Returns the same: an analysis folds these nodes first of all."""
        return trace


passes.register(FoldConstants.name)(FoldConstants())
