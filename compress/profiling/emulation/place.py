"""Where a set-up stands, and whether it is whole."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from compress.artifact import sha256_file, sha256_json, user_cache
from compress.profiling.emulation.compilers import SOURCES
from compress.profiling.emulation.cores import CORES, Core

# Changes when a set-up of an earlier version would not do any more.
_LAYOUT = 2
MARKER = "ready.json"
RUNNER = "runner"
# The same program with the clock that a real machine has: for boards.
BOARD_RUNNER = "board-runner"
PLUGIN = "instructions.so"
LIBRARY = "libonnxruntime.so"
QEMU = "host/usr/bin/qemu-aarch64"


@dataclass(frozen=True)
class Place:
    """A set-up that was finished.

    Attributes:
        folder: absolute.
        facts: what it was made of, and the SHA-256 of its programs.
    """

    folder: Path
    facts: dict[str, Any]

    def sysroot(self, core: Core) -> Path:
        """Returns the guest's file system."""
        return self.folder / "cores" / core.name

    def damaged(self) -> str | None:
        """Returns the first program that is not what it was, or None."""
        for name, sha256 in self.facts["sha256"].items():
            path = self.folder / name
            if not path.is_file() or sha256_file(path) != sha256:
                return str(path)
        return None


def cache_folder() -> Path:
    """Returns the user's folder for set-ups of all versions, whether or not it exists."""
    return user_cache() / "arm-emu"


def folder_of_this_version() -> Path:
    """Returns the folder of the set-up that goes with this version: of the sources, of onnxruntime, of the layout."""
    sources = {path.name: sha256_file(path) for path in sorted(SOURCES.iterdir()) if path.suffix in (".c", ".h")}
    parts = [_LAYOUT, onnxruntime.__version__, sources, {core.name: core.cpuinfo() for core in CORES.values()}]
    return cache_folder() / f"{onnxruntime.__version__}-{sha256_json(parts)[:12]}"


def find() -> Place | None:
    """Returns the finished set-up of this version, or None. A folder without its marker is no set-up."""
    folder = folder_of_this_version()
    try:
        facts = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        programs = facts["sha256"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    whole = isinstance(programs, dict) and all((folder / name).is_file() for name in programs)
    return Place(folder, facts) if whole else None
