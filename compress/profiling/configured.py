"""`devices.toml`: the boards that a project, or a user, has given names.

    pi = "ssh://pi@board:22"
    shelf = { at = "ssh://root@10.0.0.7", cores = "2,3" }

The project's file (in the current folder) is read first, then the user's; the first that knows a name decides. Both may
come from strangers: names and addresses are plain words, so that none can pass for an option of a program or for more
than one of its arguments.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compress.artifact import write_text
from compress.errors import CompressError, MachineError
from compress.profiling.device import devices

FILE_NAME = "devices.toml"
_MOST_BYTES = 1 << 16
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
_ADDRESS = re.compile(
    r"(?P<kind>[a-z][a-z0-9-]*)(?P<rest>:(//)?(?P<address>[A-Za-z0-9_\[][\w.@:%/\[\]+-]*))?", re.ASCII
)
_MOST_CHARACTERS = 255
# Words that `--device` gives a meaning of its own.
RESERVED = ("arm",)


@dataclass(frozen=True)
class Entry:
    """One device of a file.

    Attributes:
        name: as it stands in the file.
        at: kind and address, e.g. ``ssh://pi@board:22``; empty if the row does not say.
        options: the other keys of its table.
        file: where it stands.
        problem: what is wrong with the row; None if it will do.
    """

    name: str
    at: str
    options: Mapping[str, Any] = field(default_factory=dict)
    file: Path = Path(FILE_NAME)
    problem: CompressError | None = None

    def required(self) -> Entry:
        """Returns the entry itself.

        Raises:
            CompressError: what is wrong with the row, if anything is.
        """
        if self.problem:
            raise self.problem
        return self

    @property
    def kind(self) -> str:
        """The kind of device, e.g. ``ssh``."""
        return split_address(self.at)[0]


def project_file() -> Path:
    """Returns the file of the project, whether or not it exists."""
    return Path(FILE_NAME)


def user_file() -> Path:
    """Returns the file of the user, whether or not it exists."""
    base = os.environ.get("XDG_CONFIG_HOME") or ""
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".config") / "compress" / FILE_NAME


def configured() -> dict[str, Entry]:
    """Returns the devices of both files by name, the project's first; a row that will not do is one with a problem.

    Raises:
        CompressError: if a file cannot be read as a whole.
    """
    found: dict[str, Entry] = {}
    for file in (project_file(), user_file()):
        for entry in read(file):
            found.setdefault(entry.name, entry)
    return found


def read(file: Path) -> list[Entry]:
    """Reads one file; one that does not exist holds nothing, and a wrong row spoils no other.

    Raises:
        CompressError: naming the file, if it is not TOML or too large.
        MachineError: if it cannot be read.
    """
    try:
        if not file.is_file():
            return []
        with file.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise MachineError(f"{file}: cannot be read ({error.strerror})", next_step="check its permissions") from error
    if len(content) > _MOST_BYTES:
        raise CompressError(
            f"{file}: too large", allowed=f"{_MOST_BYTES:,} bytes", next_step="keep devices in it alone"
        )
    try:
        table = tomllib.loads(content.decode())
    except ValueError as error:
        raise CompressError(f"{file}: not valid TOML ({error})", next_step="mend that line") from error
    return [_row(name, value, file) for name, value in table.items()]


def add(name: str, at: str, file: Path) -> Entry:
    """Adds a device at the end of a file, which is made if it does not exist.

    Raises:
        CompressError: if the name or the address will not do, or the file knows the name already.
        MachineError: if the file cannot be written.
    """
    entry = _entry(name, at, file)
    if any(known.name == name for known in read(file)):
        raise CompressError(f"{file}: {name!r} is there already", next_step="choose another name, or edit the file")
    before = file.read_text(encoding="utf-8") if file.is_file() else ""
    # Keys after a [table] header would belong to that table: the new one goes before all of them.
    tables = re.search(r"^[ \t]*\[", before, re.MULTILINE)
    place = tables.start() if tables else len(before)
    head, rest = before[:place], before[place:]
    line = f"{name} = {json.dumps(at)}\n"
    write_text(file, (head if not head or head.endswith("\n") else head + "\n") + line + rest)
    return entry


def split_address(at: str) -> tuple[str, str]:
    """Returns kind and address of ``kind``, ``kind:address`` or ``kind://address``.

    Raises:
        CompressError: if it is none of these, or not plain.
    """
    match = _ADDRESS.fullmatch(at) if len(at) <= _MOST_CHARACTERS else None
    if match is None:
        raise CompressError(
            "the address of a device will not do",
            got=at[:_MOST_CHARACTERS],
            allowed="kind, kind:address or kind://address, of letters, digits and . _ - @ : / % + [ ]",
            next_step='write it like "ssh://pi@board:22"',
        )
    return match["kind"], match["address"] or ""


def _row(name: str, value: object, file: Path) -> Entry:
    try:
        return _entry(name, value, file)
    except CompressError as error:
        return Entry(name, _address_of(value), file=file, problem=error.within(f"{file}: {name[:60]!r}"))


def _address_of(value: object) -> str:
    at = value.get("at") if isinstance(value, dict) else value
    return at if isinstance(at, str) else ""


def _entry(name: str, value: object, file: Path) -> Entry:
    if not _NAME.fullmatch(name):
        raise CompressError(
            f"a device cannot be called {name[:60]!r}",
            allowed="a letter, then letters, digits, - and _, 40 in all",
            next_step="give it another name",
        )
    if name in RESERVED or name in devices:
        raise CompressError("the name has a meaning of its own", next_step="give the device another name")
    at = _address_of(value)
    if not at:
        raise CompressError(
            "it says not where the device is",
            next_step=f'write {name} = "ssh://user@host", or {name} = {{ at = "ssh://user@host", … }}',
        )
    options = {key: value for key, value in value.items() if key != "at"} if isinstance(value, dict) else {}
    kind, address = split_address(at)
    # What a device makes of its address and options is checked here too.
    devices.get(kind)(address, options)
    return Entry(name, at, options, file)
