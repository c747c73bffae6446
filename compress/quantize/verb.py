"""The verb: an ONNX file in, a smaller ONNX file out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.artifact import require_target
from compress.errors import ModelFileError
from compress.onnx_io.file import read_model, session, total_bytes, write_model
from compress.options import build
from compress.quantize.calibration import limited
from compress.quantize.format import formats
from compress.recipe import QuantizeSettings

if TYPE_CHECKING:
    import onnx

_CONTRACTIONS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_INTEGER = ("ConvInteger", "MatMulInteger")


@dataclass(frozen=True)
class QuantizeResult:
    """What quantization did.

    Attributes:
        format: as the recipe names it.
        file_bytes_before: of the source.
        file_bytes_after: of the target.
        operators_quantized: operator → how many of them read dequantized values, or compute in integers.
        contractions_float: names of the Conv, ConvTranspose, Gemm and MatMul that still read float weights.
        details: what the format has to tell, as a JSON value.
        seconds: it took.
    """

    format: str
    file_bytes_before: int
    file_bytes_after: int
    operators_quantized: dict[str, int]
    contractions_float: tuple[str, ...]
    details: dict[str, Any]
    seconds: float


def quantize(
    source: Path, target: Path, settings: QuantizeSettings, calibration: Iterable[np.ndarray] = ()
) -> QuantizeResult:
    """Writes a model in another number format.

    Args:
        source: a float32 ONNX file.
        target: where to; written only if the result opens in ONNX Runtime.
        settings: which format with which knobs, and how many calibration images.
        calibration: float32 [N, …] batches as the network takes them; the first `settings.samples` images are used.

    Raises:
        CompressError: if there is no such format.
        RecipeError: if it has no such knob, or a value does not fit.
        ModelFileError: if the source is damaged, quantized already, not float32, or cannot be quantized, or is the
            target.
        DataError: if the calibration images do not fit or there are none.
        MachineError: if the target cannot be written.
    """
    start = time.monotonic()
    require_target(target, source)
    chosen = build(formats, settings.format, settings.options)
    model = read_model(source, target)
    try:
        converted = chosen.convert(model, limited(calibration, settings.samples))
    except ModelFileError as error:
        raise ModelFileError(f"{source}: {error}") from error
    quantized = converted.model
    if quantized is not model:
        session(quantized.SerializeToString())
    write_model(quantized, target)
    operators, still_float = _tally(quantized)
    return QuantizeResult(
        format=settings.format,
        file_bytes_before=total_bytes(source),
        file_bytes_after=total_bytes(target),
        operators_quantized=operators,
        contractions_float=still_float,
        details=converted.details,
        seconds=time.monotonic() - start,
    )


def _tally(model: onnx.ModelProto) -> tuple[dict[str, int], tuple[str, ...]]:
    dequantized = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    counts: Counter[str] = Counter()
    still_float = []
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            continue
        if dequantized.intersection(node.input) or node.op_type in _INTEGER:
            counts[node.op_type] += 1
        elif node.op_type in _CONTRACTIONS:
            still_float.append(node.name or node.output[0])
    return dict(sorted(counts.items())), tuple(still_float)
