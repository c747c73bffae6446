"""An operand whose value is known takes the place of whatever computes it: dead layers and zero branches disappear."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from compress.channels.graph import Array, Node
from compress.channels.rules.elementwise import Elementwise
from compress.channels.sweep import sweep
from compress.channels.trace import Trace
from compress.rewrite.graph_pass import Pass, constant, origin, producers
from compress.rewrite.passes import passes


class KnownOperands(Pass):
    """f(x, t) = f(x, c) where t is computed but its value c is known; x + 0 = x.

    A layer of zeros is known, and so is what follows from it. Once nothing reads what it computes, it goes.
    """

    name = "known-operands"
    order = 15

    def run(self, graph: gs.Graph, trace: Trace) -> list[str]:
        """Replaces; see `Pass.run`."""
        nodes = producers(graph)
        replaced = bypassed = 0
        for node in trace.graph.nodes:
            if node.whole or not isinstance(trace.rule(node), Elementwise) or len(node.inputs) < 2:
                continue
            target = origin(nodes, node)
            for index, name in enumerate(node.inputs):
                value = _computed(name, trace)
                if value is None or not _others_span(node, index, trace):
                    continue
                if value.size > max(value.shape, default=1) and (
                    value.size > _made_of(name, trace) or sweep(trace).dead.any()
                ):
                    # It differs from place to place, and what computes it is smaller, or may become so.
                    continue
                if node.operator == "Add" and not value.any() and _bypass(graph, target, 1 - index):
                    bypassed += 1
                    break
                target.inputs[index] = constant(graph, f"{name}.known", value)
                replaced += 1
                # The others now give the result its shape, so they are looked at again only in the next round.
                break
        notes = [f"{replaced} operands of known value replaced"] if replaced else []
        return [*notes, f"{bypassed} additions of zero dropped"] if bypassed else notes


def _computed(name: str, trace: Trace) -> Array | None:
    """Returns the value of a tensor that nodes compute although it is known."""
    if not name or name in trace.graph.constants or name in trace.examples:
        return None
    return trace.constant(name)


def _made_of(name: str, trace: Trace) -> int:
    """Returns how many numbers nothing reads any more once one reader less reads a tensor."""
    if trace.uses(name) > 1:
        return 0
    gone: set[str] = {name}
    numbers = 0
    for node in reversed(trace.graph.nodes):
        if node.outputs and all(output in gone for output in node.outputs if output):
            for source in set(node.inputs):
                if source and trace.uses(source) == node.inputs.count(source):
                    gone.add(source)
                    numbers += trace.graph.constants[source].size if source in trace.graph.constants else 0
    return numbers


def _others_span(node: Node, index: int, trace: Trace) -> bool:
    """Tells whether the result has its shape from the other operands alone, symbolic axes included."""
    shapes, output = trace.graph.shapes, node.outputs[0]
    return any(
        shapes[name] == shapes[output] and trace.graph.dynamic.get(name) == trace.graph.dynamic.get(output)
        for other, name in enumerate(node.inputs)
        if other != index and name and name not in trace.graph.constants
    )


def _bypass(graph: gs.Graph, target: gs.Node, index: int) -> bool:
    """Gives the readers of a node's result its input instead; False where a graph output must keep its name."""
    result, operand = target.outputs[0], target.inputs[index]
    if any(result is output for output in graph.outputs):
        return False
    for reader in list(result.outputs):
        for position, tensor in enumerate(reader.inputs):
            if tensor is result:
                reader.inputs[position] = operand
    return True


passes.register(KnownOperands.name)(KnownOperands())
