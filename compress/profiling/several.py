"""Models on several devices: boards all at once, what shares this machine one after another."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from compress.errors import CompressError
from compress.profiling.device import Tell
from compress.profiling.profile_report import ProfileReport
from compress.profiling.resolve import resolve
from compress.profiling.verb import profile
from compress.recipe import ProfileSettings

Outcome = list[ProfileReport] | CompressError


def profile_on(
    names: Sequence[str], models: list[Path], settings: ProfileSettings, tell: Tell | None = None
) -> dict[str, Outcome]:
    """Measures models on several devices; one that fails does not keep the others from it.

    Args:
        names: of the devices, each once.
        models: the first is what the others are compared to.
        settings: how; its own device is not looked at.
        tell: who is told what is done.

    Returns:
        For each name, in order, one report a model, or what went wrong.

    Raises:
        CompressError: if a name stands twice or is none.
    """
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise CompressError("a device is named twice", got=", ".join(doubled), next_step="name each once")
    away = [name for name in names if resolve(name).device.REMOTE]

    def attempt(name: str) -> Outcome:
        try:
            return profile(models, settings.model_copy(update={"device": name}), tell=tell)
        except CompressError as error:
            return error

    with ThreadPoolExecutor(max(1, len(away))) as pool:
        outcomes = dict(zip(away, pool.map(attempt, away), strict=True))
    outcomes.update((name, attempt(name)) for name in names if name not in outcomes)
    return {name: outcomes[name] for name in names}
