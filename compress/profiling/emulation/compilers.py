"""The two small C programs: the plugin for this machine, the runner for ARM.

Compilers of the system are used where they are there, else the one in the `ziglang` wheel, which makes programs for
every machine and needs no installation.
"""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

from compress.errors import MachineError
from compress.profiling.emulation import wheels
from compress.profiling.emulation.commands import run

SOURCES = Path(__file__).parent.parent / "native"
_ZIG = "ziglang>=0.13,<1"
_FLAGS = ("-std=gnu17", "-O2")
# So old that the libraries of every supported release are newer.
_GLIBC = "2.28"


class Compilers:
    """Compilers, fetched when they are first needed.

    Args:
        folder: for what is fetched and for caches; may go afterwards.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.used: set[str] = set()

    def plugin(self, target: Path, api: int) -> None:
        """Compiles the counting plugin for this machine.

        Raises:
            MachineError: if no compiler can be had, or it fails.
        """
        compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
        command = [compiler] if compiler and self._works(compiler) else self._zig(platform.machine())
        source = SOURCES / "instructions.c"
        self._compile([*command, *_FLAGS, "-shared", "-fPIC", f"-DPLUGIN_API={api}", "-o", str(target), str(source)])

    def runner(self, target: Path, architecture: str = "aarch64", counted: bool = True) -> None:
        """Compiles the runner.

        Args:
            target: the file to write.
            architecture: of the machine that it is for.
            counted: whether its clock counts instructions.

        Raises:
            MachineError: if no compiler can be had, or it fails.
        """
        compiler = shutil.which(f"{architecture}-linux-gnu-gcc")
        command = [compiler] if compiler and self._works(compiler) else self._zig(architecture)
        # The runtime must find the runner's own clock before the system's.
        flags = ["-DCOUNTED", "-rdynamic"] if counted else []
        self._compile([*command, *_FLAGS, *flags, "-o", str(target), str(SOURCES / "runner.c"), "-ldl"])

    def _works(self, compiler: str) -> bool:
        """Tells whether a compiler finds its headers: it may stand there without them."""
        probe = self._folder / "probe.c"
        probe.write_text("#include <sys/mman.h>\n#include <stdio.h>\nint main(void) { return 0; }\n", encoding="utf-8")
        try:
            run([compiler, "-o", self._folder / "probe", probe], "trying the compiler")
        except MachineError:
            return False
        return True

    def _zig(self, architecture: str) -> list[str]:
        home = self._folder / "zig"
        program = home / "ziglang/zig"
        if not program.is_file():
            downloads = self._folder / "zig-wheel"
            downloads.mkdir()
            wheels.extract(wheels.fetch(_ZIG, downloads), home)
            program.chmod(0o755)
        return [str(program), "cc", "-target", f"{architecture}-linux-gnu.{_GLIBC}", "-Wno-deprecated-non-prototype"]

    def _compile(self, command: list[str]) -> None:
        self.used.add(Path(command[0]).name)
        caches = {f"ZIG_{which}_CACHE_DIR": str(self._folder / "zig-cache") for which in ("GLOBAL", "LOCAL")}
        run(command, f"compiling {Path(command[command.index('-o') + 1]).name}", environment=caches)
