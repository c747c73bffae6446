"""The manifest of a run folder: what has been done, from what, with what result."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compress.artifact import read_json, sha256_file, write_json
from compress.errors import ModelFileError

_FORMAT = 1


@dataclass(frozen=True)
class StageRecord:
    """A finished stage.

    Attributes:
        name: of the stage.
        key: hash of everything that its result depends on.
        seconds: how long it took.
        inputs: SHA-256 by file.
        outputs: SHA-256 by file of the run folder.
        figures: what it measured.
    """

    name: str
    key: str
    seconds: float
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    def intact(self, folder: Path) -> bool:
        """Tells whether every output is still there, unchanged."""
        return all((folder / f).is_file() and sha256_file(folder / f) == sha for f, sha in self.outputs.items())


class Manifest:
    """The finished stages of a run folder, in `manifest.json`.

    Args:
        folder: the run folder.
        facts: what to write beside the stages: recipe, seed, machine.
    """

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self.path = folder / "manifest.json"
        self.facts = facts
        self.records: dict[str, StageRecord] = {}
        if self.path.is_file():
            self.records = _records(self.path)

    def add(self, record: StageRecord) -> None:
        """Records a finished stage; the file is written at once, whole."""
        self.records[record.name] = record
        write_json(self.path, {"format": _FORMAT, **self.facts, "stages": [vars(r) for r in self.records.values()]})


def _records(path: Path) -> dict[str, StageRecord]:
    content = read_json(path)
    try:
        if content["format"] != _FORMAT:
            raise ModelFileError(f"{path} was written by another version", next_step="delete the run folder")
        return {stage["name"]: StageRecord(**stage) for stage in content["stages"]}
    except (KeyError, TypeError) as error:
        raise ModelFileError(
            f"{path} is not a manifest ({error})", next_step="delete it: the run starts anew"
        ) from error


def timed(work: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], float]:
    """Runs `work`; returns its figures and the seconds it took."""
    start = time.perf_counter()
    figures = work()
    return figures, round(time.perf_counter() - start, 3)
