"""Wheels for another machine, by pip and from the user's own index; pip checks them against the index's hashes."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

from compress.errors import MachineError
from compress.profiling.emulation.commands import run

# Newest first: what glibc a wheel needs at least.
_GLIBC = ("2_34", "2_31", "2_28", "2_27", "2_26", "2_17")


def fetch(requirement: str, folder: Path, architecture: str | None = None) -> Path:
    """Downloads one wheel without what it depends on.

    Args:
        requirement: as pip takes it.
        folder: for the wheel, empty.
        architecture: for Linux on another machine, e.g. ``aarch64``; None: for this one.

    Raises:
        MachineError: if pip is not there, or finds no such wheel.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
    command += [
        "--disable-pip-version-check",
        "--no-input",
        "--no-cache-dir",
        "--retries",
        "2",
        "--timeout",
        "30",
        "--quiet",
    ]
    if architecture:
        command += ["--implementation", "cp", "--python-version", f"{sys.version_info[0]}.{sys.version_info[1]}"]
        for glibc in _GLIBC:
            command += ["--platform", f"manylinux_{glibc}_{architecture}"]
    what = f"fetching {requirement} for {architecture or 'this machine'}"
    run([*command, requirement], what, environment={"TMPDIR": str(folder.parent)})
    found = sorted(folder.glob("*.whl"))
    if len(found) != 1:
        raise MachineError(f"pip left {len(found)} wheels of {requirement}", next_step="try again")
    return found[0]


def extract(wheel: Path, folder: Path, prefix: str = "") -> list[Path]:
    """Unpacks the files of a wheel whose names begin with `prefix`, and returns them.

    Raises:
        MachineError: if it is damaged.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.startswith(prefix) and not name.endswith("/")]
            archive.extractall(folder, names)
    except (zipfile.BadZipFile, EOFError) as error:
        raise MachineError(f"{wheel.name} is damaged ({error})", next_step="try again") from error
    return [folder / name for name in names]
