"""From a name to a device: what `--device` means."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compress.errors import CompressError, suggestion
from compress.profiling.configured import RESERVED, Entry, configured, split_address
from compress.profiling.device import Device, Tell, devices

ARM = ("aarch64", "arm64", "armv8l", "armv7l")
EMULATED = "arm-emu"


@dataclass(frozen=True)
class Resolved:
    """A device that a name stands for.

    Attributes:
        name: kind and address in full, e.g. ``arm-emu:cortex-a53``, or the name that `devices.toml` gives it.
        device: the device.
        reason: why this one, where the name left a choice; else empty.
    """

    name: str
    device: Device
    reason: str = ""


def resolve(name: str, tell: Tell | None = None) -> Resolved:
    """Returns the device that a name stands for.

    ``arm`` is this machine if it is an ARM one; else the first of `devices.toml` that is; else the emulated one. Other
    names are those of `devices.toml`, then ``kind`` or ``kind:address``.

    Args:
        name: as it was given.
        tell: who is told what the device does.

    Raises:
        CompressError: if nothing is called so; the message lists what there is.
        MachineError: for ``arm``, if a configured device cannot be asked what it is.
    """
    if name == "arm":
        return _arm(tell)
    known = configured()
    if name in known:
        return _of_entry(known[name], tell)
    kind, _, _ = name.partition(":")
    if kind not in devices:
        names = [*known, *devices.names(), *RESERVED]
        raise CompressError(
            f"unknown device {name!r}",
            next_step=f"{suggestion(name, names)}; a board of yours: compress devices add NAME ssh://user@host",
        )
    return _open(*split_address(name, name), {}, tell)


def _arm(tell: Tell | None) -> Resolved:
    here = platform.machine().lower()
    if here in ARM:
        return Resolved("host", _open("host", "", {}, tell).device, f"this machine is ARM ({here})")
    for entry in configured().values():
        if devices.get(entry.kind).REMOTE:
            found = _of_entry(entry, tell)
            if str(found.device.facts().get("architecture", "")).lower() in ARM:
                return Resolved(found.name, found.device, f"{entry.file} names {entry.name}, which is ARM")
    found = _open(EMULATED, "", {}, tell)
    reason = f"this machine is no ARM one ({here}) and devices.toml names none: instructions are counted, not time"
    return Resolved(found.name, found.device, reason)


def _of_entry(entry: Entry, tell: Tell | None) -> Resolved:
    found = _open(*split_address(entry.at, entry.name), entry.options, tell)
    return Resolved(entry.name, found.device)


def _open(kind: str, address: str, options: Mapping[str, Any], tell: Tell | None) -> Resolved:
    cls = devices.get(kind)
    device = cls(address, options, tell) if tell else cls(address, options)
    full = device.name()
    return Resolved(f"{kind}:{full}" if full else kind, device)
