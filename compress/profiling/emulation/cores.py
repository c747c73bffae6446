"""The cores that are emulated: what QEMU calls them, and how the kernel of a board would describe them.

The runtime chooses its kernels by what `/proc/cpuinfo` and the processor's own registers say, so both must agree.
"""

from __future__ import annotations

from dataclasses import dataclass

from compress.errors import CompressError, suggestion

_BASE = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
DEFAULT = "cortex-a53"


@dataclass(frozen=True)
class Core:
    """A processor core.

    Attributes:
        name: QEMU's.
        part: its number in the identification register.
        features: what `/proc/cpuinfo` lists.
    """

    name: str
    part: int
    features: str

    def cpuinfo(self) -> str:
        """Returns `/proc/cpuinfo` of a machine with one such core."""
        lines = {
            "processor": "0",
            "BogoMIPS": "100.00",
            "Features": self.features,
            "CPU implementer": "0x41",
            "CPU architecture": "8",
            "CPU variant": "0x0",
            "CPU part": f"{self.part:#x}",
            "CPU revision": "4",
        }
        return "".join(f"{key}\t: {value}\n" for key, value in lines.items()) + "\n"


CORES = {
    core.name: core
    for core in (
        Core("cortex-a53", 0xD03, _BASE),
        Core("cortex-a72", 0xD08, _BASE),
        Core("cortex-a76", 0xD0B, f"{_BASE} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp ssbs"),
    )
}


def core(name: str) -> Core:
    """Returns a core by its name, ``cortex-a53`` by default.

    Raises:
        CompressError: if it is none of those that are known.
    """
    found = CORES.get(name or DEFAULT)
    if found is None:
        raise CompressError(f"no core {name!r} can be emulated", next_step=suggestion(name, CORES))
    return found
