"""Low rank: layers split where that takes fewer multiplications."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from compress.errors import ModelFileError
from compress.onnx_io.cost import onnx_cost
from compress.onnx_io.shapes import Values, sized
from compress.onnx_io.stand_ins import attributes_of
from compress.onnx_io.tensors import all_nodes
from compress.quantize.factors import Factors, split_kernel, split_matrix
from compress.quantize.format import Converted, Format, formats, require_float32
from compress.quantize.prepare import fix_weights

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class _Split:
    """What would stand for a node: the operators and their weights, and multiply-accumulates before and after."""

    factors: Factors
    weights: tuple[np.ndarray, ...]
    attributes: tuple[dict[str, Any], ...]
    macs_before: int
    macs_after: int


@formats.register("low-rank")
@dataclass(frozen=True)
class LowRank(Format):
    """Low rank: matrix products are split in two by SVD, convolutions in three by Tucker-2, where that lowers MACs.

    Linear layers and 1×1 convolutions: W ≈ (U_r √S_r)(√S_r V_rᵀ). Other convolutions W[O, I, k…] ≈ G ×₁ A ×₂ B with
    A[O, r_O] and B[I, r_I], the leading singular vectors of the two unfoldings (HOSVD): a 1×1 convolution I → r_I, one
    with the kernel r_I → r_O, a 1×1 convolution r_O → O. Each rank is the least whose squared singular values hold the
    given share; of a convolution, at least 2·energy − 1 is left. Whatever would not get cheaper stays as it is, and so
    do grouped convolutions. Nothing is trained here.

    Args:
        energy: share of the squared singular values that each unfolding keeps.

    Source: Y.-D. Kim et al., "Compression of Deep Convolutional Neural Networks for Fast and Low Power Mobile
        Applications", 2016, section 3, with ranks from the energy instead of variational Bayes; L. De Lathauwer et al.,
        "A Multilinear Singular Value Decomposition", 2000, for the HOSVD.
    """

    energy: Annotated[float, Field(gt=0, le=1)] = 0.9

    def convert(self, model: onnx.ModelProto, calibration: Iterable[np.ndarray]) -> Converted:
        """Returns the model with layers split; no calibration image is fetched.

        Raises:
            ModelFileError: if the model is not float32, or holds weights that are not finite.
        """
        from onnx import TensorProto, helper, numpy_helper

        require_float32(model)
        fixed = fix_weights(model)
        values = sized(model).values
        weights = {t.name: t for t in fixed.graph.initializer if t.data_type == TensorProto.FLOAT}
        taken = {name for node in all_nodes(fixed) for name in (*node.input, *node.output)} | set(weights)
        made: dict[str, onnx.TensorProto] = {}
        nodes, layers = [], []
        for node in fixed.graph.node:
            tensor = weights.get(node.input[1]) if len(node.input) > 1 and node.domain in ("", "ai.onnx") else None
            split = self._split(node, tensor, values) if tensor is not None else None
            if tensor is None or split is None or split.macs_after >= split.macs_before:
                nodes.append(node)
                continue
            value = node.input[0]
            for place, (array, attributes) in enumerate(zip(split.weights, split.attributes, strict=True)):
                last = place == len(split.weights) - 1
                # The name says how the weight was read: nodes that share a weight share its factors.
                factor = _free(f"{tensor.name}_{_reading(node)}_{place}", taken)
                made[factor] = numpy_helper.from_array(np.ascontiguousarray(array, dtype=np.float32), factor)
                operator = "MatMul" if node.op_type == "Gemm" and not last else node.op_type
                output = node.output[0] if last else _free(f"{node.output[0]}_rank_{place}", taken)
                name = f"{node.name}_{place}" if node.name else ""
                bias = list(node.input[2:]) if last else []
                nodes.append(helper.make_node(operator, [value, factor, *bias], [output], name=name, **attributes))
                value = output
            layers.append(_described(node, split))
        if not layers:
            return Converted(model, {"layers": [], **_macs(model, model)})
        del fixed.graph.node[:]
        fixed.graph.node.extend(nodes)
        read = {name for node in all_nodes(fixed) for name in node.input} | {v.name for v in fixed.graph.output}
        kept = [tensor for tensor in fixed.graph.initializer if tensor.name in read]
        del fixed.graph.initializer[:]
        fixed.graph.initializer.extend([*kept, *made.values()])
        return Converted(fixed, {"layers": layers, **_macs(model, fixed)})

    def _split(self, node: onnx.NodeProto, tensor: onnx.TensorProto, values: Values) -> _Split | None:
        """Returns what could stand for a node, or None if it is none of those that can be split."""
        from onnx import numpy_helper

        attributes = attributes_of(node)
        shapes = values.shape(node.input[0]), values.shape(node.output[0])
        matrix = node.op_type == "MatMul" or (node.op_type == "Gemm" and not attributes.get("transA"))
        kernel = node.op_type == "Conv" and attributes.get("group", 1) == 1
        if not (matrix and len(tensor.dims) == 2) and not (kernel and len(tensor.dims) > 2):
            return None
        if None in shapes or 0 in tensor.dims:
            return None
        W = numpy_helper.to_array(tensor).astype(np.float64)
        if not np.isfinite(W).all():
            raise ModelFileError(f"weight {tensor.name!r} holds NaN or infinity", next_step="train it again")
        before, after = (math.prod(shape or ()) for shape in shapes)
        if kernel:
            return _convolution(W, attributes, self.energy, before // W.shape[1], after // W.shape[0])
        transposed = bool(attributes.pop("transB", 0))
        factors = split_matrix(W if transposed else W.T, self.energy)
        first, second = factors.arrays
        outputs = second.shape[0]
        return _Split(
            factors,
            (first.T, second.T),
            ({}, attributes),
            after * first.shape[1],
            after // outputs * (first.size + second.size),
        )


def _convolution(W: np.ndarray, attributes: dict[str, Any], energy: float, before: int, after: int) -> _Split:
    """Splits a convolution; `before` and `after` are positions (batch included) of its input and output."""
    ones = [1] * (W.ndim - 2)
    pointwise = {"kernel_shape": ones}
    macs = after * W.size
    if W[0, 0].size == 1:
        factors = split_matrix(W.reshape(W.shape[:2]), energy)
        weights = tuple(array.reshape(*array.shape, *ones) for array in factors.arrays)
        # The first one takes the stride: the second sees the fewer positions too.
        return _Split(factors, weights, (attributes, pointwise), macs, after * sum(array.size for array in weights))
    factors = split_kernel(W, energy)
    into, core, out = factors.arrays
    weights = into.reshape(*into.shape, *ones), core, out.reshape(*out.shape, *ones)
    cost = before * into.size + after * (core.size + out.size)
    return _Split(factors, weights, (pointwise, attributes, pointwise), macs, cost)


def _described(node: onnx.NodeProto, split: _Split) -> dict[str, Any]:
    return {
        "name": node.name or node.output[0],
        "operator": node.op_type,
        "ranks": list(split.factors.ranks),
        "full_ranks": list(split.factors.full_ranks),
        "energy": split.factors.energy,
        "macs_before": split.macs_before,
        "macs_after": split.macs_after,
    }


def _reading(node: onnx.NodeProto) -> str:
    """Returns a word for how a node reads its weight."""
    return node.op_type.lower() + ("_t" if attributes_of(node).get("transB") else "")


def _macs(before: onnx.ModelProto, after: onnx.ModelProto) -> dict[str, int]:
    return {"macs_before": onnx_cost(before).macs, "macs_after": onnx_cost(after).macs}


def _free(name: str, taken: set[str]) -> str:
    """Returns `name`, longer if the model has one of its own that is called so."""
    while name in taken:
        name += "_"
    return name
