"""8-bit integers with scales from each input."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compress.errors import ModelFileError
from compress.onnx_io.metadata import strip_metadata
from compress.quantize.format import Converted, Format, formats, require_float32
from compress.quantize.prepare import finished, fix_weights, fold, quiet, raise_opset

if TYPE_CHECKING:
    import onnx

# Convolutions with scales computed at run time are slower than in float32, on x86 as on ARM.
_OPERATORS = ("MatMul", "Gemm")


@formats.register("int8-dynamic")
@dataclass(frozen=True)
class Int8Dynamic(Format):
    """8-bit integers in matrix products alone, without calibration: the scale of an input is computed at run time.

    x_q = round(x / s) + z with s = (max x − min x) / 255 of each input as it comes, w_q = clip(round(w / s_w), −127,
    127). Convolutions stay in float32: there the scales cost more than the integers save.

    Args:
        per_channel: one weight scale an output channel, rather than one a tensor.

    Source: B. Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only
        inference", 2018, equation (1), with the ranges of activations taken from each input instead of training, as
        ONNX Runtime's dynamic quantization does.
    """

    per_channel: bool = True

    def convert(self, model: onnx.ModelProto, calibration: Iterable[np.ndarray]) -> Converted:
        """Returns the model with 8-bit products of constant matrices; no calibration image is fetched.

        Raises:
            ModelFileError: if the model is not float32, has no matrix product with a constant, or ONNX Runtime cannot
                quantize it.
        """
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        require_float32(model)
        with tempfile.TemporaryDirectory() as folder, quiet():
            # Without recorded shapes: the quantizer transposes weights under their own names.
            prepared = strip_metadata(fold(raise_opset(fix_weights(model)), Path(folder) / "folded.onnx"))
            target = Path(folder) / "int8.onnx"
            try:
                quantize_dynamic(
                    prepared,
                    str(target),
                    op_types_to_quantize=list(_OPERATORS),
                    per_channel=self.per_channel,
                    weight_type=QuantType.QInt8,
                    extra_options={"MatMulConstBOnly": True},
                )
            except Exception as error:
                raise ModelFileError(
                    f"ONNX Runtime cannot quantize the model: {error}", next_step="choose format none for it"
                ) from error
            quantized = onnx.load(str(target))
        if not any(node.op_type == "MatMulInteger" for node in quantized.graph.node):
            raise ModelFileError(
                "no MatMul or Gemm with a constant matrix is left to quantize: int8-dynamic leaves convolutions alone",
                next_step="choose format int8, with calibration images",
            )
        return Converted(finished(quantized, model))
