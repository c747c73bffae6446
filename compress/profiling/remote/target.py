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
from compress.profiling.python_runner import RUNNER, measurements, runner_request
from compress.profiling.reference import references
from compress.profiling.remote.probe import Probe, probe
from compress.profiling.remote.shell import Shell, last_line
from compress.profiling.remote.visit import visit
from compress.profiling.tensors import pack
from compress.recipe import ProfileSettings

_LIMIT_S = 900
_CORES = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")


class Target(Device):
    """What devices behind a shell share; see `Device` for the arguments."""

    REMOTE = True
    OPTIONS: ClassVar[Mapping[str, str]] = {
        "python": "its interpreter that has NumPy and onnxruntime, a command over there; default python3",
        "folder": "where temporary files go over there; default $TMPDIR or /tmp",
        "cores": "to run on, e.g. 4-7 or 2,3; default the ones with the highest clock, one a thread",
        "runner": "`python`, or `bundle` where nothing can be installed; default python where there is one",
        "limit": f"seconds that a measurement may take; default {_LIMIT_S}",
    }

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        for name in ("python", "folder", "cores", "runner"):
            if not isinstance(self.options.get(name, ""), str):
                raise CompressError(f"device option {name} must be a string", got=self.options[name])
        self.python: str = self.options.get("python", "python3")
        self.folder: str | None = self.options.get("folder")
        self.cores: str | None = self.options.get("cores")
        self.runner: str | None = self.options.get("runner")
        if self.runner not in (None, "python", "bundle"):
            raise CompressError("device option runner", got=self.runner, allowed="python, bundle")
        self.limit_s = self.options.get("limit", _LIMIT_S)
        if type(self.limit_s) is not int or self.limit_s < 1:
            raise CompressError("device option limit", got=self.limit_s, allowed="whole seconds, 1 or more")
        if self.cores is not None and not _CORES.fullmatch(self.cores):
            raise CompressError("device option cores", got=self.cores, allowed="numbers and ranges, e.g. 4-7 or 2,3")

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
        native = self.runner == "bundle" or (self.runner is None and found.python is None)
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
        output = self._visit(files, f"exec {shlex.join([*pin, self.python, 'runner.py'])} <request.json")
        return [
            replace(one, machine={**facts, **one.machine}) for one in measurements(output, models, self.shell.device)
        ]

    def _by_bundle(
        self, models: list[Path], settings: ProfileSettings, found: Probe, pin: list[str], facts: dict[str, Any]
    ) -> list[Measurement]:
        if found.python is None:
            self.tell(f"device {self.shell.device!r} has no {self.python}: a runner and its libraries go along")
        parts = programs(found.architecture, self.tell)
        feeds = [feed for feed, _ in references(models, settings)]
        files, places = _placed(models)
        files.update(parts.files("lib/"))
        files.update({f"{position}/feed.bin": pack(feed) for position, feed in enumerate(feeds)})
        output = self._visit(files, native_runner.script([*pin, *parts.command("lib/")], places, settings))
        return native_runner.measurements(output, models, feeds, settings, facts, self.shell.device)

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
            raise MachineError(
                f"device {device!r}: {self.python} {found.python} cannot import onnxruntime ({found.architecture})",
                next_step=f"run `{self.python} -m pip install onnxruntime` there, or let a runner go along, in "
                'devices.toml: { at = "…", runner = "bundle" }',
            )


def _placed(models: list[Path]) -> tuple[dict[str, Path | bytes], list[str]]:
    """Returns path over there → file, for models and the data that they name outside, and the models' own paths."""
    files: dict[str, Path | bytes] = {}
    for position, model in enumerate(models):
        for file in [model] if model.suffix == ".ort" else model_files(model):
            files[f"{position}/{file.relative_to(model.parent)}"] = file
    return files, [f"{position}/{model.name}" for position, model in enumerate(models)]
