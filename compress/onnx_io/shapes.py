"""What a cost counts: the nodes of an ONNX graph, and the shape and element type of every value.

Shapes that a graph computes for itself are constants once every input has a size; so are the nodes that compute them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.channels.graph import Graph, Shape
from compress.errors import ModelFileError
from compress.onnx_io.analysing import analysing
from compress.onnx_io.functions import inlined
from compress.onnx_io.graph import sized_graph
from compress.onnx_io.session import input_shapes

if TYPE_CHECKING:
    import onnx


class Values:
    """The values of a graph: which are constant, and how large each is.

    Args:
        graph: with shapes for chosen sizes of its inputs.
        nodes: those of the file, which the graph's may be parts of.
    """

    def __init__(self, graph: Graph, nodes: Iterable[onnx.NodeProto]) -> None:
        self._graph = graph
        self._constant = {"", *graph.constants}
        for node in nodes:
            if self.constant(*node.input) and not any(attribute.HasField("g") for attribute in node.attribute):
                self._constant.update(node.output)

    def constant(self, *names: str) -> bool:
        """Tells whether no value of that name depends on what is fed."""
        return self._constant.issuperset(names)

    def shape(self, name: str) -> Shape | None:
        """Returns a value's shape, or None if an axis is unknown."""
        return self._graph.shapes.get(name)

    def element(self, name: str) -> int:
        """Returns the type of a value's elements as ONNX numbers it, 0 if it is unknown."""
        from onnx import helper

        element = self._graph.elements.get(name)
        return 0 if element is None else helper.np_dtype_to_tensor_dtype(element)

    def size_bytes(self, name: str) -> int | None:
        """Returns a value's bytes, or None if they are unknown."""
        shape, element = self._graph.shapes.get(name), self._graph.elements.get(name)
        return None if shape is None or element is None else math.prod(shape) * element.itemsize


@dataclass(frozen=True)
class Sized:
    """A graph for chosen sizes of its inputs.

    Attributes:
        nodes: in order of execution, without those that only compute shapes.
        inputs: names of what is fed.
        outputs: names of what is returned.
        values: of the graph.
    """

    nodes: Sequence[onnx.NodeProto]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    values: Values


def sized(
    model: onnx.ModelProto, batch_size: int = 1, sizes: Mapping[str, int] | None = None, graph: Graph | None = None
) -> Sized:
    """Infers the shape of every value, with a number for every free axis of the inputs.

    Args:
        model: checked; not changed.
        batch_size: for free batch axes.
        sizes: numbers for other free axes, by name; see `compress.onnx_io.session.input_shapes`.
        graph: the model's channel graph, if there is one already.

    Raises:
        ModelFileError: if an input is no tensor with a shape, or shapes contradict each other.
    """
    import onnx

    plain = inlined(model)
    fed = {name: spec.shape for name, spec in input_shapes(plain, batch_size, sizes).items()}
    with analysing():
        try:
            graph = sized_graph(plain, fed, graph)
        except (onnx.shape_inference.InferenceError, MemoryError, RuntimeError, ValueError) as error:
            what = f"shapes contradict each other: {error}"
            raise ModelFileError(what, next_step="export the network again") from error
    nodes = [node for node in plain.graph.node if not all(name in graph.constants for name in node.output if name)]
    return Sized(nodes, graph.inputs, graph.outputs, Values(graph, nodes))
