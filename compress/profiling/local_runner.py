"""The runner in a fresh process of this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from compress.errors import MachineError
from compress.profiling.python_runner import RUNNER


def start(request: dict[str, Any]) -> str:
    """Starts the runner on this machine and returns what it wrote.

    Raises:
        MachineError: if it cannot start, or ends badly.
    """
    # -P: the runner's folder holds modules named like the standard library's.
    command = [sys.executable, "-P", str(RUNNER)]
    try:
        result = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=False)
    except OSError as error:
        raise MachineError(
            f"device 'host': cannot start {sys.executable} ({error.strerror})", next_step="check the installation"
        ) from error
    if result.returncode != 0:
        last = "".join(result.stderr.splitlines()[-1:]) or "without a word"
        raise MachineError(
            f"device 'host': the measuring process ended with {result.returncode}: {last}",
            next_step="free memory if it was killed (-9), else profile the models one by one",
        )
    return result.stdout
