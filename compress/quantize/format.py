"""What a number format is: a function from a float32 model and calibration images to a smaller model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from compress.errors import ModelFileError
from compress.onnx_io.tensors import all_nodes, tensors
from compress.registry import Registry

if TYPE_CHECKING:
    import onnx

# (model, batches of images as the network takes them) → a new model; the argument is not changed.
Format: TypeAlias = "Callable[[onnx.ModelProto, Iterable[np.ndarray]], onnx.ModelProto]"

formats: Registry[Format] = Registry("format", "compress.quantize.formats")

_QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"}


def require_float32(model: onnx.ModelProto) -> None:
    """Refuses a model that computes in anything but float32.

    Raises:
        ModelFileError: if it is quantized already, or has weights or inputs of another float type.
    """
    import onnx

    for node in all_nodes(model):
        if node.op_type in _QUANTIZED or node.op_type.startswith(("QLinear", "QGemm", "QAttention")):
            raise ModelFileError(
                f"the model is quantized already, at {node.op_type} {node.name!r}",
                allowed="a float32 model",
                next_step="give the model that it was made from",
            )
    other: dict[int, str] = {
        onnx.TensorProto.FLOAT16: "float16",
        onnx.TensorProto.BFLOAT16: "bfloat16",
        onnx.TensorProto.DOUBLE: "float64",
    }
    named = [(tensor.name, tensor.data_type) for tensor in tensors(model)]
    named += [(value.name, value.type.tensor_type.elem_type) for value in model.graph.input]
    for name, kind in named:
        if kind in other:
            raise ModelFileError(
                f"tensor {name!r} is {other[kind]}", allowed="a float32 model", next_step="export it in float32"
            )
