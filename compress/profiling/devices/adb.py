"""An Android device at the debug bridge."""

from __future__ import annotations

from compress.profiling.device import devices
from compress.profiling.remote.adb import AdbShell
from compress.profiling.remote.target import Target

# Android has no /tmp; this is where its shell may write and start programs.
_FOLDER = "/data/local/tmp"


@devices.register("adb")
class Adb(Target):
    """An Android device with USB debugging: adb, or adb://SERIAL where several are connected."""

    @property
    def shell(self) -> AdbShell:
        """How it is reached."""
        return AdbShell(
            device=self.label or (f"adb://{self.address}" if self.address else "adb"),
            folder=self.folder or _FOLDER,
            serial=self.address or None,
        )
