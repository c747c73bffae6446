"""Positions of a kernel that hold nothing for any filter and any input go."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from compress.channels.trace import Trace
from compress.rewrite.graph_pass import Pass, constant, fresh_name, origin, producers
from compress.rewrite.kernel_plans import smaller
from compress.rewrite.kernels import Convolved, Kernel, convolutions
from compress.rewrite.passes import passes

_SLICE_WITH_INPUTS = 10
_GEOMETRY = ("auto_pad", "strides", "dilations", "pads", "group")


class CropKernels(Pass):
    """Σ_p W_p · shift_p(x) over the smallest evenly spaced grid of positions that holds all W_p other than zero.

    Zero rows at the border make a kernel smaller and change the padding on their side; zero rows between others double
    the dilation. Where padding would become negative the input is cut, if that is worth it.
    """

    name = "crop-kernels"
    order = 42

    def run(self, graph: gs.Graph, trace: Trace) -> list[str]:
        """Crops; see `Pass.run`."""
        nodes, gone = producers(graph), 0
        for one in convolutions(trace):
            target = origin(nodes, one.node)
            kernel, places = smaller(one, cut=trace.graph.opset >= _SLICE_WITH_INPUTS)
            if kernel.size == one.kernel.size or not isinstance(target.inputs[1], gs.Constant):
                continue
            _crop(graph, target, one, kernel, places)
            gone += one.kernel.size - kernel.size
        return [f"{gone} positions of kernels removed"] if gone else []


def _crop(graph: gs.Graph, target: gs.Node, one: Convolved, kernel: Kernel, places: tuple[slice, ...]) -> None:
    weight = target.inputs[1]
    values = np.ascontiguousarray(weight.values[(slice(None), slice(None), *places)])
    if len(weight.outputs) == 1:
        weight.values = values
    else:
        target.inputs[1] = constant(graph, weight.name, values)
    for name in _GEOMETRY:
        target.attrs.pop(name, None)
    target.attrs.update(kernel.attributes())
    if "kernel_shape" in target.attrs:
        target.attrs["kernel_shape"] = [span.size for span in kernel.spans]
    begins, ends = kernel.cuts()
    if not any(begins) and not any(ends):
        return
    x, far = target.inputs[0], np.iinfo(np.int64).max
    axes = np.arange(2, 2 + len(begins))
    stops = [-end if end else far for end in ends]
    bounds = [constant(graph, f"{x.name}.{name}", np.asarray(value, np.int64))
              for name, value in (("starts", begins), ("stops", stops), ("axes", axes))]  # fmt: skip
    cut = gs.Variable(fresh_name(graph, f"{x.name}.cut"), dtype=x.dtype)
    graph.nodes.append(gs.Node("Slice", cut.name, inputs=[x, *bounds], outputs=[cut]))
    target.inputs[0] = cut


passes.register(CropKernels.name)(CropKernels())
