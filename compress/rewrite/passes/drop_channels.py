"""Channels that no output needs go, from every tensor that they pass."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from compress.channels.graph import Array, Node
from compress.channels.kept import Kept
from compress.channels.rules.base import NodeEdit
from compress.channels.sweep import sweep
from compress.channels.trace import Trace
from compress.rewrite.graph_pass import Names, Pass, fresh_node_name, origin, producers
from compress.rewrite.passes import passes

_CONVOLUTIONS = ("Conv", "ConvTranspose")


class DropChannels(Pass):
    """Slices weights, adapts attributes and shapes, and moves the constants that dead channels added into biases."""

    name = "drop-channels"
    order = 20

    def run(self, graph: gs.Graph, trace: Trace) -> list[str]:
        """Drops; see `Pass.run`."""
        kept = sweep(trace)
        if not kept.dead.any():
            return []
        nodes, names = producers(graph), Names(graph)
        constants = [name for name in names.tensors if name in trace.graph.constants]
        cut = {name: names.tensors[name] for name in constants if kept.changed(name)}
        if not all(isinstance(tensor, gs.Constant) for tensor in cut.values()):
            # What is known to be constant must be one in the file before it can be cut.
            return []
        affected = _affected(trace, kept)
        gains = [(node, trace.rule(node).fold(node, trace, kept)) for node in affected]
        edits = [(node, kept.edit(node)) for node in affected]
        silenced = sum(_reweigh(names, origin(nodes, node), node, trace, kept) for node in affected)
        removed = 0
        for name, tensor in cut.items():
            if not tensor.outputs:
                # All that read it have got weights of their own.
                continue
            values = tensor.values
            for axis, index in kept.axes(name).items():
                values = values.take(index, axis=axis)
                if trace.labels.roles.get((name, axis)) == "out":
                    removed += trace.graph.shapes[name][axis] - len(index)
            tensor.values = np.ascontiguousarray(values)
        for node, gain in gains:
            if gain is not None:
                _add_gain(graph, names, origin(nodes, node), node, gain, trace, kept)
        for node, edit in edits:
            if edit is not None:
                _edit(graph, names, origin(nodes, node), edit)
        notes = [f"constants that stay are no longer read by {silenced} layers"] if silenced else []
        return [f"{removed} channels removed", *notes]

    def kept(self, trace: Trace) -> Kept:
        """Returns what remains of each tensor."""
        return sweep(trace)


def _affected(trace: Trace, kept: Kept) -> list[Node]:
    """Returns the nodes that read or make what loses channels, or read what may no longer be made (see `Rule.mute`)."""
    names = {name for node in trace.graph.nodes for name in (*node.inputs, *node.outputs) if name}
    altered = {name for name in names if name in trace.tainted or kept.changed(name)}
    return [
        node
        for node in trace.graph.nodes
        if not altered.isdisjoint(node.inputs) or not altered.isdisjoint(node.outputs)
    ]


def _reweigh(names: Names, target: gs.Node, node: Node, trace: Trace, kept: Kept) -> bool:
    """Gives a node's carrier channel what other constants had added, and reads no more what nothing makes.

    The weight may be shared, so it is copied.

    Returns:
        whether something is no longer read.
    """
    borne, silent = trace.rule(node).carry(node, trace, kept), trace.rule(node).mute(node, trace, kept)
    if borne is None and silent is None:
        return False
    name = node.inputs[1]
    values = trace.values[name].copy()
    if silent is not None:
        values[silent] = 0
    if borne is not None:
        carrier, gain = borne
        (axis,) = (axis for (weight, axis), role in trace.labels.roles.items() if (weight, role) == (name, "in"))
        values[(slice(None),) * axis + (carrier,)] += gain.astype(values.dtype)
    for axis, index in kept.axes(name).items():
        values = values.take(index, axis=axis)
    target.inputs[1] = names.constant(name, values)
    return silent is not None


def _add_gain(
    graph: gs.Graph, names: Names, target: gs.Node, node: Node, gain: Array, trace: Trace, kept: Kept
) -> None:
    """Adds to each output channel what the constants that went had added."""
    output, rank = node.outputs[0], len(trace.graph.shapes[node.outputs[0]])
    axis = 1 if node.operator in _CONVOLUTIONS else rank - 1
    if gain.ndim > 1:
        for along, size in enumerate(gain.shape):
            gain = gain.compress(kept.mask(output, along), axis=along) if size > 1 else gain
        if gain.any():
            _add(graph, names, target, node, gain.astype(trace.values[node.inputs[1]].dtype))
        return
    remaining = gain[kept.mask(output, axis)]
    if not remaining.any() or _shifted(graph, names, target.outputs[0], remaining, axis - rank):
        return
    bias = target.inputs[2] if len(target.inputs) > 2 else None
    scale = float(node.attributes.get("beta", 1.0))
    dtype = trace.values[node.inputs[1]].dtype
    takes_bias = node.operator in (*_CONVOLUTIONS, "Gemm") and scale != 0
    if takes_bias and bias is None:
        target.inputs.append(names.constant(f"{output}.bias", (remaining / scale).astype(dtype)))
    elif takes_bias and bias is not None and bias.is_empty():
        target.inputs[2] = names.constant(f"{output}.bias", (remaining / scale).astype(dtype))
    elif takes_bias and isinstance(bias, gs.Constant):
        target.inputs[2] = names.constant(bias.name, (bias.values + remaining / scale).astype(dtype))
    else:
        shape = [remaining.size if a == axis else 1 for a in range(rank)]
        _add(graph, names, target, node, remaining.reshape(shape).astype(dtype))


def _add(graph: gs.Graph, names: Names, target: gs.Node, node: Node, values: Array) -> None:
    """Adds a constant to a node's result."""
    whole = target.outputs[0]
    partial = gs.Variable(names.fresh(f"{whole.name}.partial"), dtype=whole.dtype)
    target.outputs[0] = partial
    added = names.constant(f"{whole.name}.constant", values)
    name = fresh_node_name(graph, f"{node.name}.constant")
    graph.nodes.append(gs.Node("Add", name, inputs=[partial, added], outputs=[whole]))


