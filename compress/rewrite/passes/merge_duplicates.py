"""A channel that is a multiple of another one is read from that one instead, so that nothing needs it any more."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from compress.channels.alike import ROUNDINGS, leading, likeness
from compress.channels.glance import all_apart
from compress.channels.merge import merging
from compress.channels.readers import read_by_weights
from compress.channels.trace import Trace
from compress.rewrite.graph_pass import Pass
from compress.rewrite.passes import passes


class MergeDuplicates(Pass):
    """W[:, i] · x + W[:, j] · (r · x) = (W[:, i] + r · W[:, j]) · x, where that frees channel j everywhere.

    A weight that several nodes share changes only if the channels are alike, with the same factors, in all of them.
    """

    name = "merge-duplicates"
    order = 40  # the dearest analysis comes last: on the smallest graph, and only once more where something was merged

    def run(self, graph: gs.Graph, trace: Trace) -> list[str]:
        """Merges; see `Pass.run`."""
        tensors = graph.tensors()
        changeable = {name for name, tensor in tensors.items() if isinstance(tensor, gs.Constant)}
        wanted = read_by_weights(trace, changeable)
        if all_apart(trace, leading(trace, wanted), ROUNDINGS * trace.epsilon):
            return []
        found = merging(trace, likeness(trace, wanted), changeable)
        for name, values in found.weights.items():
            tensors[name].values = np.ascontiguousarray(values)
        return [f"{len(found.gone)} duplicate channels merged"] if found.weights else []


passes.register(MergeDuplicates.name)(MergeDuplicates())
