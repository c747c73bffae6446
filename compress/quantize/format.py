"""What a format is: from a float32 model and calibration images to a model that is smaller, or cheaper."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from compress.catalogue import MethodInfo, describe
from compress.errors import ModelFileError
from compress.onnx_io.tensors import all_nodes, tensors
from compress.registry import Registry

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Converted:
    """What a format makes of a model.

    Attributes:
        model: the new one; where nothing is to be done, the one that was given.
        details: what the format has to tell, as a JSON value.
    """

    model: onnx.ModelProto
    details: dict[str, Any] = field(default_factory=dict)


class Format(ABC):
    """A format is a frozen dataclass whose fields are its knobs."""

    # What the weights of convolutions are stored as.
    CONVOLUTIONS: ClassVar[Literal["float32", "int8"]] = "float32"

    @abstractmethod
    def convert(self, model: onnx.ModelProto, calibration: Iterable[np.ndarray]) -> Converted:
        """Returns the model in this format; the argument is not changed, and equal arguments give equal models.

        Args:
            model: as read.
            calibration: float32 [N, …] batches as the network takes them; formats that do not calibrate fetch none.

        Raises:
            ModelFileError: if the model cannot be converted.
            DataError: if the format calibrates, and the images do not fit or there are none.
        """


formats: Registry[type[Format]] = Registry("format", "compress.quantize.formats")


def list_formats() -> list[MethodInfo]:
    """Returns every registered format, as it describes itself, by id."""
    return [describe(name, formats.kind, formats.get(name)) for name in formats]


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
