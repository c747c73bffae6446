"""The machine that the product runs on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from compress.errors import CompressError, MachineError
from compress.profiling.device import Device, Measurement, devices
from compress.profiling.python_runner import RUNNER, measurements, read_answer, runner_request, unreadable
from compress.recipe import ProfileSettings


@devices.register("host")
class Host(Device):
    """Runs the runner as a fresh process: what this one holds, torch for instance, does not disturb the figures.

    Args:
        arguments: as of `Device`; address and options must be empty, there is only one host.

    Raises:
        CompressError: if an address is given.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if self.address:
            raise CompressError("device 'host' takes no address", got=self.address, next_step="write `host` alone")

    def measure(self, models: list[Path], settings: ProfileSettings) -> list[Measurement]:
        """See `Device.measure`."""
        return measurements(start(runner_request([str(m.resolve()) for m in models], settings)), models, "host")

    def facts(self) -> dict[str, Any]:
        """See `Device.facts`."""
        try:
            answer = read_answer(start({"action": "facts"}), [])
            return {**answer["machine"], "runtime": answer["runtime"]}
        except (LookupError, TypeError, ValueError) as error:
            raise unreadable("host", error) from error


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
