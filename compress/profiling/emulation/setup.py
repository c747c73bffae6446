"""The set-up, once a version: fetch, unpack, compile, try, and only then give it its name.

All is made in a folder beside the final one, which is renamed when everything works: a set-up that was interrupted
leaves nothing that looks like one, and is begun anew.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnxruntime

from compress.artifact import sha256_file, write_json
from compress.errors import MachineError
from compress.profiling.device import Tell
from compress.profiling.emulation import packages, wheels
from compress.profiling.emulation.commands import run
from compress.profiling.emulation.compilers import Compilers
from compress.profiling.emulation.cores import CORES
from compress.profiling.emulation.place import (
    BOARD_RUNNER,
    LIBRARY,
    MARKER,
    PLUGIN,
    QEMU,
    RUNNER,
    Place,
    cache_folder,
    find,
    folder_of_this_version,
)
from compress.profiling.emulation.qemu import qemu_command, try_out

_PARTIAL = ".partial-"


def ensure(tell: Tell) -> Place:
    """Returns the set-up of this version, making it first if there is none, or if what there is is damaged.

    Args:
        tell: who is told that it is made, and what of.

    Raises:
        MachineError: if it cannot be made here; the message says why, and what to do instead.
    """
    found = find()
    if found is not None and found.damaged() is None:
        return found
    system = packages.distribution()
    try:
        with _alone():
            found = find()
            if found is not None and found.damaged() is None:
                return found
            return _make(system, tell)
    except OSError as error:
        raise MachineError(
            f"setting up the emulated ARM in {cache_folder()}: {error.strerror or error}",
            next_step="free some disk space or set XDG_CACHE_HOME to a folder that can be written",
        ) from error


def _make(system: packages.Distribution, tell: Tell) -> Place:
    final = folder_of_this_version()
    tell(f"setting up the emulated ARM in {final}: once, some 150 MB are fetched and 60 MB stay")
    with tempfile.TemporaryDirectory(prefix=_PARTIAL, dir=final.parent) as name:
        work, made = Path(name) / "work", Path(name) / "made"
        for folder in (work / "packages", work / "wheel", made):
            folder.mkdir(parents=True)
        debs = packages.fetch(system, work / "packages")
        tell(f"  packages: {len(debs)} of {system.name} {system.codename}")
        packages.unpack(debs, system, made / "host", made / "guest")
        wheel = wheels.fetch(f"onnxruntime=={onnxruntime.__version__}", work / "wheel", "aarch64")
        library = _library(wheel, work)
        library.replace(made / LIBRARY)
        tell(f"  runtime: {wheel.name}")
        _strip(made)
        version = _qemu_version(made)
        compilers = Compilers(work)
        compilers.plugin(made / PLUGIN, api=1 if int(version.split(".")[0]) < 9 else 2)
        compilers.runner(made / RUNNER)
        compilers.runner(made / BOARD_RUNNER, counted=False)
        tell(f"  compiled by {' and '.join(sorted(compilers.used))}, for QEMU {version}")
        _sysroots(made)
        facts: dict[str, Any] = {
            "qemu": version,
            "onnxruntime": onnxruntime.__version__,
            "wheel_sha256": sha256_file(wheel),
            "packages": {package.name: sha256_file(package) for package in debs},
            "compilers": sorted(compilers.used),
            "sha256": {name: sha256_file(made / name) for name in (QEMU, PLUGIN, RUNNER, BOARD_RUNNER, LIBRARY)},
        }
        try_out(Place(made, facts))
        write_json(made / MARKER, facts)
        # What an earlier version of the product made for the same runtime serves nobody any more.
        for earlier in final.parent.glob(f"{onnxruntime.__version__}-*"):
            shutil.rmtree(earlier, ignore_errors=True)
        made.rename(final)
    return Place(final, facts)


@contextmanager
def _alone() -> Iterator[None]:
    """Keeps a second set-up waiting until the first is done, and clears what a killed one left."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in folder.glob(f"{_PARTIAL}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield


def _library(wheel: Path, work: Path) -> Path:
    found = wheels.extract(wheel, work / "runtime", "onnxruntime/capi/libonnxruntime.so")
    if len(found) != 1:
        raise MachineError(
            f"{wheel.name} holds no libonnxruntime.so of its own",
            next_step="install an onnxruntime from 1.20 on",
        )
    return found[0]


def _strip(made: Path) -> None:
    """Leaves of the packages what runs: libraries, and the one emulator."""
    for root in ("host", "guest"):
        for folder in ("usr/share", "etc", "usr/sbin", "sbin", "var"):
            shutil.rmtree(made / root / folder, ignore_errors=True)
    for program in (made / "host/usr/bin").iterdir():
        if program != made / QEMU:
            program.unlink()
    for converters in made.glob("*/usr/lib/*/gconv"):
        shutil.rmtree(converters)


def _qemu_version(made: Path) -> str:
    said = run([*qemu_command(made), "--version"], "starting QEMU")
    match = re.search(r"version (\d+\.\d+(?:\.\d+)?)", said)
    if match is None:
        raise MachineError("QEMU does not say its version", got=said[:80], next_step="report this")
    return match[1]


def _sysroots(made: Path) -> None:
    """Makes a file system a core: the same libraries, and what the kernel of such a machine would say of it."""
    for core in CORES.values():
        root = made / "cores" / core.name
        cpus = root / "sys/devices/system/cpu"
        cpus.mkdir(parents=True)
        for name in ("possible", "present", "online"):
            (cpus / name).write_text("0\n", encoding="ascii")
        (root / "proc").mkdir()
        (root / "proc/cpuinfo").write_text(core.cpuinfo(), encoding="ascii")
        for name in ("lib", "lib64", "usr"):
            (root / name).symlink_to(f"../../guest/{name}")
