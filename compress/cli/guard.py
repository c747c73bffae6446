"""Commands that read foreign model files work in a process of their own; this one says what has become of it.

Checkers, shape inference and calibration are native code: on a hostile file they may crash, or ask for more memory than
there is. Whatever happens ends in one line and an exit code.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import NoReturn

from compress.cli.app import main
from compress.errors import MachineError, ModelFileError

_READERS = {"check", "devices", "explain", "pack", "profile", "quantize", "rewrite", "unpack"}
# Signals that ask a process to end. An interrupt reaches the whole group by itself.
_PASSED_ON = ("SIGTERM", "SIGHUP")
_MEMORY_SHARE = 0.75  # of the machine's


def entry() -> NoReturn:
    """Runs the command line; guarded, where the command reads models and the platform can fork."""
    if sys.argv[1:2] and sys.argv[1] in _READERS and hasattr(os, "fork"):
        # Nothing heavy is imported yet, and no thread runs: a fork costs a millisecond.
        child = os.fork()
        if child:
            sys.exit(_supervised(child))
        _limit_memory()
    main()


def _supervised(child: int) -> int:
    """Waits for the working process and returns its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in _PASSED_ON:
        signal.signal(getattr(signal, name), lambda number, _: os.kill(child, number))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code >= 0:
        return code
    if -code in (signal.SIGINT, *(getattr(signal, name) for name in _PASSED_ON)):
        return 128 - code
    error: ModelFileError | MachineError
    if -code == signal.SIGKILL:
        error = MachineError(
            f"{sys.argv[1]} was killed (signal 9)", next_step="free memory, if that was the reason, and run it again"
        )
    else:
        error = ModelFileError(
            f"a library crashed on what {sys.argv[1]} was given (signal {-code}, {signal.Signals(-code).name})",
            next_step="the file is damaged or made to do this: get it again, or from elsewhere",
        )
    sys.stderr.write(f"error: {error}\n")
    return error.exit_code


def _limit_memory() -> None:
    """Makes a request for absurd amounts of memory fail here, before the machine runs out of it."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        share = int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * _MEMORY_SHARE)
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (share, hard))
