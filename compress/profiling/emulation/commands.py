"""Programs of the system, run for a set-up: what they say is kept for the one line of an error."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from compress.errors import MachineError

_LIMIT_SECONDS = 600.0
# What to do where the set-up is not possible at all.
ELSEWHERE = "use a board (`compress devices add`), or `--device estimate:cortex-a72`, which needs nothing"


def run(
    command: Sequence[str | Path],
    what: str,
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    """Runs a program and returns its standard output.

    Args:
        command: program and arguments.
        what: it is doing, for messages.
        environment: variables besides this process's own.
        folder: to run in.

    Raises:
        MachineError: if it cannot start, fails, or takes longer than ten minutes.
    """
    try:
        result = subprocess.run(
            [str(part) for part in command],
            cwd=folder,
            env={**os.environ, "LC_ALL": "C", **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LIMIT_SECONDS,
            check=False,
        )
    except OSError as error:
        raise MachineError(f"{what}: cannot start {command[0]} ({error.strerror})", next_step=ELSEWHERE) from error
    except subprocess.TimeoutExpired as error:
        raise MachineError(
            f"{what}: not done after {_LIMIT_SECONDS:.0f} s", next_step="check the network and try again"
        ) from error
    if result.returncode != 0:
        raise MachineError(f"{what}: {_reason(result)}", next_step="check the network and try again, or " + ELSEWHERE)
    return result.stdout


def _reason(result: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in (result.stderr + "\n" + result.stdout).splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("e:", "error", "err:"))]
    return f"{(errors or lines or ['without a word'])[0]} (exit {result.returncode})"
