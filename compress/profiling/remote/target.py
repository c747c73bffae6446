"""A device behind a shell: probe, one visit with the runner, an answer."""

from __future__ import annotations

import json
import re
import shlex
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from compress.errors import CompressError, MachineError
from compress.onnx_io.file import model_files
from compress.profiling import native_runner
from compress.profiling.bundle.programs import programs
from compress.profiling.device import Device, Measurement
from compress.profiling.parity import few
from compress.profiling.python_runner import RUNNER, measurements, runner_request
from compress.profiling.reference import references, references_if_any
from compress.profiling.remote.probe import Probe, probe
from compress.profiling.remote.shell import Shell, last_line, word
from compress.profiling.remote.visit import visit
from compress.profiling.tensors import pack
from compress.recipe import ProfileSettings

_LIMIT_S = 900
_CORES = re.compile(r"\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*")


class Target(Device):
    """What devices behind a shell share; see `Device` for the arguments."""

    REMOTE = True
    OPTIONS: ClassVar[Mapping[str, str]] = {
        "python": "its interpreter that has NumPy and onnxruntime, a command over there; default python3",
        "folder": "where temporary files go over there; default $TMPDIR or /tmp",
        "cores": "to run on, e.g. 4-7 or 2,3; default the ones with the highest clock, one a thread",
        "runner": "`python`, or `bundle` where nothing can be installed; default python where it has onnxruntime",
        "limit": f"seconds that a measurement may take; default {_LIMIT_S}",
    }

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.python = self.text("python") or "python3"
        self.folder = self.text("folder")
        self.cores = self.text("cores")
        self.runner = self.text("runner")
        if self.runner not in (None, "python", "bundle"):
            raise CompressError(
                "device option runner",
                got=self.runner,
                allowed="python, bundle",
                next_step="write one, or leave it out",
            )
        self.limit_s = self.options.get("limit", _LIMIT_S)
        if type(self.limit_s) is not int or self.limit_s < 1:
            raise CompressError(
                "device option limit",
                got=self.limit_s,
                allowed="whole seconds, 1 or more",
                next_step=f"write limit = {_LIMIT_S}",
            )
        if self.cores is not None and _ranges(self.cores) is None:
            raise CompressError(
                "device option cores",
                got=self.cores,
                allowed="numbers and ranges, e.g. 4-7 or 2,3",
                next_step='write cores = "0"',
            )

    def text(self, name: str) -> str | None:
        """Returns an option that is a string; None where it is left out.

        Raises:
            CompressError: if it is something else, or empty.
        """
        value = self.options.get(name)
        if value is not None and not (isinstance(value, str) and value):
            raise CompressError(
                f"device option {name} must be a string",
                got=value,
                allowed=self.OPTIONS[name],
                next_step=f'write it in quotation marks, {name} = "…"',
            )
        return value

    @property
    @abstractmethod
    def shell(self) -> Shell:
        """How it is reached."""

    def facts(self) -> dict[str, Any]:
        """See `Device.facts`."""
        return probe(self.shell, self.python).facts()

    def measure(self, models: list[Path], settings: ProfileSettings) -> list[Measurement]:
        """See `Device.measure`."""
        found = probe(self.shell, self.python)
        # Without the runtime one goes along, unless that was ruled out.
        native = self.runner == "bundle" or (self.runner is None and found.onnxruntime is None)
        self._require_cores(found)
        pinned = self.cores or ",".join(map(str, found.fastest(settings.threads)))
        pin = ["taskset", "-c", pinned] if pinned and "taskset" in found.tools else []
        facts = {**found.facts(), "pinned_cores": pinned if pin else None}
        measure = self._by_bundle if native else self._by_python
        return measure(models, settings, found, pin, facts)

    def _by_python(
        self, models: list[Path], settings: ProfileSettings, found: Probe, pin: list[str], facts: dict[str, Any]
    ) -> list[Measurement]:
        self._require_runtime(found)
        files, places = _placed(models)
        files["runner.py"] = RUNNER
        files["request.json"] = json.dumps(runner_request(places, settings)).encode()
        output = self._visit(files, f"exec {shlex.join(pin)} {word(self.python)} runner.py <request.json")
        measured = measurements(output, models, self.shell.device, references_if_any(models, settings))
        return [replace(one, machine={**facts, **one.machine}) for one in measured]

    def _by_bundle(
        self, models: list[Path], settings: ProfileSettings, found: Probe, pin: list[str], facts: dict[str, Any]
    ) -> list[Measurement]:
        if found.onnxruntime is None:
            lacks = f"{self.python} there has no onnxruntime" if found.python else f"there is no {self.python}"
            self.tell(f"device {self.shell.device!r}: {lacks}: a runner and its libraries go along")
        parts = programs(found.architecture, self.tell)
        given = references(models, settings)
        sent = [few(expected) and "od" in found.tools for _, expected in given]
        files, places = _placed(models)
        files.update(parts.files("lib/"))
        files.update({f"{position}/feed.bin": pack(feed) for position, (feed, _) in enumerate(given)})
        output = self._visit(files, native_runner.script([*pin, *parts.command("lib/")], places, settings, sent))
        return native_runner.measurements(output, models, given, sent, settings, facts, self.shell.device)

    def _visit(self, files: dict[str, Path | bytes], command: str) -> str:
        answer = visit(self.shell, files, command, self.limit_s)
        if answer.code:
            raise MachineError(
                f"device {self.shell.device!r}: the runner ended with {answer.code} ({last_line(answer.said)})",
                next_step="free memory there if it was killed, else profile the models one by one",
            )
        return answer.output

    def _require_runtime(self, found: Probe) -> None:
        device = self.shell.device
        if found.python is None:
            raise MachineError(
                f"device {device!r}: there is no {self.python} ({found.architecture})",
                next_step="install Python 3 there, or name its command in devices.toml: "
                '{ at = "…", python = "/path/to/python3" }',
            )
        if found.onnxruntime is None:
            # A system's own Python may refuse to have anything installed (PEP 668); an environment never does.
            home = "~/onnxruntime"
            raise MachineError(
                f"device {device!r}: {self.python} {found.python} cannot import onnxruntime ({found.architecture})",
                next_step=f"run `{self.python} -m venv {home} && {home}/bin/python -m pip install onnxruntime` there "
                f'and write python = "{home}/bin/python" in devices.toml, or leave runner out: one goes along then',
            )

    def _require_cores(self, found: Probe) -> None:
        there = [core.index for core in found.cores]
        asked = _ranges(self.cores or "") or []
        # The kernel may not say which there are.
        if there and any(first not in there or last not in there for first, last in asked):
            raise CompressError(
                f"device {self.shell.device!r}: option cores",
                got=self.cores,
                allowed=", ".join(map(str, there)),
                next_step="name cores that it has in devices.toml, or leave cores out: the fastest are taken",
            )


def _ranges(cores: str) -> list[tuple[int, int]] | None:
    """Returns first and last of each range of ``2,4-7``; None if it is not such a list, or one runs backwards."""
    if not _CORES.fullmatch(cores):
        return None
    ends = [[int(end) for end in part.split("-")] for part in cores.split(",")]
    found = [(end[0], end[-1]) for end in ends]
    return found if all(first <= last for first, last in found) else None


def _placed(models: list[Path]) -> tuple[dict[str, Path | bytes], list[str]]:
    """Returns path over there → file, for models and the data that they name outside, and the models' own paths."""
    files: dict[str, Path | bytes] = {}
    for position, model in enumerate(models):
        for file in [model] if model.suffix == ".ort" else model_files(model):
            files[f"{position}/{file.relative_to(model.parent)}"] = file
    return files, [f"{position}/{model.name}" for position, model in enumerate(models)]
