"""Channels change places within their groups and heads, so that the dead ones lie at the same places in all."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from compress.channels.arrange import arrange, moves
from compress.channels.derived import rearranged
from compress.channels.factors import coverage
from compress.channels.graph import Array
from compress.channels.trace import Trace, once
from compress.rewrite.graph_pass import Pass
from compress.rewrite.passes import passes


class AlignGroups(Pass):
    """Permutes weights where whole slices can go afterwards: one channel of each group, one dimension of each head.

    Nothing becomes smaller by this alone; it is done only where channels can be dropped then.
    """

    name = "align-groups"
    order = 18

    def run(self, graph: gs.Graph, trace: Trace) -> list[str]:
        """Permutes; see `Pass.run`."""
        source = arrange(trace)
        if source is None:
            return []
        tensors = graph.tensors()
        # What is no longer there nobody reads any more.
        changed = {name: values for name, values in _rearranged(trace).items() if name in tensors}
        if not all(isinstance(tensors[name], gs.Constant) for name in changed):
            # What is known to be constant must be one in the file before it can be permuted.
            return []
        for name, values in changed.items():
            tensors[name].values = np.ascontiguousarray(values)
        count = int((source != np.arange(len(source))).sum())
        return [f"{count} channels have changed places within their groups, so that whole slices can go"]

    def known(self, trace: Trace) -> Trace:
        """Returns what is known of the same graph with its constants rearranged."""
        source = arrange(trace)
        assert source is not None, "nothing has changed places"
        return rearranged(trace, _rearranged(trace), source)


@once
def _rearranged(trace: Trace) -> dict[str, Array]:
    """Returns the constants whose channels have to change places, with these at their new ones."""
    source, classes = arrange(trace), trace.labels.classes()
    if source is None:
        return {}
    permuted = {name: _permuted(name, classes, source, trace) for name in trace.graph.constants}
    return {name: values for name, values in permuted.items() if values is not None}


def _permuted(name: str, classes: Array, source: Array, trace: Trace) -> Array | None:
    """Returns a constant with its channels at their new places, or None if they are where they were."""
    before = values = trace.graph.constants[name]
    for factor in trace.labels.of(name):
        index = moves(classes[factor.reshape(-1)], source)
        values = values if (index == np.arange(index.size)).all() else values.take(index, axis=coverage(factor)[0])
    for one in trace.labels.slices:
        if one.weight == name:
            # Each block of rows reads a row of cells of its own.
            blocks, width = one.cells.shape
            index = moves(classes[one.cells.reshape(-1)], source).reshape(blocks, width) % width
            if (index != np.arange(width)).any():
                index = np.repeat(index, values.shape[0] // blocks, axis=0)
                index = index.reshape(index.shape + (1,) * (values.ndim - 2))
                values = np.take_along_axis(values, index, axis=1)
    return None if values is before else values


passes.register(AlignGroups.name)(AlignGroups())
