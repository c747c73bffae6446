"""A core that nobody has at hand, by arithmetic: what an operator takes at least, its peaks being what they are.

Each operator takes the longer of its multiply-accumulates at the core's peak rate and its bytes at the memory's. What
the runtime fuses into the operator before costs nothing of its own. Real kernels reach a part of either peak, which
differs by operator and network: figures are bounds, and a ratio of two of them is a guess.

Source: S. Williams, A. Waterman, D. Patterson, Roofline: an insightful visual performance model, 2009.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.errors import CompressError, ModelFileError, suggestion
from compress.onnx_io.cost import OperatorCost, operator_costs
from compress.onnx_io.file import read_model
from compress.profiling.compare import ESTIMATE_ERROR
from compress.profiling.device import Device, Measurement, OperatorRow, devices
from compress.recipe import ProfileSettings

_FLOAT16, _BYTES = (10, 16), (2, 3)
_PARTS_OF_OTHERS = {
    "BatchNormalization", "Clip", "DequantizeLinear", "Dropout", "Flatten", "Identity", "QuantizeLinear", "Relu",
    "Reshape", "Squeeze", "Unsqueeze",
}  # fmt: skip
_DEFAULT = "cortex-a72"


@dataclass(frozen=True)
class Peaks:
    """What one core can do at most, as it is built into the board that is named.

    Attributes:
        board: core clock and memory, in words.
        float32: 10⁹ floating-point operations a second, two a multiply-accumulate; the next two likewise.
        float16: the same as float32 where there are no kernels for it.
        int8: with dot products where the core has them, else widening multiplications, twice float32.
        memory: 10⁹ bytes a second.
    """

    board: str
    float32: float
    float16: float
    int8: float
    memory: float

    def facts(self) -> dict[str, Any]:
        """Returns the peaks with their units in the names: ``gops`` is 10⁹ operations a second."""
        return {
            "board": self.board,
            "float32_gops": self.float32,
            "float16_gops": self.float16,
            "int8_gops": self.int8,
            "memory_gb_per_s": self.memory,
        }

    def seconds(self, cost: OperatorCost) -> float:
        """Returns the least time of an operator."""
        rate = self.float16 if cost.element in _FLOAT16 else self.int8 if cost.element in _BYTES else self.float32
        return max(2 * cost.macs / rate, cost.bytes_moved / self.memory) / 1e9


CORES = {
    "cortex-a53": Peaks("1.4 GHz, 32-bit LPDDR2-900", 11.3, 11.3, 22.6, 3.6),
    "cortex-a55": Peaks("1.8 GHz, 32-bit LPDDR4-3200", 14.6, 29.2, 58.4, 12.8),
    "cortex-a72": Peaks("1.5 GHz, 32-bit LPDDR4-3200", 12.0, 12.0, 24.0, 12.8),
    "cortex-a76": Peaks("2.4 GHz, 32-bit LPDDR4X-4267", 38.4, 76.7, 153.5, 17.1),
}


@devices.register("estimate")
class Estimate(Device):
    """A bound by arithmetic for cortex-a53, -a55, -a72 or -a76: nothing runs.

    An operator takes what its work and its memory take at the core's peak rates (roofline).

    Args:
        arguments: as of `Device`; the address is the core, cortex-a72 if empty, and options must be empty.

    Raises:
        CompressError: if there is no such core.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if self.name() not in CORES:
            raise CompressError(f"no core {self.address!r} can be estimated", next_step=suggestion(self.address, CORES))

    def name(self) -> str:
        """See `Device.name`."""
        return self.address or _DEFAULT

    def facts(self) -> dict[str, Any]:
        """See `Device.facts`."""
        return {"architecture": "aarch64", "processor": f"{self.name()}, estimated", **CORES[self.name()].facts()}

    def measure(self, models: list[Path], settings: ProfileSettings) -> list[Measurement]:
        """See `Device.measure`; warm-up, blocks and runs do not matter to arithmetic."""
        if settings.threads != 1:
            raise CompressError("an estimate is of one thread", got=settings.threads, next_step="leave --threads at 1")
        return [self._measurement(model, settings.batch_size) for model in models]

    def _measurement(self, model: Path, batch_size: int) -> Measurement:
        if model.suffix == ".ort":
            raise ModelFileError(f"{model} cannot be estimated: it is no ONNX file", next_step="name the ONNX file")
        costs, uncounted = operator_costs(read_model(model), batch_size)
        times = [0.0 if c.operator in _PARTS_OF_OTHERS else 1e6 * CORES[self.name()].seconds(c) for c in costs]
        whole = sum(times)
        if whole <= 0:
            raise ModelFileError(
                f"{model} cannot be estimated: nothing in it can be counted", next_step="measure it: --device host"
            )
        rows = [
            OperatorRow(cost.node, cost.operator, round(us, 3), round(us / whole, 6))
            for cost, us in zip(costs, times, strict=True)
        ]
        notes = [
            f"a bound by arithmetic, not a measurement: single operators are off by {ESTIMATE_ERROR:.0%} (median) on "
            "networks of other families"
        ]
        if uncounted:
            notes.append(f"{model.name}: not in the bound: {', '.join(uncounted[:3])}" + " …" * (len(uncounted) > 3))
        return Measurement(
            unit="us",
            kind="estimated",
            blocks=((whole,),),
            processes=1,
            warmup=0,
            operators=tuple(sorted(rows, key=lambda row: (-row.cost, row.node))),
            load_ms=None,
            runtime_rss_bytes=None,
            peak_rss_bytes=None,
            arena_bytes=None,
            input_shapes={},
            machine=self.facts(),
            runtime="roofline",
            notes=tuple(notes),
        )
