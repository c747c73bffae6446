"""Files that a run leaves behind: hashes, atomic writes, the manifest of a run folder.

Nothing is ever half-written: a file appears under its name complete, or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from threading import Thread
from typing import Any, BinaryIO

from compress.errors import CompressError, MachineError, ModelFileError

_CHUNK_BYTES = 1 << 20
# A result that stays: export/<model name>/<device folder>/profile.json.
PROFILE_NAME = "profile.json"


def user_cache() -> Path:
    """Returns the user's folder for what can be made again, whether or not it exists."""
    base = os.environ.get("XDG_CACHE_HOME") or ""
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "compress"


def sha256_file(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """Returns the SHA-256 of a JSON value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def model_name(model: Path) -> str:
    """Returns what a model is called: its file's name, or its folder's if that is all that tells it apart."""
    folder = model.resolve().parent.name
    return folder if model.stem == "model" and folder else model.stem


def device_folder(device: str) -> str:
    """Returns a device's name as a folder: ``arm-emu:cortex-a53`` → ``arm-emu-cortex-a53``."""
    return re.sub(r"[^\w.-]+", "-", device).strip("-.")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` that becomes `path` if the block ends without an exception.

    Raises:
        MachineError: if the folder cannot be written or the disk is full; nothing is left behind.
    """
    with _writing(path):
        with _beside(path) as file:
            temporary = Path(file.name)
        try:
            yield temporary
            with temporary.open("rb") as written:
                _store(written)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


class Draft:
    """A file that is written before it is known whether it is wanted; meanwhile the disk stores it.

    Args:
        path: the name that it may get; until then it has another one beside it.
        parts: its bytes.

    Raises:
        MachineError: if the folder cannot be written or the disk is full; nothing is left behind.
    """

    def __init__(self, path: Path, parts: Iterable[bytes | memoryview]) -> None:
        self._path = path
        self._failure: OSError | None = None
        with _writing(path):
            self._file = _beside(path)
            self._temporary = Path(self._file.name)
            try:
                self._file.writelines(parts)
                self._file.flush()
            except BaseException:
                self._file.close()
                self._temporary.unlink(missing_ok=True)
                raise
        self._storing = Thread(target=self._store)
        self._storing.start()

    def keep(self) -> None:
        """Gives the file its name. Raises as the constructor does."""
        self._storing.join()
        with _writing(self._path):
            if self._failure is not None:
                raise self._failure
            self._temporary.replace(self._path)

    def drop(self) -> None:
        """Removes the file, unless it has been kept."""
        self._storing.join()
        self._temporary.unlink(missing_ok=True)

    def _store(self) -> None:
        try:
            with self._file:
                _store(self._file)
        except OSError as error:
            self._failure = error


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turns what goes wrong while a file is written into an error that names it."""
    try:
        yield
    except OSError as error:
        raise _write_error(path, error) from error


def _beside(path: Path) -> BinaryIO:
    """Makes an empty file beside a path, as readable as the user's umask says, and the folder if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return (path.parent / f".{path.name}.{secrets.token_hex(4)}.partial").open("xb")


def _store(file: BinaryIO) -> None:
    """Waits until the disk has a file."""
    os.fsync(file.fileno())


def write_bytes(path: Path, data: bytes) -> None:
    """Writes `data` to `path`, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path` as UTF-8, atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON value to `path`, indented, atomically. NaN is refused: it is not JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, next_step: str = "delete it or run again") -> Any:
    """Reads a JSON file.

    Args:
        path: the file.
        next_step: what to do if it is missing or damaged.

    Raises:
        ModelFileError: if it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelFileError(f"{path}: cannot be read as JSON ({reason})", next_step=next_step) from error


def require_file(path: Path, what: str) -> Path:
    """Returns `path` if it is a readable, non-empty file.

    Raises:
        ModelFileError: with what is wrong with it otherwise.
    """
    if path.is_dir():
        raise ModelFileError(f"{what} {path} is a folder", next_step="name a file inside it")
    if not path.is_file():
        raise ModelFileError(f"{what} {path} does not exist", next_step="check the path")
    if path.stat().st_size == 0:
        raise ModelFileError(f"{what} {path} is empty", next_step="make it again")
    return path


def require_target(path: Path, *sources: Path) -> None:
    """Sees to it, before the work is done, that `path` can be written afterwards; nothing is left there.

    Args:
        path: the file to write.
        sources: what it is made from, which must stay: a result is only ever proven against its original.

    Raises:
        ModelFileError: if it is a folder, or one of the sources.
        MachineError: if its folder cannot be written.
    """
    if path.is_dir():
        raise ModelFileError(f"cannot write {path}: it is a folder", next_step="name a file inside it")
    require_none_of(path, *sources)
    try:
        with folder_for(path.parent), tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _write_error(path, error) from error


def require_none_of(path: Path, *sources: Path) -> None:
    """Sees to it that `path` is none of the files that it is made from.

    Raises:
        ModelFileError: if it is one.
    """
    for source in sources:
        if path.exists() and source.exists() and path.samefile(source):
            raise ModelFileError(
                f"cannot write {path}: it is the file that is read, and would be lost",
                next_step="write to another name; whoever compares the two needs both",
            )


@contextmanager
def folder_for(folder: Path) -> Iterator[None]:
    """Makes a folder with its parents; those that it made and that are empty in the end go again.

    Raises:
        OSError: if it cannot be made.
    """
    made = list(takewhile(lambda one: not one.exists(), (folder, *folder.parents)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        # The first that is not empty ends it.
        with contextlib.suppress(OSError):
            for one in made:
                one.rmdir()


def cleanup_partial(folder: Path, warn: Callable[[str], None] = lambda _: None) -> None:
    """Removes what a killed process left unfinished in `folder`, which must be nobody else's; subfolders are let be."""
    for leftover in folder.glob(".*.partial"):
        warn(f"removing {leftover}, left by an interrupted run")
        leftover.unlink(missing_ok=True)


def _write_error(path: Path, error: OSError) -> CompressError:
    if error.errno == errno.ENOSPC:
        return MachineError(f"no space left to write {path}", next_step="free some disk space and run again")
    return MachineError(f"cannot write {path} ({error.strerror})", next_step="choose another place")
