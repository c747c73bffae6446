"""What a device is: somewhere that models are measured, reached in a way of its own.

A device says how the runner gets there and back; what is asked and what comes back is the same for all of them.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.errors import MachineError, ModelFileError
from compress.onnx_io.session import explain_refusal
from compress.recipe import ProfileSettings
from compress.registry import Registry

# Self-contained: a device starts it, or pushes it and starts it there.
RUNNER = Path(__file__).with_name("runner.py")


@dataclass(frozen=True)
class OperatorRow:
    """One operator of a model as the runtime executed it.

    Attributes:
        node: its name after the runtime's own fusions.
        operator: its type.
        us: microseconds an inference.
        share: of the time of all operators, 0…1.
    """

    node: str
    operator: str
    us: float
    share: float


@dataclass(frozen=True)
class Measurement:
    """What a device measured of one model.

    Attributes:
        blocks_us: [blocks][runs] microseconds an inference; blocks of all models taken in turn.
        operators: the slowest first.
        load_ms: milliseconds to open the model in a fresh process; None where none could be started.
        runtime_rss_bytes: memory of that process before it opened the model.
        peak_rss_bytes: the most memory it ever held, one inference included.
        input_shapes: input → the shape that it was fed.
        machine: architecture, processor, cores, load average …, as the device itself says.
        runtime: name and version.
    """

    blocks_us: tuple[tuple[float, ...], ...]
    operators: tuple[OperatorRow, ...]
    load_ms: float | None
    runtime_rss_bytes: int | None
    peak_rss_bytes: int | None
    input_shapes: dict[str, list[int]]
    machine: dict[str, Any]
    runtime: str


class Device(ABC):
    """Somewhere that models are measured.

    Args:
        address: what stands after the colon of the device's name in a recipe, e.g. ``pi@board`` of ``ssh:pi@board``.
    """

    def __init__(self, address: str = "") -> None:
        self.address = address

    @abstractmethod
    def measure(self, models: list[Path], settings: ProfileSettings) -> list[Measurement]:
        """Measures models against each other.

        Args:
            models: at least one; the first is what the others are compared to.
            settings: how.

        Returns:
            One measurement a model, in order.

        Raises:
            ModelFileError: if the runtime cannot open, feed or run a model.
            MachineError: if the device cannot be reached or fails.
        """


devices: Registry[type[Device]] = Registry("device", "compress.profiling.devices")


def open_device(name: str) -> Device:
    """Returns the device that a recipe names, ``kind`` or ``kind:address``.

    Raises:
        CompressError: if there is no such kind; the message lists those that there are.
    """
    kind, _, address = name.partition(":")
    return devices.get(kind)(address)


def runner_request(models: list[str], settings: ProfileSettings, loads: int = 3) -> dict[str, Any]:
    """Returns what the runner is asked.

    Args:
        models: paths, as the device sees them.
        settings: how to measure.
        loads: fresh processes a model for load time and memory; 0 where the device cannot start any.
    """
    return {
        "models": models,
        "threads": settings.threads,
        "batch_size": settings.batch_size,
        "warmup": settings.warmup,
        "blocks": settings.blocks,
        "runs": settings.runs,
        "operator_runs": settings.runs,
        "loads": loads,
        "seed": 0,
    }


def measurements(output: str, models: list[Path], device: str) -> list[Measurement]:
    """Reads the runner's answer.

    Args:
        output: what it wrote on standard output.
        models: the files, in the order of the request.
        device: names it in messages.

    Raises:
        ModelFileError: if the runner could not open, feed or run a model.
        MachineError: if the output is not an answer.
    """
    try:
        answer = json.loads(output.splitlines()[-1])
        if "error" in answer:
            raise _refusal(answer["error"], models)
        shared = {"machine": dict(answer["machine"]), "runtime": str(answer["runtime"])}
        found = [_measurement(entry, shared) for entry in answer["models"]]
    except (LookupError, TypeError, ValueError) as error:
        raise MachineError(
            f"device {device!r}: the runner's answer cannot be read ({type(error).__name__}: {error})",
            next_step="check that the device's Python starts without printing anything",
        ) from error
    if len(found) != len(models):
        raise MachineError(
            f"device {device!r}: {len(found)} models measured", allowed=len(models), next_step="run it again"
        )
    return found


def _measurement(entry: dict[str, Any], shared: dict[str, Any]) -> Measurement:
    return Measurement(
        blocks_us=tuple(tuple(float(time) for time in block) for block in entry["blocks_us"]),
        operators=tuple(OperatorRow(**row) for row in entry["operators"]),
        load_ms=entry["load_ms"],
        runtime_rss_bytes=entry["runtime_rss_bytes"],
        peak_rss_bytes=entry["peak_rss_bytes"],
        input_shapes=entry["input_shapes"],
        **shared,
    )


def _refusal(record: dict[str, Any], models: list[Path]) -> ModelFileError:
    model = models[record["position"]]
    reason, next_step = explain_refusal(record["reason"], "the device's onnxruntime")
    if record["stage"] == "inputs":
        return ModelFileError(
            f"model {model} cannot be fed: {reason}",
            next_step="set batch_size = 1 in [profile], or export it with a free batch axis and numbers as inputs",
        )
    if record["stage"] == "run":
        return ModelFileError(
            f"model {model} fails when it runs: {reason}", next_step="check which input shapes it really takes"
        )
    return ModelFileError(f"model {model} is refused by ONNX Runtime: {reason}", next_step=next_step)
