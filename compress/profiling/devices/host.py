"""The machine that the product runs on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compress.errors import CompressError
from compress.profiling.device import Device, Measurement, devices
from compress.profiling.local_runner import start
from compress.profiling.python_runner import measurements, read_answer, runner_request, unreadable
from compress.profiling.reference import references_if_any
from compress.recipe import ProfileSettings


@devices.register("host")
class Host(Device):
    """This machine.

    The runner is a fresh process: what this one holds, torch for instance, does not disturb the figures.

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
        output = start(runner_request([str(model.resolve()) for model in models], settings))
        return measurements(output, models, "host", references_if_any(models, settings))

    def facts(self) -> dict[str, Any]:
        """See `Device.facts`."""
        try:
            answer = read_answer(start({"action": "facts"}), [])
            return {**answer["machine"], "runtime": answer["runtime"]}
        except (LookupError, TypeError, ValueError) as error:
            raise unreadable("host", error) from error
