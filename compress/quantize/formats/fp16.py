"""Half precision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.errors import ModelFileError
from compress.onnx_io.metadata import strip_metadata
from compress.onnx_io.node_order import sort_nodes
from compress.onnx_io.session import random_inputs, session
from compress.onnx_io.tensors import tensors
from compress.quantize.format import Converted, Format, formats, require_float32
from compress.quantize.prepare import fix_weights, quiet

if TYPE_CHECKING:
    import onnx

_LARGEST = 65504.0


@formats.register("fp16")
@dataclass(frozen=True)
class Float16(Format):
    """Half precision: weights and activations in float16, inputs and outputs in float32.

    1 sign, 5 exponent and 10 fraction bits: 2⁻²⁴ … 65504 with a relative error of 2⁻¹¹. Operators that ONNX defines or
    ONNX Runtime has in float32 alone stay there, with a Cast before and after. The result is run beside the original on
    random inputs: an activation that would overflow is refused, and the difference of outputs is reported.

    Source: IEEE 754-2008, binary16; P. Micikevicius et al., "Mixed precision training", 2018, section 3, for inference
        alone. The conversion is `onnxruntime.transformers.float16`; it lifts weights below 2⁻²⁴ to 2⁻²⁴.
    """

    def convert(self, model: onnx.ModelProto, calibration: Iterable[np.ndarray]) -> Converted:
        """Returns the model in float16; no calibration image is fetched.

        Raises:
            ModelFileError: if the model is not float32, a weight or an output does not fit into float16, or ONNX
                Runtime cannot convert or run it.
        """
        require_float32(model)
        _require_range(model)
        fixed = fix_weights(model)
        with quiet():
            from onnxruntime.transformers.float16 import convert_float_to_float16

            try:
                converted = convert_float_to_float16(fixed, keep_io_types=True)
            except Exception as error:
                raise ModelFileError(
                    f"ONNX Runtime cannot convert the model to float16: {error}", next_step="choose another format"
                ) from error
        # The converter appends its casts.
        sort_nodes(converted.graph)
        converted = strip_metadata(converted)
        return Converted(converted, {"max_abs_diff": _difference(model, converted)})


def _require_range(model: onnx.ModelProto) -> None:
    import onnx

    for tensor in tensors(model):
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values = np.abs(onnx.numpy_helper.to_array(tensor))
        largest = float(values.max(initial=0, where=np.isfinite(values)))
        if largest > _LARGEST:
            raise ModelFileError(
                f"tensor {tensor.name!r} does not fit into float16",
                got=f"{largest:.4g}",
                allowed=f"up to {_LARGEST:.0f}",
                next_step="choose another format",
            )


def _difference(before: onnx.ModelProto, after: onnx.ModelProto) -> float:
    """Returns the largest difference of outputs on random inputs.

    Runtimes without kernels for float16 compute in float32 and may skip the rounding between two operators: what would
    overflow elsewhere is found on the original.

    Raises:
        ModelFileError: if an activation of the original does not fit into float16.
    """
    import onnx

    feed = random_inputs(before, 0)
    watched = onnx.ModelProto()
    watched.CopyFrom(before)
    named = {value.name for value in before.graph.output}
    names = {name for node in before.graph.node for name in node.output if name} - named
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(names))
    values = _run(watched, feed)
    for value, array in zip(watched.graph.output, values, strict=True):
        if not (isinstance(array, np.ndarray) and array.dtype == np.float32):
            continue
        top = float(np.abs(array).max(initial=0, where=np.isfinite(array)))
        if top > _LARGEST:
            raise ModelFileError(
                f"activation {value.name!r} overflows in float16 on random inputs",
                got=f"{top:.4g}",
                allowed=f"up to {_LARGEST:.0f}",
                next_step="choose another format, or rescale the network",
            )
    largest = 0.0
    for exact, rounded in zip(values, _run(after, feed), strict=False):
        if isinstance(exact, np.ndarray) and exact.dtype == np.float32 and exact.shape == rounded.shape:
            both = np.isfinite(exact) & np.isfinite(rounded)
            largest = max(largest, float(np.abs(exact - rounded).max(initial=0, where=both)))
    return largest


def _run(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> list[Any]:
    runner = session(model.SerializeToString())
    try:
        return list(runner.run(None, feed))
    except Exception as error:
        raise ModelFileError(
            f"the model does not run on random inputs: {error}", next_step="choose another format"
        ) from error
