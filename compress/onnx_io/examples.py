"""The shape of every tensor of a graph, for examples of its free axes.

Shapes are inferred for several sets of examples: an axis whose size differs is symbolic.
"""

from __future__ import annotations

from onnx import ModelProto, shape_inference

from compress.channels.graph import Graph, Shape
from compress.onnx_io.inference import Unshaped, inferred
from compress.onnx_io.tensors import is_free

# Example sizes of free axes: (of the first axis, of the others). An axis whose size is the same with all is fixed. The
# last are small, for what is cropped to some length.
_EXAMPLES = ((1, 256), (2, 320), (3, 40))
_APART = 8  # between the examples of two symbols


def shaped(unshaped: Unshaped) -> Graph:
    """Returns a graph with its shapes, for examples of its free axes."""
    raw, skeleton = unshaped.graph, unshaped.skeleton
    inputs = [value.type.tensor_type.shape.dim for value in skeleton.graph.input]
    free = [axis for dims in inputs for axis, dim in enumerate(dims) if is_free(dim)]
    if not free:
        only = inferred(skeleton, raw, {})
        return unshaped.shaped(only.shapes, only.elements)
    # Symbols of different names may differ, unless the network does not stand that.
    apart = _APART
    sizes = _sizes(skeleton, raw, _EXAMPLES[0], apart=apart)
    try:
        first = inferred(skeleton, raw, sizes, strict=True)
    except shape_inference.InferenceError:
        first = inferred(skeleton, raw, sizes)
        if any(name not in first.shapes for node in raw.nodes for name in node.outputs if name):
            together = inferred(skeleton, raw, _sizes(skeleton, raw, _EXAMPLES[0], apart=0))
            if len(first.shapes) < len(together.shapes):
                apart, first = 0, together
    dynamic = {}
    # The last example tells of axes beside the first.
    more = _EXAMPLES[1:] if any(free) else _EXAMPLES[1:2]
    sets = (_sizes(skeleton, raw, example, apart=apart) for example in more)
    others = [inferred(skeleton, raw, sizes, first.values, first.shapes).shapes for sizes in sets]
    for name, shape in first.shapes.items():
        found = [other[name] for other in others if name in other]
        if name not in others[0] or any(len(other) != len(shape) for other in found):
            # Inference failed with the other examples: nothing is known to be fixed.
            dynamic[name] = (True,) * len(shape)
        elif any(other != shape for other in found):
            dynamic[name] = tuple(len(set(sizes)) > 1 for sizes in zip(shape, *found, strict=True))
    return unshaped.shaped(first.shapes, first.elements, dynamic=dynamic)


def _sizes(skeleton: ModelProto, graph: Graph, example: tuple[int, int], *, apart: int) -> dict[str, Shape]:
    """Returns a shape for each input.

    Args:
        skeleton: the model without weight data.
        graph: the model's nodes and constants.
        example: sizes of free first axes, and of other free axes.
        apart: by how much the sizes of two symbols differ.
    """
    sizes: dict[str, int] = {}
    found = {}
    for value in skeleton.graph.input:
        shape = []
        for axis, dim in enumerate(value.type.tensor_type.shape.dim if value.name in graph.inputs else ()):
            size = dim.dim_value
            if is_free(dim):
                size = example[min(axis, 1)] + (apart * len(sizes) if axis else 0)
                size = sizes.setdefault(dim.dim_param, size) if dim.dim_param else size
            shape.append(size)
        found[value.name] = tuple(shape)
    return found