def _shifted(graph: gs.Graph, names: Names, tensor: gs.Variable, gain: Array, axis: int) -> bool:
    """Adds a gain to the shift of the one node that reads a tensor, if it has one; tells whether it has."""
    if len(tensor.outputs) != 1 or any(tensor is output for output in graph.outputs):
        return False
    (reader,) = tensor.outputs
    if reader.op == "BatchNormalization" and not reader.domain and not reader.attrs.get("training_mode", 0):
        index, change = 3, -gain
    elif reader.op == "Add" and not reader.domain:
        index, change = int(reader.inputs[0] is tensor), gain
    else:
        return False
    shift = reader.inputs[index]
    position = axis + shift.values.ndim if isinstance(shift, gs.Constant) and index != 3 else 0
    if not isinstance(shift, gs.Constant) or position < 0 or shift.values.shape[position] != gain.size:
        return False
    change = change.reshape([gain.size if a == position else 1 for a in range(shift.values.ndim)])
    reader.inputs[index] = names.constant(shift.name, (shift.values + change).astype(shift.values.dtype))
    return True


def _edit(graph: gs.Graph, names: Names, target: gs.Node, edit: NodeEdit) -> None:
    for name, value in edit.attributes.items():
        if value is None:
            target.attrs.pop(name, None)
        else:
            target.attrs[name] = value
    for index, values in edit.inputs.items():
        while len(target.inputs) <= index:
            target.inputs.append(gs.Variable.empty())
        old = target.inputs[index].name or f"{target.outputs[0].name}.{target.op.lower()}"
        target.inputs[index] = gs.Variable.empty() if values is None else names.constant(old, values)
    for index, (where, values) in edit.overrides.items():
        computed = target.inputs[index]
        result = gs.Variable(names.fresh(f"{computed.name}.kept"), dtype=np.int64)
        fixed = [names.constant(f"{result.name}.where", where), names.constant(f"{result.name}.sizes", values)]
        graph.nodes.append(gs.Node("Where", result.name, inputs=[*fixed, computed], outputs=[result]))
        target.inputs[index] = result


passes.register(DropChannels.name)(DropChannels())
