"""From the name of a target to what decides the widths."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from compress.channels.widths import WidthPolicy
from compress.errors import CompressError
from compress.targets import targets
from compress.targets.table import read_table

HOST = "host"


@dataclass(frozen=True)
class Target:
    """Where a network is to run, as far as widths go.

    Attributes:
        name: of the device or of the kind of machine.
        widths: decides.
        source: where that comes from, in words.
    """

    name: str
    widths: WidthPolicy
    source: str


def target_named(name: str | None) -> Target:
    """Returns a target: a device that was calibrated, else a kind of machine that is known.

    Args:
        name: of a device, as `compress devices calibrate` took it, or of a kind; None: this machine.

    Raises:
        CompressError: if nothing is known of it; or its table is damaged.
    """
    kind = name or architecture()
    if table := read_table(name or HOST):
        return Target(table.device, table, f"measured of {table.device} ({table.architecture}, {table.runtime})")
    if kind not in targets:
        what = f"target {name!r}" if name else f"the widths that suit this machine, {kind}"
        raise CompressError(
            f"nothing is known of {what}",
            allowed=", ".join(targets),
            next_step=f"measure it, `compress devices calibrate {name or HOST}`",
        )
    whose = "the target that was named" if name else "machines of this one's architecture"
    return Target(kind, targets.get(kind), f"known of {whose}")


def is_known() -> bool:
    """Tells whether something is known of this machine."""
    return architecture() in targets or read_table(HOST) is not None


def architecture() -> str:
    """Returns the name of the kind of machine that this is, or what it calls itself."""
    machine = platform.machine().lower()
    return next((name for name in targets if machine in targets.get(name).architectures), machine)
