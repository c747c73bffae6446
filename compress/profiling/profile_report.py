"""What profiling says of one model, ready to be written as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from compress.errors import ModelFileError
from compress.profiling.device import Kind, OperatorRow, Unit
from compress.profiling.statistics import Ratio


@dataclass(frozen=True)
class ProfileReport:
    """One model on one device.

    Attributes:
        model: path, as it was given.
        model_sha256: of the file's bytes.
        file_bytes: of the file and its external data.
        device: kind and address in full, or the name in `devices.toml`; ``arm`` never: it is told what that was.
        kind: whether the figures were timed, counted or only computed.
        unit: of every figure that names none.
        machine: architecture, processor, cores, load average …, as the device itself says.
        runtime: name and version.
        product: name and version of what measured.
        threads: within an operator.
        batch_size: of a run.
        input_shapes: input → the shape that it was fed.
        processes: that the blocks are spread over; see `paired_ratio`.
        warmup: runs before a process's first block.
        blocks: rounds in which each model had its turn.
        runs: of a block.
        p50: median cost of a run; p90 and p99 likewise. The tail is the machine's, not the model's.
        p90: see there.
        p99: see there.
        minimum: the least cost of any run.
        block_minima: [blocks] the least cost of each block.
        ratio: cost over that of `compared_to`; None for the model that the others are compared to.
        compared_to: SHA-256 of that model.
        load_ms: milliseconds to open the model in a fresh process.
        runtime_rss_bytes: memory of that process before it opened the model.
        peak_rss_bytes: the most memory it ever held, one inference included.
        arena_bytes: what the runtime's allocator took for activations in one inference.
        parity: largest absolute difference of the outputs to this machine's; None where nothing was compared.
        operators: one row an operator, the costliest first.
        notes: what a reader of the figures must know besides.
    """

    model: str
    model_sha256: str
    file_bytes: int
    device: str
    kind: Kind
    unit: Unit
    machine: dict[str, Any]
    runtime: str
    product: str
    threads: int
    batch_size: int
    input_shapes: dict[str, list[int]]
    processes: int
    warmup: int
    blocks: int
    runs: int
    p50: float
    p90: float
    p99: float
    minimum: float
    block_minima: tuple[float, ...]
    ratio: Ratio | None
    compared_to: str | None
    load_ms: float | None
    runtime_rss_bytes: int | None
    peak_rss_bytes: int | None
    arena_bytes: int | None
    parity: float | None
    operators: tuple[OperatorRow, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as a JSON value."""
        plain = asdict(self)
        return plain | {name: list(plain[name]) for name in ("block_minima", "operators", "notes")}

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
