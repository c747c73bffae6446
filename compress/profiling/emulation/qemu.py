"""The runner under QEMU: the counts and outputs of models."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compress.errors import MachineError
from compress.onnx_io.file import write_model
from compress.profiling.emulation.cores import CORES, DEFAULT, Core
from compress.profiling.emulation.place import LIBRARY, PLUGIN, QEMU, RUNNER, Place
from compress.profiling.python_runner import read_answer, unreadable
from compress.profiling.tensors import pack, unpack
from compress.profiling.trial_model import small_model

_LIMIT_SECONDS = 1800.0
_COUNTER = "counter"
_COUNTER_BYTES = 8


@dataclass(frozen=True)
class Counted:
    """What came of the runs of one model.

    Attributes:
        instructions: of each run.
        outputs: of the last run, as far as they are arrays of numbers.
        events: the runtime's own profile of all runs, in instructions; empty unless it was asked for.
        runtime: name and version.
    """

    instructions: tuple[float, ...]
    outputs: dict[str, np.ndarray]
    events: str
    runtime: str


def qemu_command(folder: Path) -> list[str]:
    """Returns the command that starts QEMU with the libraries that were fetched for it, whatever the system has."""
    loaders = sorted((folder / "host").glob("lib*/ld-linux*.so*"))
    if not loaders:
        raise MachineError(f"{folder}: no loader among the packages", next_step="delete that folder and set up again")
    libraries = ":".join(str(path) for path in sorted((folder / "host/usr/lib").glob("*-linux-gnu")))
    return [str(loaders[0]), "--library-path", libraries, str(folder / QEMU)]


def count(
    place: Place,
    core: Core,
    models: Sequence[Path],
    feeds: Sequence[Mapping[str, np.ndarray]],
    *,
    warmup: int,
    runs: int,
    operators: bool,
) -> list[Counted]:
    """Runs models, all in one process: much of its work is the translation of the runtime, which is then done once.

    What lies in memory from the models before moves a count by some tenths of a per cent.

    Args:
        place: the set-up.
        core: to emulate.
        models: the files.
        feeds: input → array, for each.
        warmup: runs before those that are counted, at least one.
        runs: that are counted.
        operators: whether the runtime profiles the runs; that costs instructions of its own.

    Raises:
        ModelFileError: if the runtime cannot open, feed or run a model.
        MachineError: if the emulator fails.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / _COUNTER).write_bytes(bytes(_COUNTER_BYTES))
        (folder / PLUGIN).symlink_to(place.folder / PLUGIN)
        files = []
        for index, (model, feed) in enumerate(zip(models, feeds, strict=True)):
            (folder / f"feed{index}").write_bytes(pack(feed))
            (folder / f"model{index}").symlink_to(model.resolve().parent)
            files += [f"model{index}/{model.resolve().name}", f"feed{index}", f"outputs{index}"]
        command = [*qemu_command(place.folder), "-L", str(place.sysroot(core)), "-cpu", core.name]
        # Relative: the runtime hashes the names of files, so that a count would depend on where they stand; and QEMU
        # takes a comma in the plugin's for its end.
        command += ["-plugin", f"./{PLUGIN}", str(place.folder / RUNNER), str(place.folder / LIBRARY)]
        command += ["1", str(warmup), "1", str(runs), "events" if operators else "-", *files]
        answer = _answer(_output(command, folder), list(models))
        return [
            Counted(
                instructions=tuple(float(one) for one in answer["models"][index]["blocks"][0]),
                outputs=unpack((folder / f"outputs{index}").read_bytes()),
                events="".join(path.read_text(encoding="utf-8") for path in folder.glob(f"events{index}-*")),
                runtime=str(answer["runtime"]),
            )
            for index in range(len(models))
        ]


def try_out(place: Place) -> None:
    """Runs a small model, to see that everything fits together.

    Raises:
        MachineError: if it does not.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.onnx"
        write_model(small_model(), path)
        feed = {"x": np.ones((1, 3, 16, 16), np.float32)}
        (counted,) = count(place, CORES[DEFAULT], [path], [feed], warmup=1, runs=1, operators=False)
    if not counted.instructions[0] > 0 or "y" not in counted.outputs:
        raise MachineError(
            "the emulated ARM runs, but nothing is counted", next_step="report this with `qemu-aarch64 --version`"
        )


def _output(command: list[str], folder: Path) -> str:
    # The variables of this process would reach the guest, and move its stack.
    environment = {"COMPRESS_COUNTER": _COUNTER, "LC_ALL": "C"}
    try:
        result = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LIMIT_SECONDS,
            check=False,
        )
    except OSError as error:
        raise MachineError(
            f"QEMU cannot start ({error.strerror})", next_step="compress devices setup arm-emu"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise MachineError(
            f"the emulated run was not done after {_LIMIT_SECONDS:.0f} s", next_step="take a smaller model, or a board"
        ) from error
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["without a word"])[-1]
        raise MachineError(
            f"the emulated run ended with {result.returncode}: {last}",
            next_step="`compress devices test arm-emu` tells whether the device or the model is at fault",
        )
    return result.stdout


def _answer(output: str, models: list[Path]) -> dict[str, Any]:
    try:
        return read_answer(output, models)
    except (LookupError, TypeError, ValueError) as error:
        raise unreadable("arm-emu", error) from error
