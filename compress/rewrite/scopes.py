"""Which graph a constant belongs to, where nodes hold graphs of their own (If, Loop, Scan).

graphsurgeon knows no scopes: on export, each graph stores what its own nodes read. A weight of an outer graph that an
inner one reads would be stored in each inner graph, and no longer in the outer one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx_graphsurgeon as gs
from onnx import GraphProto, TensorProto

Owned = Mapping[int, frozenset[str]]


def owned_inside(graph: gs.Graph, proto: GraphProto) -> Owned:
    """Returns the names of the constants that each inner graph stores itself, by the identity of the graph.

    Args:
        graph: as imported.
        proto: what it was imported from.
    """
    found: dict[int, frozenset[str]] = {}
    for inner, inner_proto in inner_graphs(graph, proto):
        found[id(inner)] = frozenset(tensor.name for tensor in inner_proto.initializer)
        found |= owned_inside(inner, inner_proto)
    return found


def hoist(graph: gs.Graph, proto: GraphProto, owned: Owned) -> None:
    """Puts constants of outer graphs back where they belong.

    Args:
        graph: what was exported.
        proto: what it was exported to; changed in place.
        owned: see `owned_inside`.
    """
    _keep(proto, _homeless_in(graph, proto, owned))


def inner_graphs(graph: gs.Graph, proto: GraphProto) -> Iterator[tuple[gs.Graph, GraphProto]]:
    """Yields the graphs that the nodes of a graph hold, beside what they are imported from or exported to."""
    for node, node_proto in zip(graph.nodes, proto.node, strict=True):
        inner = {name: value for name, value in node.attrs.items() if isinstance(value, gs.Graph)}
        if inner:
            protos = {attribute.name: attribute.g for attribute in node_proto.attribute if attribute.HasField("g")}
            yield from ((value, protos[name]) for name, value in inner.items())


def _homeless_in(graph: gs.Graph, proto: GraphProto, owned: Owned) -> dict[str, TensorProto]:
    """Takes out of each inner graph what it does not own; returns what none of them owns."""
    homeless: dict[str, TensorProto] = {}
    for inner, inner_proto in inner_graphs(graph, proto):
        own = owned.get(id(inner), frozenset())
        found = _homeless_in(inner, inner_proto, owned)
        _keep(inner_proto, {name: tensor for name, tensor in found.items() if name in own})
        stored = list(inner_proto.initializer)
        del inner_proto.initializer[:]
        inner_proto.initializer.extend(tensor for tensor in stored if tensor.name in own)
        found |= {tensor.name: tensor for tensor in stored}
        homeless |= {name: tensor for name, tensor in found.items() if name not in own}
    return homeless


def _keep(proto: GraphProto, found: Mapping[str, TensorProto]) -> None:
    have = {tensor.name for tensor in proto.initializer}
    proto.initializer.extend(tensor for name, tensor in found.items() if name not in have)
