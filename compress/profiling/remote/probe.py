"""What is there: architecture, cores and their clocks, temperature, room, Python, onnxruntime, tools."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from typing import Any

from compress.errors import MachineError
from compress.profiling.remote.shell import Shell, text_of, word

_TOOLS = ("head", "mktemp", "tar", "timeout")
_SCRIPT = """\
echo "architecture=$(uname -m)"
echo "system=$(uname -s)"
echo "kernel=$(uname -r)"
echo "processor=$(sed -n 's/^\\(model name\\|Model\\|Hardware\\)[^:]*: *//p' /proc/cpuinfo 2>/dev/null | head -n 1)"
for cpu in /sys/devices/system/cpu/cpu[0-9]*; do
    [ "$(cat $cpu/online 2>/dev/null)" = 0 ] && continue
    clock=$(cat $cpu/cpufreq/cpuinfo_max_freq 2>/dev/null)
    governor=$(cat $cpu/cpufreq/scaling_governor 2>/dev/null)
    echo "core=${{cpu##*/cpu}}:$clock:$governor"
done
for zone in /sys/class/thermal/thermal_zone*/temp; do
    echo "temperature=$(cat $zone 2>/dev/null)"
done
echo "room=$(df -Pk {place} 2>/dev/null | awk 'NR == 2 {{ print $4 }}')"
echo "python=$({python} -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null)"
echo "onnxruntime=$({python} -c 'import numpy, onnxruntime; print(onnxruntime.__version__)' 2>/dev/null)"
for tool in {tools} od taskset; do command -v $tool >/dev/null && echo "tool=$tool"; done
echo {done} >&2
"""
_DONE = "compress-probe"
_LIMIT_S = 60


@dataclass(frozen=True)
class Core:
    """A processor core of a target.

    Attributes:
        index: as the kernel counts.
        clock_khz: its highest clock; 0 if the kernel does not say.
        governor: how its clock is set; empty if the kernel does not say.
    """

    index: int
    clock_khz: int
    governor: str


@dataclass(frozen=True)
class Probe:
    """What is known of a target.

    Attributes:
        architecture: as `uname -m` says, e.g. `aarch64`.
        system: e.g. `Linux`.
        kernel: its release.
        processor: its name; empty if it has none.
        cores: every one that is switched on; empty if the kernel does not say.
        temperature_c: the warmest zone; None if none is told.
        room_bytes: free space for temporary files; None if not told.
        python: its version; None if there is none.
        onnxruntime: its version in that Python; None if it cannot be imported with NumPy.
        tools: commands that are there, of those that are asked for.
    """

    architecture: str
    system: str
    kernel: str
    processor: str
    cores: tuple[Core, ...]
    temperature_c: float | None
    room_bytes: int | None
    python: str | None
    onnxruntime: str | None
    tools: frozenset[str]

    def fastest(self, count: int) -> tuple[int, ...]:
        """Returns the indices of the `count` cores with the highest clocks; of equal ones the last, which idle most."""
        ordered = sorted(self.cores, key=lambda core: (core.clock_khz, core.index), reverse=True)
        return tuple(sorted(core.index for core in ordered[:count]))

    def facts(self) -> dict[str, Any]:
        """Returns what a reader of a measurement needs to know."""
        return {
            "architecture": self.architecture,
            "system": self.system,
            "kernel": self.kernel,
            "processor": self.processor or None,
            "cores": len(self.cores) or None,
            "governor": ", ".join(sorted({core.governor for core in self.cores if core.governor})) or None,
            "temperature_c": self.temperature_c,
            "room_bytes": self.room_bytes,
            "python": self.python,
            "runtime": f"onnxruntime {self.onnxruntime}" if self.onnxruntime else None,
        }


def probe(shell: Shell, python: str = "python3") -> Probe:
    """Asks a target what it is.

    Args:
        shell: how it is reached.
        python: its interpreter, a command over there.

    Raises:
        MachineError: if it cannot be reached, does not answer, or lacks a tool that a visit needs.
    """
    script = _SCRIPT.format(place=shell.place, python=word(python), tools=" ".join(_TOOLS), done=_DONE)
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as said:
        with shell.start(script, output, said) as process:
            try:
                process.communicate(timeout=_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise MachineError(
                    f"device {shell.device!r}: no answer within {_LIMIT_S} s", next_step="check the connection"
                ) from None
        if _DONE not in (reason := text_of(said)):
            raise shell.refusal(reason)
        found = read(text_of(output))
    if missing := sorted(set(_TOOLS) - found.tools):
        raise MachineError(
            f"device {shell.device!r}: it lacks {', '.join(missing)}", next_step="install coreutils and tar, or busybox"
        )
    return found


def read(answer: str) -> Probe:
    """Reads what the probing script says.

    Args:
        answer: lines `key=value`; others (a greeting of the login shell) are passed over.
    """
    said: dict[str, list[str]] = {}
    for line in answer.splitlines():
        key, is_pair, value = line.partition("=")
        if is_pair:
            said.setdefault(key, []).append(value.strip())

    def one(key: str) -> str:
        return said.get(key, [""])[0]

    temperatures = [int(value) for value in said.get("temperature", ()) if re.fullmatch(r"-?\d+", value)]
    cores = (re.fullmatch(r"(\d+):(\d*):(\S*)", line) for line in said.get("core", ()))
    return Probe(
        architecture=one("architecture"),
        system=one("system"),
        kernel=one("kernel"),
        processor=one("processor"),
        cores=tuple(sorted((Core(int(c[1]), int(c[2] or 0), c[3]) for c in cores if c), key=lambda core: core.index)),
        # Thermal zones speak in thousandths of a degree.
        temperature_c=round(max(temperatures) / 1000, 1) if temperatures else None,
        room_bytes=int(one("room")) * 1024 if one("room").isdigit() else None,
        python=one("python") or None,
        onnxruntime=one("onnxruntime") or None,
        tools=frozenset(said.get("tool", ())),
    )
