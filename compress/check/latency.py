"""Where the latency of a model is known from: its run, or what `compress profile` kept of this very file."""

from __future__ import annotations

import shlex
from pathlib import Path

from pydantic import Field

from compress.artifact import PROFILE_NAME, device_folder, model_name, read_json, sha256_file
from compress.check.metrics import METRICS_NAME, Beside, LatencyMetric, Metrics, validated

# Where `compress profile` keeps results unless it is told otherwise.
_EXPORT = Path("export")


class KeptProfile(Beside):
    """What is read of a kept profile: of which file it is, and its latency over which other one."""

    model_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    kind: str
    ratio: LatencyMetric | None = None
    compared_to: str | None = None


def latency_of(model: Path, metrics: Metrics | None, device: str, absent: str) -> tuple[LatencyMetric | None, str]:
    """Returns the latency of a model on a device over that of the original, and where it is from or how to get it.

    Args:
        model: a model file that is there.
        metrics: what a run measured of it; it comes first.
        device: as a budget names it.
        absent: why there are no metrics.

    Raises:
        ModelFileError: if a kept profile is malformed.
    """
    latency = metrics.latency_ratio.get(device) if metrics else None
    if latency is not None:
        return latency, _interval(latency)
    found = _kept(model, device)
    if isinstance(found, tuple):
        path, latency, original = found
        return latency, f"{_interval(latency)} ({path}, over {original})"
    reasons = [f"no latency on {device!r} in {METRICS_NAME}" if metrics else absent, *([found] if found else [])]
    option = "" if device == "host" else f" --device {shlex.quote(device)}"
    return None, f"{', and '.join(reasons)}; next: compress profile ORIGINAL.onnx {shlex.quote(str(model))}{option}"


def _kept(model: Path, device: str) -> tuple[Path, LatencyMetric, str] | str | None:
    """Returns a latency with its file and what it is compared to; why none that is there counts; None without any."""
    sha256, name, why = sha256_file(model), model_name(model), None
    for folder in dict.fromkeys((model.parent, _EXPORT / name, _EXPORT / f"{name}-{sha256[:8]}")):
        path = folder / device_folder(device) / PROFILE_NAME
        if not path.is_file():
            continue
        kept = validated(read_json(path), KeptProfile, str(path), "profile again")
        if kept.model_sha256 != sha256:
            why = why or f"{path} is of another file"
        elif kept.kind != "measured":
            why = why or f"{path} is {kept.kind}, not measured"
        elif kept.ratio is None or kept.compared_to is None:
            why = why or f"{path} is compared to nothing"
        else:
            return path, kept.ratio, f"SHA-256 {kept.compared_to[:8]}…"
    return why


def _interval(latency: LatencyMetric) -> str:
    return f"ratio {latency.ratio:.3f}, 95 % within {latency.low:.3f}…{latency.high:.3f}"
