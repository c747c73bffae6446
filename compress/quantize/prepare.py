"""What a model goes through before a quantizer of ONNX Runtime sees it, and after."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from compress.errors import ModelFileError
from compress.onnx_io.metadata import strip_metadata

if TYPE_CHECKING:
    import onnx

# The first opset whose DequantizeLinear takes one scale a channel.
_PER_CHANNEL_OPSET = 13


def fix_weights(model: onnx.ModelProto) -> onnx.ModelProto:
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


def raise_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model in an opset that has a scale a channel.

    Raises:
        ModelFileError: if it cannot be raised to that.
    """
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


def fold(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Folds constants and BatchNormalization with ONNX Runtime's basic level, which keeps to ONNX's own operators.

    Args:
        model: not changed.
        path: a place for the result.

    Raises:
        ModelFileError: if ONNX Runtime does not open the model.
    """
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


def finished(quantized: onnx.ModelProto, source: onnx.ModelProto) -> onnx.ModelProto:
    """Returns what a quantizer made, with what the source says of itself, and without the quantizer's marks."""
    del quantized.metadata_props[:]
    quantized.metadata_props.extend(source.metadata_props)
    return strip_metadata(_drop_unused_domains(quantized))


def _drop_unused_domains(model: onnx.ModelProto) -> onnx.ModelProto:
    used = {node.domain for node in model.graph.node} | {""}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    return model


@contextmanager
def quiet() -> Iterator[None]:
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
