"""What runs a model on a machine that has nothing but a kernel: made once for an architecture, kept in the cache.

For this machine's own architecture it is its own libraries; for 64-bit ARM those of the emulated one.
"""

from __future__ import annotations

import platform
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from compress.artifact import sha256_file, sha256_json, user_cache
from compress.errors import CompressError, MachineError
from compress.profiling.device import Tell
from compress.profiling.emulation import place, setup
from compress.profiling.emulation.commands import run
from compress.profiling.emulation.compilers import SOURCES, Compilers

EMULATED = "aarch64"
_RUNNER = "runner"
_RUNTIME = "libonnxruntime.so"
# Of what ONNX Runtime and the runner are linked against; the kernel's own (linux-vdso) is everywhere.
_GUEST_LIBRARIES = (
    "libc.so.6",
    "libdl.so.2",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
    "libstdc++.so.6",
    "libgcc_s.so.1",
)


@dataclass(frozen=True)
class Programs:
    """Programs for one architecture.

    Attributes:
        folder: holds all of them, and nothing else.
        loader: name of the loader in `folder`.
    """

    folder: Path
    loader: str

    def files(self, root: str = "") -> dict[str, Path]:
        """Returns path in a bundle → file."""
        return {f"{root}{file.name}": file for file in sorted(self.folder.iterdir())}

    def command(self, root: str) -> list[str]:
        """Returns the words that start the runner; the rest of its arguments follow.

        Args:
            root: the programs' folder as the target sees it, ending in a slash.
        """
        return [f"{root}{self.loader}", "--library-path", root, f"{root}{_RUNNER}", f"{root}{_RUNTIME}"]


def targets() -> tuple[str, ...]:
    """Returns the architectures that programs can be made for here."""
    return tuple(dict.fromkeys((EMULATED, platform.machine())))


def programs(architecture: str, tell: Tell) -> Programs:
    """Returns the programs for an architecture, making them first if there are none.

    Args:
        architecture: as `uname -m` says there.
        tell: who is told what is made.

    Raises:
        CompressError: if there is no way to make them for that architecture.
        MachineError: if they cannot be made here.
    """
    if architecture not in targets():
        raise CompressError(
            f"no bundle can be made for {architecture!r}",
            allowed=", ".join(targets()),
            next_step="install Python 3 and onnxruntime on the board instead",
        )
    final = _folder(architecture)
    if not final.is_dir():
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".partial-", dir=final.parent) as name:
                made = Path(name) / "made"
                made.mkdir()
                _make(architecture, made, Path(name), tell)
                if not final.is_dir():
                    made.rename(final)
        except OSError as error:
            raise MachineError(
                f"making programs in {final.parent}: {error.strerror or error}",
                next_step="free some disk space or set XDG_CACHE_HOME to a folder that can be written",
            ) from error
    (loader,) = (file.name for file in final.iterdir() if file.name.startswith("ld-linux"))
    return Programs(final, loader)


def _folder(architecture: str) -> Path:
    sources = {path.name: sha256_file(path) for path in sorted(SOURCES.iterdir()) if path.suffix in (".c", ".h")}
    version = onnxruntime.__version__
    return user_cache() / "bundle" / f"{architecture}-{version}-{sha256_json(sources)[:12]}"


def _make(architecture: str, made: Path, work: Path, tell: Tell) -> None:
    if architecture == platform.machine():
        tell(f"making programs for {architecture} from this machine's own libraries")
        Compilers(work).runner(made / _RUNNER, architecture=architecture, counted=False)
        runtime = _own_runtime()
        libraries = _linked(made / _RUNNER) | _linked(runtime)
    else:
        emulated = setup.ensure(tell).folder
        shutil.copy(emulated / place.BOARD_RUNNER, made / _RUNNER)
        runtime = emulated / place.LIBRARY
        libraries = _guests(emulated / "guest")
    shutil.copyfile(runtime, made / _RUNTIME)
    for library in libraries:
        shutil.copy(library, made / library.name)


def _own_runtime() -> Path:
    found = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))
    if not found:
        raise MachineError("the onnxruntime of this Python holds no libonnxruntime.so", next_step="update onnxruntime")
    return found[0]


def _linked(program: Path) -> set[Path]:
    said = run(["ldd", program], f"asking what {program.name} is linked against")
    return {Path(path) for path in re.findall(r"(/\S+) \(0x", said)}


def _guests(guest: Path) -> set[Path]:
    # Releases differ in whether these stand in lib or in usr/lib.
    found = {file.name: file for file in sorted(guest.rglob("*.so*")) if file.is_file()}
    loader = next((name for name in found if name.startswith("ld-linux")), "the loader")
    wanted = (loader, *_GUEST_LIBRARIES)
    if missing := [name for name in wanted if name not in found]:
        raise MachineError(
            f"{guest}: {', '.join(missing)} is missing",
            next_step="delete that folder and run `compress devices setup arm-emu`",
        )
    return {found[name] for name in wanted}
