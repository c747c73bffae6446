"""What the runner is asked, and what it answers: the same on every device that has Python and onnxruntime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compress.errors import MachineError, ModelFileError
from compress.onnx_io.session import explain_refusal
from compress.profiling.device import Measurement, OperatorRow
from compress.profiling.parity import MOST_NUMBERS, Given, arrays_of, parity, same_inputs
from compress.recipe import ProfileSettings

# Self-contained: a device starts it, or pushes it and starts it there.
RUNNER = Path(__file__).with_name("runner.py")


def runner_request(models: list[str], settings: ProfileSettings, loads: int = 3) -> dict[str, Any]:
    """Returns what the runner is asked.

    Args:
        models: paths, as the device sees them.
        settings: how to measure.
        loads: fresh processes a model for load time and memory, where the settings want such details.
    """
    return {
        "models": models,
        "threads": settings.threads,
        "batch_size": settings.batch_size,
        "warmup": settings.warmup,
        "blocks": spread(settings),
        "runs": settings.runs,
        "operator_runs": settings.runs if settings.details else 0,
        "loads": loads if settings.details else 0,
        "most_numbers": MOST_NUMBERS,
        "seed": 0,
    }


def spread(settings: ProfileSettings) -> list[int]:
    """Returns how many blocks each process measures: all the same, or the first ones one more."""
    processes = min(settings.processes, settings.blocks)
    return [settings.blocks // processes + (one < settings.blocks % processes) for one in range(processes)]


def measurements(output: str, models: list[Path], device: str, given: Given) -> list[Measurement]:
    """Reads the runner's answer.

    Args:
        output: what it wrote on standard output.
        models: the files, in the order of the request.
        device: names it in messages.
        given: what this machine feeds each model and gets, or why it cannot.

    Raises:
        ModelFileError: if the runner could not open, feed or run a model.
        MachineError: if the output is not an answer.
    """
    try:
        answer = read_answer(output, models)
        shared = {key: answer[key] for key in ("machine", "runtime", "processes", "warmup")}
        entries = answer["models"]
        if len(entries) != len(models):
            raise MachineError(
                f"device {device!r}: {len(entries)} models measured", allowed=len(models), next_step="run it again"
            )
        return [_measurement(entry, shared, given, position) for position, entry in enumerate(entries)]
    except (LookupError, TypeError, ValueError) as error:
        raise unreadable(device, error) from error


def read_answer(output: str, models: list[Path]) -> dict[str, Any]:
    """Reads the last line that a runner wrote.

    Raises:
        ModelFileError: if it says that a model cannot be measured.
        LookupError, TypeError, ValueError: if it is no answer.
    """
    answer = json.loads(output.splitlines()[-1])
    if "error" in answer:
        raise _refusal(answer["error"], models)
    if not isinstance(answer, dict):
        raise ValueError("it is no object")
    return answer


def unreadable(device: str, error: Exception) -> MachineError:
    """Returns the error of an answer that is none."""
    return MachineError(
        f"device {device!r}: the runner's answer cannot be read ({type(error).__name__}: {error})",
        next_step=f"try `compress devices test {device}`, and that nothing else prints when programs start there",
    )


def _measurement(entry: dict[str, Any], shared: dict[str, Any], given: Given, position: int) -> Measurement:
    differ, unequal = _compared(entry, given, position)
    return Measurement(
        unit="us",
        kind="measured",
        blocks=tuple(tuple(float(time) for time in block) for block in entry["blocks_us"]),
        operators=tuple(
            OperatorRow(row["node"], row["operator"], float(row["us"]), float(row["share"]))
            for row in entry["operators"]
        ),
        load_ms=entry["load_ms"],
        runtime_rss_bytes=entry["runtime_rss_bytes"],
        peak_rss_bytes=entry["peak_rss_bytes"],
        arena_bytes=entry["arena_bytes"],
        input_shapes=entry["input_shapes"],
        parity=differ,
        notes=(unequal,) if unequal else (),
        **shared,
    )


def _compared(entry: dict[str, Any], given: Given, position: int) -> tuple[float | None, str | None]:
    if isinstance(given, ModelFileError):
        return None, f"outputs were not compared with this machine's, which has none: {given}"
    feed, expected = given[position]
    if not same_inputs(entry["magnitudes"], feed):
        return None, "outputs were not compared with this machine's: NumPy over there draws other inputs"
    return parity(None if entry["outputs"] is None else arrays_of(entry["outputs"]), expected)


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
