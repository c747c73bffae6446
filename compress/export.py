"""From a torch network to an ONNX file: named parameters, no metadata, proven against torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from compress.errors import NetworkError
from compress.onnx_io.file import write_model
from compress.onnx_io.metadata import strip_metadata
from compress.onnx_io.session import session
from compress.recipe import ExportSettings
from compress.torch_graph import evaluating, to_onnx
from compress.verbs import callable_module

# Largest difference that two orders of float32 summation give, relative to the larger of 1 and the largest output.
_TOLERANCE = 1e-5
_IR_VERSION = 10  # the newest that ONNX Runtime of two years ago takes


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote.

    Attributes:
        path: the file.
        file_bytes: its size.
        max_abs_diff: the largest difference of ONNX Runtime's outputs from torch's.
    """

    path: Path
    file_bytes: int
    max_abs_diff: float


def export(
    network: nn.Module,
    input_shape: tuple[int, ...],
    target: Path,
    settings: ExportSettings | None = None,
    *,
    seed: int = 0,
) -> ExportResult:
    """Writes a network as ONNX, after checking that ONNX Runtime computes what torch computes.

    Args:
        network: the network.
        input_shape: of one example, without the batch axis.
        target: the file to write.
        settings: see `ExportSettings`.
        seed: of the inputs of the check.

    Raises:
        NetworkError: if the exporter cannot follow the network, or the outputs differ.
    """
    settings = settings or ExportSettings()
    network = network.cpu()
    model = strip_metadata(to_onnx(network, input_shape, opset=settings.opset, dynamic_batch=settings.dynamic_batch))
    model.ir_version = min(model.ir_version, _IR_VERSION)
    difference = _parity(network, model.SerializeToString(), input_shape, settings, seed)
    write_model(model, target)
    return ExportResult(target, target.stat().st_size, difference)


def _parity(
    network: nn.Module, data: bytes, input_shape: tuple[int, ...], settings: ExportSettings, seed: int
) -> float:
    generator = np.random.default_rng(seed)
    images = generator.standard_normal((3 if settings.dynamic_batch else 1, *input_shape)).astype(np.float32)
    with evaluating(network), torch.inference_mode():
        output = network(torch.from_numpy(images))
    if not isinstance(output, torch.Tensor):
        raise NetworkError("the network must return one tensor", got=f"a {type(output).__name__}")
    expected = output.numpy()
    found = session(data).run(None, {"input": images})[0]
    if found.shape != expected.shape:
        raise NetworkError(
            "the exported network gives another shape than the torch network",
            got=f"{found.shape}, torch {expected.shape}",
            next_step="look for sizes that forward() takes from the example input",
        )
    difference = float(np.abs(expected - found).max())
    if not difference <= _TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise NetworkError(
            "the exported network does not compute what the torch network computes",
            got=f"a difference of {difference:.3g}",
            next_step="look for operations that depend on the example input, such as Python branches on values",
        )
    return difference


callable_module(__name__, export)
