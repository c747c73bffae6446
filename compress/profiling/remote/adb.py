"""Android's debug bridge as a shell."""

from __future__ import annotations

from dataclasses import dataclass

from compress.errors import MachineError
from compress.profiling.remote.shell import Shell, last_line

_REASONS = (
    ("unauthorized", "it does not trust this machine", "unlock it and allow debugging from this computer"),
    ("no devices", "no Android device is connected", "connect one with USB debugging on; `adb devices` lists them"),
    ("not found", "there is no such Android device", "`adb devices` lists the serials"),
    ("more than one device", "several Android devices are connected", "name one, adb://SERIAL"),
    ("offline", "it is offline", "unplug it and plug it in again, or `adb reconnect`"),
)


@dataclass(frozen=True)
class AdbShell(Shell):
    """A shell by `adb`.

    Attributes:
        serial: of the device; None if just one is connected.
    """

    serial: str | None = None

    def argv(self, script: str) -> list[str]:
        """See `Shell.argv`."""
        return ["adb", *(["-s", self.serial] if self.serial else []), "shell", "-T", script]

    def refusal(self, said: str) -> MachineError:
        """See `Shell.refusal`."""
        for sign, reason, help_ in _REASONS:
            if sign in said.lower():
                return MachineError(f"device {self.device!r}: {reason}", next_step=help_)
        return MachineError(
            f"device {self.device!r}: the connection was lost ({last_line(said)})",
            next_step="check that `adb shell true` works, and run it again",
        )
