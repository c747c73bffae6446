"""8-bit integers with scales from calibration."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compress.errors import ModelFileError
from compress.quantize.calibration import feeds
from compress.quantize.format import Converted, Format, formats, require_float32
from compress.quantize.prepare import finished, fix_weights, fold, quiet, raise_opset

if TYPE_CHECKING:
    import onnx


@formats.register("int8")
@dataclass(frozen=True)
class Int8(Format):
    """8-bit integers: uint8 activations with one scale a tensor, int8 weights with one scale a channel.

    x_q = clip(round(x / s) + z, 0, 255) for activations, w_q = clip(round(w / s_c), −127, 127) for output channel c,
    written as QuantizeLinear and DequantizeLinear around float operators; runtimes fuse them into integer kernels.
    Symmetric activations would leave pairs around each Relu that no runtime fuses. BatchNormalization is folded into
    the convolution before it: between two rounded tensors it would stay float.

    Source: B. Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only
        inference", 2018, equation (1); the scales come from the least and largest value seen (`MinMax`).
    """

    CONVOLUTIONS = "int8"

    def convert(self, model: onnx.ModelProto, calibration: Iterable[np.ndarray]) -> Converted:
        """Returns the model with 8-bit weights and activations.

        Args:
            model: float32, with one input.
            calibration: float32 [N, …] batches; their extremes set the scales of the activations.

        Raises:
            ModelFileError: if the model is not float32, has several inputs, or ONNX Runtime cannot quantize it.
            DataError: if the images do not fit or there are none.
        """
        import onnx
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

        require_float32(model)
        batches = list(feeds(model, calibration))
        with tempfile.TemporaryDirectory() as folder, quiet():
            prepared = fold(raise_opset(fix_weights(model)), Path(folder) / "folded.onnx")
            target = Path(folder) / "int8.onnx"
            try:
                quantize_static(
                    prepared,
                    str(target),
                    _reader(batches),
                    quant_format=QuantFormat.QDQ,
                    per_channel=True,
                    reduce_range=False,
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                    calibrate_method=CalibrationMethod.MinMax,
                )
            except Exception as error:
                raise ModelFileError(
                    f"ONNX Runtime cannot quantize the model: {error}", next_step="choose format none for it"
                ) from error
            quantized = onnx.load(str(target))
        return Converted(finished(quantized, model))


def _reader(batches: list[dict[str, np.ndarray]]) -> object:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Hands out each batch once."""

        def __init__(self) -> None:
            self.left = iter(batches)

        def get_next(self) -> dict[str, np.ndarray] | None:
            """Returns the next batch, or None after the last."""
            return next(self.left, None)

    return Reader()
