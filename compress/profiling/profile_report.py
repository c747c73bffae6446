"""What profiling says of one model, ready to be written as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from compress.errors import ModelFileError
from compress.profiling.device import OperatorRow
from compress.profiling.statistics import Ratio


@dataclass(frozen=True)
class ProfileReport:
    """One model on one device.

    Attributes:
        model: path, as it was given.
        model_sha256: of the file's bytes.
        file_bytes: of the file and its external data.
        device: as the recipe names it.
        machine: architecture, processor, cores, load average …, as the device itself says.
        runtime: name and version.
        threads: within an operator.
        batch_size: of a run.
        input_shapes: input → the shape that it was fed.
        warmup: runs before the first block.
        blocks: rounds in which each model had its turn.
        runs: of a block.
        p50_us: median microseconds a run; p90_us and p99_us likewise. The tail is the machine's, not the model's.
        p90_us: see there.
        p99_us: see there.
        minimum_us: the least time of any run.
        block_minima_us: [blocks] the least time of each block.
        ratio: latency over that of `compared_to`; None for the model that the others are compared to.
        compared_to: SHA-256 of that model.
        load_ms: milliseconds to open the model in a fresh process.
        runtime_rss_bytes: memory of that process before it opened the model.
        peak_rss_bytes: the most memory it ever held, one inference included.
        operators: one row an operator, the slowest first.
    """

    model: str
    model_sha256: str
    file_bytes: int
    device: str
    machine: dict[str, Any]
    runtime: str
    threads: int
    batch_size: int
    input_shapes: dict[str, list[int]]
    warmup: int
    blocks: int
    runs: int
    p50_us: float
    p90_us: float
    p99_us: float
    minimum_us: float
    block_minima_us: tuple[float, ...]
    ratio: Ratio | None
    compared_to: str | None
    load_ms: float | None
    runtime_rss_bytes: int | None
    peak_rss_bytes: int | None
    operators: tuple[OperatorRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as a JSON value."""
        plain = asdict(self)
        return plain | {"block_minima_us": list(self.block_minima_us), "operators": list(plain["operators"])}

    @staticmethod
    def from_dict(value: Any) -> ProfileReport:
        """Reads what `to_dict` returned.

        Raises:
            ModelFileError: naming the first entry that is missing or wrong.
        """
        try:
            return TypeAdapter(ProfileReport).validate_python(value)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the report"
            raise ModelFileError(f"profile report: {place}: {first['msg']}", next_step="profile again") from None
