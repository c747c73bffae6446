"""From a name to a device: what `--device` means."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
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
    names are those of `devices.toml`, then ``kind`` or ``kind:address``. Only those rows of `devices.toml` that are
    asked for must be right.

    Args:
        name: as it was given.
        tell: who is told what the device does.

    Raises:
        CompressError: if nothing is called so; the message lists what there is.
        MachineError: for ``arm``, if a configured device cannot be asked what it is.
    """
    known = configured()
    if name in known:
        return _of_entry(known[name], tell)
    if name == "arm":
        return _arm(known.values(), tell)
    kind, _, _ = name.partition(":")
    if kind not in devices:
        names = [*known, *devices.names(), *RESERVED]
        raise CompressError(
            f"unknown device {name!r}",
            next_step=f"{suggestion(name, names)}; a board of yours: compress devices add NAME ssh://user@host",
        )
    return open_device(*split_address(name), tell=tell)


def _arm(known: Iterable[Entry], tell: Tell | None) -> Resolved:
    here = platform.machine().lower()
    if here in ARM:
        return Resolved("host", open_device("host", tell=tell).device, f"this machine is ARM ({here})")
    for entry in known:
        # A wrong row may be the board that is meant: no reason to take another one silently.
        if devices.get(entry.required().kind).REMOTE:
            found = _of_entry(entry, tell)
            if str(found.device.facts().get("architecture", "")).lower() in ARM:
                return Resolved(found.name, found.device, f"{entry.file} names {entry.name}, which is ARM")
    found = open_device(EMULATED, tell=tell)
    reason = f"this machine is no ARM one ({here}) and devices.toml names none: instructions are counted, not time"
    return Resolved(found.name, found.device, reason)


def _of_entry(entry: Entry, tell: Tell | None) -> Resolved:
    found = open_device(*split_address(entry.required().at), entry.options, tell, entry.name)
    return Resolved(entry.name, found.device)


def open_device(
    kind: str, address: str = "", options: Mapping[str, Any] | None = None, tell: Tell | None = None, label: str = ""
) -> Resolved:
    """Returns a device by its kind, whatever `devices.toml` calls so; see `Device` for the arguments.

    Raises:
        CompressError: if there is no such kind, or address or options will not do.
    """
    device = devices.get(kind)(address, options, tell, label)
    full = device.name()
    return Resolved(f"{kind}:{full}" if full else kind, device)
