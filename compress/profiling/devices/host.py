"""The machine that the product runs on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from compress.errors import CompressError, MachineError
from compress.profiling.device import RUNNER, Device, Measurement, devices, measurements, runner_request
from compress.recipe import ProfileSettings


@devices.register("host")
class Host(Device):
    """Runs the runner as a fresh process: what this one holds, torch for instance, does not disturb the figures.

    Args:
        address: must be empty, there is only one host.

    Raises:
        CompressError: if an address is given.
    """

    def __init__(self, address: str = "") -> None:
        super().__init__(address)
        if address:
            raise CompressError("device 'host' takes no address", got=address, next_step="write `host` alone")

    def measure(self, models: list[Path], settings: ProfileSettings) -> list[Measurement]:
        """See `Device.measure`."""
        request = json.dumps(runner_request([str(model.resolve()) for model in models], settings))
        # -P: the runner's folder holds modules named like the standard library's.
        command = [sys.executable, "-P", str(RUNNER)]
        try:
            result = subprocess.run(command, input=request, capture_output=True, text=True, check=False)
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
        return measurements(result.stdout, models, "host")
