"""A model, and all that runs it, in a folder that a board needs nothing else for."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from compress.artifact import require_file, sha256_file, write_json
from compress.errors import CompressError, MachineError
from compress.onnx_io.file import model_files
from compress.profiling.bundle import readme
from compress.profiling.bundle.compare import EXPECTED, OUTPUTS
from compress.profiling.bundle.programs import programs
from compress.profiling.device import Tell
from compress.profiling.reference import references
from compress.profiling.tensors import pack
from compress.recipe import ProfileSettings

_SCRIPT = """\
#!/bin/sh
# Measures the model beside this file: ./run.sh [THREADS [BLOCKS [RUNS]]]; one line of JSON, times in microseconds.
# README.txt says what the figures and the files are.
cd "$(dirname "$0")" || exit 1
exec {command} "${{1:-1}}" 10 "${{2:-20}}" "${{3:-10}}" - {model} feed.bin {outputs}
"""


@dataclass(frozen=True)
class Bundle:
    """A folder to be copied to a board.

    Attributes:
        folder: where it stands.
        target: its architecture.
        runtime: name and version.
        total_bytes: of all of its files.
    """

    folder: Path
    target: str
    runtime: str
    total_bytes: int


def bundle(model: Path, target: str, folder: Path, tell: Tell) -> Bundle:
    """Makes a folder that runs a model on a board without Python.

    Args:
        model: the file; the data that it names outside go along.
        target: architecture, as `uname -m` says on the board, e.g. ``aarch64``.
        folder: to be made; it must not hold anything yet.
        tell: who is told what is made.

    Raises:
        CompressError: if the folder holds something, or no bundle can be made for the target.
        ModelFileError: if the model is missing, damaged, or does not run.
        MachineError: if something cannot be fetched, compiled or written.
    """
    require_file(model, "model")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CompressError(f"{folder} holds something already", next_step="name a new folder")
    files = [model] if model.suffix == ".ort" else model_files(model)
    ((feed, expected),) = references([model], ProfileSettings())
    parts = programs(target, tell)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder.parent) as name:
            made = Path(name) / "made"
            content = parts.files("lib/") | {str(file.relative_to(model.parent)): file for file in files}
            for path, file in content.items():
                (made / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, made / path)
            (made / "feed.bin").write_bytes(pack(feed))
            (made / EXPECTED).write_bytes(pack(expected))
            script = made / "run.sh"
            words = shlex.join(parts.command("lib/"))
            lines = _SCRIPT.format(command=words, model=shlex.quote(f"./{model.name}"), outputs=OUTPUTS)
            script.write_text(lines, encoding="utf-8")
            script.chmod(0o755)
            runtime = f"onnxruntime {onnxruntime.__version__}"
            (made / readme.NAME).write_text(readme.text(model.name, target, runtime), encoding="utf-8")
            held = {
                str(file.relative_to(made)): sha256_file(file) for file in sorted(made.rglob("*")) if file.is_file()
            }
            write_json(made / "manifest.json", {"target": target, "runtime": runtime, "sha256": held})
            if folder.is_dir():
                folder.rmdir()
            made.rename(folder)
    except OSError as error:
        raise MachineError(
            f"{folder} cannot be made ({error.strerror or error})", next_step="name another folder, or free some space"
        ) from error
    return Bundle(folder, target, runtime, sum(file.stat().st_size for file in _files(folder)))


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())
