"""What `--device` understands on this machine, and in which state it is."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from compress.profiling.configured import configured
from compress.profiling.device import Device, devices
from compress.profiling.resolve import ARM, EMULATED, open_device, resolve


@dataclass(frozen=True)
class KnownDevice:
    """One line of `compress devices list`.

    Attributes:
        name: as `--device` takes it.
        what: what it is, in words.
        state: ready, or what is missing; nothing is contacted for it.
    """

    name: str
    what: str
    state: str


def known_devices() -> list[KnownDevice]:
    """Returns the names of `devices.toml`, the kinds that need no address, and ``arm``.

    Raises:
        CompressError: if a `devices.toml` cannot be read as a whole.
    """
    found = []
    for entry in configured().values():
        state = f"wrong: {entry.problem}" if entry.problem else _state(resolve(entry.name).device)
        found.append(KnownDevice(entry.name, f"{entry.at or 'no address'} ({entry.file})", state))
    for kind in devices:
        cls = devices.get(kind)
        if not cls.REMOTE:
            resolved = open_device(kind)
            found.append(KnownDevice(resolved.name, _summary(cls), _state(resolved.device)))
        else:
            found.append(KnownDevice(f"{kind}://…", _summary(cls), "give an address"))
    return [_arm(), *found]


def _arm() -> KnownDevice:
    here = platform.machine().lower()
    boards = [name for name, entry in configured().items() if not entry.problem and devices.get(entry.kind).REMOTE]
    if here in ARM:
        return KnownDevice("arm", f"host: this machine is ARM ({here})", "ready")
    default = open_device(EMULATED)
    if boards:
        what = f"the first of {', '.join(boards)} that is ARM, else {default.name}"
        return KnownDevice("arm", what, "not asked")
    return KnownDevice("arm", f"{default.name}, as devices.toml names no board", _state(default.device))


def _state(device: Device) -> str:
    return device.missing() or ("not asked" if device.REMOTE else "ready")


def _summary(cls: type[Device]) -> str:
    return (cls.__doc__ or "").splitlines()[0].rstrip(".")
