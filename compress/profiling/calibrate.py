"""The costs of convolutions over channel counts, measured on a device in one go.

One model holds a convolution of each width, side by side, each fed by an input of its own, and named after its width:
the device's own table of operators then says what each costs.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compress.errors import MachineError
from compress.onnx_io.file import write_model
from compress.profiling.device import Tell
from compress.profiling.profile_report import ProfileReport
from compress.profiling.verb import profile
from compress.recipe import ProfileSettings
from compress.width_table import ELEMENTS, KINDS, WidthTable

WIDEST = 64
_SIDE = 14
_QUANTIZED = (
    ("scale", np.array(0.05, np.float32)),
    ("zero", np.array(128, np.uint8)),
    ("middle", np.array(0, np.int8)),
)


def calibrate(device: str, tell: Tell | None = None, widest: int = WIDEST) -> WidthTable:
    """Measures a device.

    Args:
        device: as `--device` takes it.
        tell: who is told what the device does.
        widest: so many channels at most.

    Raises:
        CompressError: if there is no such device.
        MachineError: if it fails, or does not tell what each operator costs.
    """
    pairs = [(kind, element) for kind in KINDS for element in ELEMENTS]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{kind}-{element}.onnx" for kind, element in pairs]
        for path, pair in zip(paths, pairs, strict=True):
            write_model(convolutions(*pair, range(1, widest + 1)), path)
        reports = profile(paths, ProfileSettings(device=device, blocks=6, runs=20), tell=tell)
    costs = {f"{k}/{e}": _costs(report, widest) for (k, e), report in zip(pairs, reports, strict=True)}
    return WidthTable(reports[0].device, reports[0].runtime, reports[0].unit, costs)


def convolutions(kind: str, element: str, widths: Sequence[int]) -> onnx.ModelProto:
    """Returns a model with one convolution a width, as many channels out as in, on 14 × 14 pixels.

    Args:
        kind: ``dense`` (3×3), ``pointwise`` (1×1) or ``depthwise`` (3×3).
        element: ``float32``, or ``int8``: weights, with activations of bytes.
        widths: numbers of channels.
    """
    kernel = 1 if kind == "pointwise" else 3
    random = np.random.default_rng(0)
    integers = element == "int8"
    weights = [numpy_helper.from_array(value, name) for name, value in _QUANTIZED] if integers else []
    nodes, inputs, outputs = [], [], []
    for width in widths:
        name = f"width.{width}."
        shape = (width, 1 if kind == "depthwise" else width, kernel, kernel)
        values = random.standard_normal(shape)
        stored = (40 * values).clip(-127, 127).astype(np.int8) if integers else values.astype(np.float32)
        weights.append(numpy_helper.from_array(stored, f"{name}w"))
        settings: dict[str, Any] = {"pads": [kernel // 2] * 4, "group": width if kind == "depthwise" else 1}
        if integers:
            read = [f"{name}x", "scale", "zero", f"{name}w", "scale", "middle", "scale", "zero"]
            nodes.append(helper.make_node("QLinearConv", read, [f"{name}y"], f"{name}y", **settings))
        else:
            nodes.append(helper.make_node("Conv", [f"{name}x", f"{name}w"], [f"{name}y"], f"{name}y", **settings))
        pixels = [1, width, _SIDE, _SIDE]
        number = TensorProto.UINT8 if integers else TensorProto.FLOAT
        inputs.append(helper.make_tensor_value_info(f"{name}x", number, pixels))
        outputs.append(helper.make_tensor_value_info(f"{name}y", number, pixels))
    graph = helper.make_graph(nodes, f"{kind} {element}", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def _costs(report: ProfileReport, widest: int) -> tuple[float, ...]:
    """Returns the cost of each width. What the runtime does besides, such as reordering, happens once a network."""
    found = dict.fromkeys(range(1, widest + 1), 0.0)
    for row in report.operators:
        match = re.search(r"width\.(\d+)\.y", row.node)
        if match and "Conv" in row.operator:
            found[int(match[1])] += row.cost
    if min(found.values()) <= 0:
        raise MachineError(
            f"device {report.device!r} does not tell what each convolution costs",
            next_step="calibrate another device, or name x86 or arm as the target",
        )
    return tuple(found.values())
