"""A choice that is always the same is none: the branch that is taken becomes part of the graph around it."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from compress.channels.trace import Trace
from compress.rewrite.graph_pass import Pass, fresh_name, origin, producers
from compress.rewrite.passes import passes


class InlineBranches(Pass):
    """If(c, A, B) with a c that is known = A or B.

    Exporters write an If where a rank or a size decides; once shapes are known, so is the branch.
    """

    name = "inline-branches"
    order = 8
    opens = True

    def run(self, graph: gs.Graph, trace: Trace) -> list[str]:
        """Inlines; see `Pass.run`."""
        nodes, inlined = producers(graph), 0
        for node in trace.graph.nodes:
            if node.operator != "If" or node.domain:
                continue
            condition = trace.constant(node.input(0))
            if condition is None or condition.size != 1:
                continue
            choice, name = origin(nodes, node), "then_branch" if condition.reshape(-1)[0] else "else_branch"
            branch = choice.attrs.get(name)
            if isinstance(branch, gs.Graph) and all(result.inputs for result in branch.outputs):
                _inline(graph, choice, branch)
                inlined += 1
        return [f"{inlined} branches that are always taken inlined"] if inlined else []


def _inline(graph: gs.Graph, choice: gs.Node, branch: gs.Graph) -> None:
    """Puts the nodes of a branch in the place of the node that holds it."""
    for other in choice.attrs.values():
        if isinstance(other, gs.Graph) and other is not branch:
            _detach(other)
    choice.attrs.clear()
    _rename(graph, branch)
    outputs = list(choice.outputs)
    choice.inputs.clear()
    choice.outputs.clear()
    place = next(index for index, node in enumerate(graph.nodes) if node is choice)
    graph.nodes[place : place + 1] = branch.nodes
    for result, output in zip(branch.outputs, outputs, strict=True):
        if output.is_empty():
            continue
        (maker,) = result.inputs
        maker.outputs[next(index for index, tensor in enumerate(maker.outputs) if tensor is result)] = output
        for reader in list(result.outputs):
            for position, tensor in enumerate(reader.inputs):
                if tensor is result:
                    reader.inputs[position] = output


def _detach(graph: gs.Graph) -> None:
    """Takes a graph's nodes off the tensors that they read."""
    for node in graph.nodes:
        node.inputs.clear()
        for value in node.attrs.values():
            if isinstance(value, gs.Graph):
                _detach(value)


def _rename(graph: gs.Graph, branch: gs.Graph) -> None:
    """Gives new names to tensors of a branch whose names mean something else in the graph around it."""
    around: dict[str, int] = {}
    inner = [value for node in graph.nodes for value in node.attrs.values() if isinstance(value, gs.Graph)]
    for other in (graph, *inner):
        around |= {name: id(tensor) for name, tensor in _named(other).items()}
    for name, tensor in branch.tensors().items():
        if around.get(name, id(tensor)) != id(tensor):
            tensor.name = fresh_name(graph, name)
            around[tensor.name] = id(tensor)


def _named(graph: gs.Graph) -> dict[str, gs.Tensor]:
    """Returns the tensors of a graph and of all inside it, by name."""
    found: dict[str, gs.Tensor] = dict(graph.tensors())
    for node in graph.nodes:
        for value in node.attrs.values():
            if isinstance(value, gs.Graph):
                found |= _named(value)
    return found


passes.register(InlineBranches.name)(InlineBranches())
