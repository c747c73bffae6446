"""Stripes and columns of zeros in kernels are not computed: a convolution becomes a sum of smaller ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from compress.channels.graph import Array
from compress.channels.trace import Trace
from compress.recipe import RewriteSettings
from compress.rewrite.graph_pass import Pass, constant, fresh_name, origin, producers
from compress.rewrite.kernel_plans import (
    MEASURED,
    ByFilters,
    Columns,
    Part,
    Plan,
    RankedInputs,
    Stripes,
    Tolls,
    cheapest,
    tolls_of,
)
from compress.rewrite.kernels import Convolved, Kernel, convolutions
from compress.rewrite.passes import passes


class SplitKernels(Pass):
    """Conv(x, W) = a plan of `kernel_plans`, where one is cheaper.

    Args:
        tolls: what counts beside multiply-accumulates.
    """

    name = "split-kernels"
    order = 45

    def __init__(self, tolls: Tolls) -> None:
        self.tolls = tolls

    def configured(self, settings: RewriteSettings) -> Pass | None:
        """Returns the pass that the settings ask for; see `Pass.configured`."""
        tolls = tolls_of(settings)
        return None if tolls is None else SplitKernels(tolls)

    def run(self, graph: gs.Graph, trace: Trace) -> list[str]:
        """Splits; see `Pass.run`."""
        nodes, notes = producers(graph), []
        for one in convolutions(trace):
            target = origin(nodes, one.node)
            plan = cheapest(one, self.tolls) if all(map(_is_stored, target.inputs[1:])) else None
            if plan is not None:
                Split(graph, target, one).into(plan)
                notes.append(f"{one.node.name} computed as {plan}")
        return notes


def _is_stored(tensor: gs.Tensor) -> bool:
    return isinstance(tensor, gs.Constant) or bool(tensor.is_empty())


@dataclass(frozen=True)
class Split:
    """Nodes that take the place of a convolution."""

    graph: gs.Graph
    target: gs.Node
    one: Convolved

    def into(self, plan: Plan) -> None:
        """Replaces the node."""
        result = self.target.outputs[0]
        self.target.outputs.clear()
        if isinstance(plan, ByFilters):
            made = self._by_filters(plan)
        elif isinstance(plan, RankedInputs):
            made = self._ranked_inputs(plan)
        elif isinstance(plan, Stripes):
            made = self._stripes(plan)
        else:
            made = self._columns(plan)
        (maker,) = made.inputs
        maker.outputs[0] = result
        self.target.inputs.clear()

    def _by_filters(self, plan: ByFilters) -> gs.Variable:
        made = [self._part(part) for part in plan.parts]
        if len(made) == 1:
            return made[0]
        joined = self._node("Concat", made, {"axis": 1})
        order = plan.order
        if (order == np.arange(order.size)).all():
            return joined
        return self._node("Gather", [joined, self._constant("order", order)], {"axis": 1})

    def _part(self, part: Part) -> gs.Variable:
        weight = self.one.weight[part.filters][(slice(None), slice(None), *part.places)]
        bias = self._bias(part.filters)
        if part.ranks is None:
            return self._convolution(self._x, weight, bias, part.kernel)
        flat = weight.reshape(*weight.shape[:2], -1)
        terms = []
        for rank, positions in enumerate(part.ranks):
            stripes = np.where((positions >= 0)[:, None], flat[np.arange(len(flat)), :, positions], 0)
            mixed = self._convolution(self._x, self._point(stripes), None)
            terms.append(self._pick(mixed, positions, part.kernel, bias if rank == 0 else None))
        return self._sum(terms)

    def _ranked_inputs(self, plan: RankedInputs) -> gs.Variable:
        flat = self._flat(plan.places)
        terms = []
        for rank, positions in enumerate(plan.ranks):
            columns = np.where(positions >= 0, flat[:, np.arange(flat.shape[1]), positions], 0)
            picked = self._pick(self._x, positions, plan.kernel, None)
            terms.append(self._convolution(picked, self._point(columns), self._bias() if rank == 0 else None))
        return self._sum(terms)

    def _columns(self, plan: Columns) -> gs.Variable:
        flat = self._flat(plan.places)
        terms = []
        for index, (inputs, positions) in enumerate(block.T for block in plan.blocks):
            gathered = self._node("Gather", [self._x, self._constant("columns", inputs)], {"axis": 1})
            picked = self._pick(gathered, positions, plan.kernel, None)
            bias = self._bias() if index == 0 else None
            terms.append(self._convolution(picked, self._point(flat[:, inputs, positions]), bias))
        return self._sum(terms)

    def _stripes(self, plan: Stripes) -> gs.Variable:
        flat = self._flat(plan.places)
        terms = []
        for index, (filters, positions) in enumerate(block.T for block in plan.blocks):
            mixed = self._convolution(self._x, self._point(flat[filters, :, positions]), None)
            picked = self._pick(mixed, positions, plan.kernel, None)
            sums = (np.arange(len(flat))[:, None] == filters).astype(flat.dtype)
            terms.append(self._convolution(picked, self._point(sums), self._bias() if index == 0 else None))
        return self._sum(terms)

    @property
    def _x(self) -> gs.Tensor:
        return self.target.inputs[0]

    def _flat(self, places: tuple[slice, ...]) -> Array:
        weight = self.one.weight[(slice(None), slice(None), *places)]
        return weight.reshape(*weight.shape[:2], -1)

    def _bias(self, filters: Array | None = None) -> Array | None:
        if len(self.target.inputs) < 3 or self.target.inputs[2].is_empty():
            return None
        values: Array = self.target.inputs[2].values
        return values if filters is None else values[filters]

    def _point(self, matrix: Array) -> Array:
        return matrix.reshape(*matrix.shape, *(1 for _ in self.one.outputs))

    def _pick(self, tensor: gs.Tensor, positions: Array, kernel: Kernel, bias: Array | None) -> gs.Variable:
        """Shifts each channel by the position that it is picked at."""
        ones = np.zeros((positions.size, kernel.size), self.one.weight.dtype)
        ones[positions >= 0, positions[positions >= 0]] = 1
        shaped = ones.reshape(positions.size, 1, *(span.size for span in kernel.spans))
        return self._convolution(tensor, shaped, bias, Kernel(kernel.spans, positions.size))

    def _convolution(
        self, tensor: gs.Tensor, weight: Array, bias: Array | None, kernel: Kernel | None = None
    ) -> gs.Variable:
        inputs = [tensor, self._constant("weight", weight)]
        if bias is not None:
            inputs.append(self._constant("bias", bias))
        return self._node("Conv", inputs, kernel.attributes() if kernel else {})

    def _sum(self, terms: list[gs.Variable]) -> gs.Variable:
        total = terms[0]
        for term in terms[1:]:
            total = self._node("Add", [total, term], {})
        return total

    def _constant(self, what: str, values: Array) -> gs.Constant:
        return constant(self.graph, f"{self.one.node.outputs[0]}.{what}", values)

    def _node(self, operator: str, inputs: list[gs.Tensor], attributes: Mapping[str, object]) -> gs.Variable:
        name = fresh_name(self.graph, f"{self.one.node.outputs[0]}.{operator.lower()}")
        made = gs.Variable(name, dtype=self._x.dtype)
        self.graph.nodes.append(gs.Node(operator, name, dict(attributes), inputs, [made]))
        return made


passes.register(SplitKernels.name)(SplitKernels(MEASURED))
