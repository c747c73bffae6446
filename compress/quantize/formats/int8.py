"""8-bit integers: uint8 activations with one scale a tensor, int8 weights with one scale a channel.

x_q = clip(round(x / s) + z, 0, 255) for activations, w_q = clip(round(w / s_c), −127, 127) for output channel c,
written as QuantizeLinear and DequantizeLinear around float operators; runtimes fuse them into integer kernels.
Symmetric activations would leave pairs around each Relu that no runtime fuses.

Source: B. Jacob et al., Quantization and training of neural networks for efficient integer-arithmetic-only inference,
2018, eq. (1); the scales come from the least and largest value seen (`MinMax`).
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compress.errors import ModelFileError
from compress.onnx_io.file import strip_metadata
from compress.quantize.calibration import feeds
from compress.quantize.format import formats, require_float32

if TYPE_CHECKING:
    import onnx

# The first opset whose DequantizeLinear takes one scale a channel.
_PER_CHANNEL_OPSET = 13


@formats.register("int8")
def int8(model: onnx.ModelProto, calibration: Iterable[np.ndarray]) -> onnx.ModelProto:
    """Returns the model with 8-bit weights and activations.

    BatchNormalization is folded into the convolution before it: between two rounded tensors it would stay float.

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
    with tempfile.TemporaryDirectory() as folder, _quiet():
        prepared = _fold(_raise_opset(_fix_weights(model)), Path(folder) / "folded.onnx")
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
    # The model keeps what it says of itself; the quantizer's marks go.
    del quantized.metadata_props[:]
    quantized.metadata_props.extend(model.metadata_props)
    return strip_metadata(_drop_unused_domains(quantized))


def _fix_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy whose weights are no inputs: old files list them there, and nothing can fold what may be fed."""
    import onnx

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    weights = {tensor.name for tensor in fixed.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del fixed.graph.input[:]
    fixed.graph.input.extend(inputs)
    # Before version 4 every weight had to be listed.
    fixed.ir_version = max(fixed.ir_version, 4)
    return fixed


def _raise_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnx

    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset >= _PER_CHANNEL_OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, _PER_CHANNEL_OPSET)
    except Exception as error:
        raise ModelFileError(
            f"opset {opset} cannot be raised to {_PER_CHANNEL_OPSET}, which int8 needs: {error}",
            next_step=f"export it with opset {_PER_CHANNEL_OPSET} or higher",
        ) from error


def _fold(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Folds constants and BatchNormalization with ONNX Runtime's basic level, which keeps to ONNX's own operators."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelFileError(
            f"ONNX Runtime cannot open the model: {error}", next_step="`compress profile` it to see whether it runs"
        ) from error
    return onnx.shape_inference.infer_shapes(onnx.load(str(path)))


def _drop_unused_domains(model: onnx.ModelProto) -> onnx.ModelProto:
    used = {node.domain for node in model.graph.node} | {""}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    return model


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


@contextmanager
def _quiet() -> Iterator[None]:
    """Holds back the quantizer's warnings: they ask for what is done here, or repeat themselves."""
    import onnxruntime

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    onnxruntime.set_default_logger_severity(3)
    try:
        yield
    finally:
        logging.disable(before)
        onnxruntime.set_default_logger_severity(2)
