"""The graphs that nodes hold (branches of If, bodies of Loop and Scan) as models of their own, and back.

What a graph reads from outside becomes an input of the model, or an initializer where its value is known; so all that
crosses the boundary stays as it is, and what lies inside is a network like any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

from compress.channels.graph import Array, Graph
from compress.onnx_io.tensors import captured_by, graphs
from compress.onnx_io.weights import Parted
from compress.rewrite.graph_pass import unused

# A message holds 2 GiB; what an inner graph reads is copied into one.
_MOST_BYTES = 1 << 29
_FREE_INITIALIZERS = 4  # the first IR version in which initializers need not be inputs as well


@dataclass(frozen=True)
class InnerModel:
    """One such graph.

    Attributes:
        place: index of the node that holds it, and the name of the node's attribute.
        where: the same in words.
        graph: the graph.
        model: the graph as a model.
        given: the constants of outer graphs that it reads.
        shared: those of them that something else reads as well.
    """

    place: tuple[int, str]
    where: str
    graph: GraphProto
    model: ModelProto
    given: dict[str, Array]
    shared: frozenset[str]

    def back(self, result: ModelProto, taken: set[str]) -> tuple[GraphProto, bool]:
        """Returns what has become of the model as a graph for the node, and whether it now has a shared constant twice.

        Args:
            result: the model, rewritten.
            taken: names that mean something in the model around it; those of new tensors are added.
        """
        graph = GraphProto(name=self.graph.name, input=self.graph.input, output=self.graph.output)
        graph.node.extend(result.graph.node)
        graph.initializer.extend(tensor for tensor in result.graph.initializer if not self._is_given(tensor))
        doubled = any(tensor.name in self.shared for tensor in graph.initializer)
        clashing = sorted((_defined(graph) - _defined(self.graph)) & taken)
        new = {name: unused(name, taken | _defined(graph)) for name in clashing}
        _rename(graph, new)
        taken |= _defined(graph)
        return graph, doubled

    def _is_given(self, tensor: TensorProto) -> bool:
        """Tells whether a tensor is a constant from outside, as it was."""
        old = self.given.get(tensor.name)
        if old is None or list(old.shape) != list(tensor.dims):
            return False
        values = numpy_helper.to_array(tensor)
        return old.dtype == values.dtype and old.tobytes() == values.tobytes()


def inner_models(model: Parted, known: Graph) -> Iterator[InnerModel]:
    """Yields the graphs that the nodes of a model's main graph hold, as far as they hold weights and stand alone.

    Args:
        model: without local functions; not changed.
        known: the model's channel graph.
    """
    main = model.skeleton.graph
    if model.skeleton.ir_version < _FREE_INITIALIZERS:
        return
    reads: Counter[str] = Counter()
    for index, node in enumerate(main.node):
        for attribute in node.attribute:
            if not attribute.HasField("g") or attribute.g.sparse_initializer:
                continue
            outside = list(dict.fromkeys(captured_by(NodeProto(attribute=[attribute]))))
            given = {name: np.asarray(known.constants[name]) for name in outside if name in known.constants}
            if sum(values.nbytes for values in given.values()) > _MOST_BYTES:
                continue
            if not any(map(_is_weight, given.values())) and not any(map(_has_weights, graphs(attribute.g))):
                continue
            single = _alone(model.skeleton, attribute.g, [name for name in outside if name not in given], given, known)
            if single is not None:
                reads = reads or Counter(name for node in main.node for name in (*node.input, *captured_by(node)))
                where = f"{attribute.name} of {node.name or node.op_type!r}"
                shared = frozenset(name for name in given if reads[name] > 1)
                yield InnerModel((index, attribute.name), where, attribute.g, single, given, shared)


def replaced(model: Parted, found: dict[tuple[int, str], GraphProto]) -> Parted:
    """Returns a model with other graphs inside its nodes, without the constants that nothing reads any more.

    Args:
        model: not changed.
        found: the graphs, by their places.
    """
    skeleton = ModelProto()
    skeleton.CopyFrom(model.skeleton)
    main = skeleton.graph
    before = _read(main)
    for (index, name), graph in found.items():
        (attribute,) = (one for one in main.node[index].attribute if one.name == name)
        attribute.g.CopyFrom(graph)
    unread = before - _read(main)
    gone = {tensor.name for tensor in main.initializer if tensor.name in unread}
    # A weight may be listed as an input with a default, too.
    inputs = [value for value in main.input if value.name not in gone]
    stored = [tensor for tensor in main.initializer if tensor.name not in unread]
    nodes = [node for node in main.node if node.op_type != "Constant" or node.output[0] not in unread]
    del main.initializer[:], main.node[:], main.input[:]
    main.input.extend(inputs)
    main.initializer.extend(stored)
    main.node.extend(nodes)
    return Parted(skeleton, {name: values for name, values in model.weights.items() if name not in unread})


def names(graph: GraphProto) -> set[str]:
    """Returns all names of tensors in a graph and in those inside it."""
    return _defined(graph) | {name for inner in graphs(graph) for node in inner.node for name in node.input}


def _alone(
    model: ModelProto, graph: GraphProto, varying: list[str], given: dict[str, Array], known: Graph
) -> ModelProto | None:
    """Returns a graph as a model; None where too little is known of what it reads."""
    if any(name not in known.types or name not in known.shapes for name in varying):
        return None
    single = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    single.graph.CopyFrom(graph)
    single.graph.ClearField("value_info")
    for name in varying:
        # Axes of one free size have one example size as well.
        sizes = [
            f"size_{size}" if known.is_dynamic(name, axis) else size for axis, size in enumerate(known.shapes[name])
        ]
        element = helper.np_dtype_to_tensor_dtype(known.types[name])
        single.graph.input.append(helper.make_tensor_value_info(name, element, sizes))
    single.graph.initializer.extend(numpy_helper.from_array(np.ascontiguousarray(v), name) for name, v in given.items())
    inferred = shape_inference.infer_shapes(single, strict_mode=False, data_prop=True).graph
    for output, found in zip(single.graph.output, inferred.output, strict=True):
        output.type.CopyFrom(found.type)
    complete = all(value.type.tensor_type.elem_type for value in (*single.graph.input, *single.graph.output))
    return single if complete else None


def _is_weight(values: Array) -> bool:
    return values.dtype.kind == "f" and values.ndim > 1 and values.size > 1


def _has_weights(graph: GraphProto) -> bool:
    attributes = (attribute for node in graph.node for attribute in node.attribute if attribute.HasField("t"))
    return any(len(tensor.dims) > 1 for tensor in (*graph.initializer, *(attribute.t for attribute in attributes)))


def _read(graph: GraphProto) -> set[str]:
    return {name for node in graph.node for name in (*node.input, *captured_by(node))} | {o.name for o in graph.output}


def _defined(graph: GraphProto) -> set[str]:
    """Returns the names that a graph, or one inside it, gives to tensors."""
    inside = list(graphs(graph))
    found = {tensor.name for inner in inside for tensor in inner.initializer}
    found |= {name for inner in inside for node in inner.node for name in node.output if name}
    return found | {value.name for inner in inside for value in inner.input}


def _rename(graph: GraphProto, new: dict[str, str]) -> None:
    for inner in graphs(graph):
        for tensor in inner.initializer:
            tensor.name = new.get(tensor.name, tensor.name)
        for node in inner.node:
            for values in (node.input, node.output):
                values[:] = [new.get(name, name) for name in values]
