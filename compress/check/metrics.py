"""The small JSON files beside a deployable model: what a run measured of it, and the figures committed for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from compress.artifact import read_json
from compress.errors import ModelFileError

METRICS_NAME = "metrics.json"
BASELINE_NAME = "baseline.json"

# What must not grow against the committed baseline; timings and accuracies are not the same on every machine.
BASELINE_FIGURES = ("file_bytes", "parameters", "macs")


class Beside(BaseModel):
    """A JSON file beside a model: numbers are finite, further keys are for others to read."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class AccuracyMetric(Beside):
    """Test accuracy in per cent, of the network as trained and of the deployable file."""

    before: float = Field(ge=0, le=100)
    after: float = Field(ge=0, le=100)


class LatencyMetric(Beside):
    """Latency after / before, with its 95 % interval."""

    ratio: float = Field(gt=0)
    low: float = Field(gt=0)
    high: float = Field(gt=0)


class Metrics(Beside):
    """What a run measured of one model file, which it names by its SHA-256."""

    model_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    accuracy: AccuracyMetric | None = None
    latency_ratio: dict[str, LatencyMetric] = Field(default_factory=dict)


class Baseline(Beside):
    """The committed figures of the last accepted model; whatever is not given is not compared."""

    file_bytes: int | None = Field(None, ge=0)
    parameters: int | None = Field(None, ge=0)
    macs: int | None = Field(None, ge=0)


BesideType = TypeVar("BesideType", bound=Beside)


def read_beside(model: Path, name: str, kind: type[BesideType]) -> BesideType | None:
    """Reads a file beside a model, or returns None if there is none.

    Raises:
        ModelFileError: if it is not JSON or does not hold what it must.
    """
    path = model.with_name(name)
    return validated(read_json(path), kind, str(path)) if path.exists() else None


def validated(
    value: Any, kind: type[BesideType], where: str, next_step: str = "run `compress run` again"
) -> BesideType:
    """Validates a JSON value; `where` names it in the error, `next_step` says how it is made.

    Raises:
        ModelFileError: naming the first entry that is missing or wrong.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ModelFileError(f"{where}: {place}: {first['msg']}", next_step=next_step) from None
