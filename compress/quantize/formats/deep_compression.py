"""Weight sharing, the middle step of deep compression; `compress pack` is the last."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from compress.coding.clusters import share
from compress.errors import ModelFileError
from compress.quantize.format import Converted, Format, formats, require_float32

if TYPE_CHECKING:
    import onnx

# Operator → kind of layer, and which of its inputs are weights.
_WEIGHTS: dict[str, tuple[str, tuple[int, ...]]] = {
    "Conv": ("conv", (1,)),
    "ConvTranspose": ("conv", (1,)),
    "Gemm": ("linear", (0, 1)),
    "MatMul": ("linear", (0, 1)),
    "LSTM": ("linear", (1, 2)),
    "GRU": ("linear", (1, 2)),
    "RNN": ("linear", (1, 2)),
}


@formats.register("deep-compression")
@dataclass(frozen=True)
class DeepCompression(Format):
    """Weight sharing: each layer's nonzero weights take at most 2^bits values, found by k-means; zeros stay zero.

    min Σ_i Σ_{w ∈ c_i} |w − c_i|², i = 1 … 2^bits, from centroids at equal distances between the least and the largest
    weight. The file keeps its size; `compress pack` stores it as places in a table, Huffman coded. Layers that have no
    more values than that are left as they are, such as those whose centroids were trained by [share].

    Args:
        conv_bits: of a place in the table, in convolutions.
        linear_bits: of a place in the table, in matrix products and recurrent layers.

    Source: S. Han, H. Mao, W. Dally, "Deep Compression: Compressing Deep Neural Networks with Pruning, Trained
        Quantization and Huffman Coding", 2016, section 3, equation (2).
    """

    conv_bits: Annotated[int, Field(ge=1, le=12)] = 8
    linear_bits: Annotated[int, Field(ge=1, le=12)] = 5

    def convert(self, model: onnx.ModelProto, calibration: Iterable[np.ndarray]) -> Converted:
        """Returns the model with shared weights; no calibration image is fetched.

        Raises:
            ModelFileError: if the model is not float32, has no weights to share, or some that are not finite.
        """
        from onnx import ModelProto, TensorProto, numpy_helper

        require_float32(model)
        shared = ModelProto()
        shared.CopyFrom(model)
        kinds = _kinds(shared)
        layers = []
        for tensor in shared.graph.initializer:
            kind = kinds.get(tensor.name)
            if kind is None or tensor.data_type != TensorProto.FLOAT:
                continue
            weights = numpy_helper.to_array(tensor)
            if not np.isfinite(weights).all():
                raise ModelFileError(f"weight {tensor.name!r} holds NaN or infinity", next_step="train it again")
            found = share(weights, self.conv_bits if kind == "conv" else self.linear_bits)
            tensor.CopyFrom(numpy_helper.from_array(found.weights(), tensor.name))
            layers.append(
                {
                    "name": tensor.name,
                    "kind": kind,
                    "weights": weights.size,
                    "nonzeros": int((found.index >= 0).sum()),
                    "values": len(found.centroids),
                    "relative_error": _relative_error(weights, found.weights()),
                }
            )
        if not layers:
            raise ModelFileError(
                "the model stores no weights of convolutions or matrix products", next_step="choose format none for it"
            )
        return Converted(shared, {"layers": layers})


def _kinds(model: onnx.ModelProto) -> dict[str, str]:
    """Returns the kind of layer that reads each tensor; one that both read counts as a convolution's."""
    found: dict[str, str] = {}
    for node in model.graph.node:
        kind, positions = _WEIGHTS.get(node.op_type, ("", ()))
        for name in (node.input[place] for place in positions if place < len(node.input)):
            found[name] = "conv" if "conv" in (kind, found.get(name)) else kind
    return found


def _relative_error(before: np.ndarray, after: np.ndarray) -> float:
    """Returns ‖after − before‖₂ / ‖before‖₂."""
    norm = float(np.linalg.norm(before.astype(np.float64)))
    return float(np.linalg.norm(after.astype(np.float64) - before)) / norm if norm else 0.0
