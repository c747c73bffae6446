"""One visit to a target: files go over, a command runs under a limit, its output comes back, and nothing stays.

One connection carries everything: first the files as a tar archive, then nothing more, but standard input stays open
for as long as the answer is awaited. If this end dies or the line is cut, the target sees the end of its input, ends
the command and clears up by itself; nobody has to come back for that.
"""

from __future__ import annotations

import io
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from compress.errors import MachineError
from compress.profiling.remote.shell import Shell, last_line, text_of

_REPORT = "compress-visit-report"
# $at: the folder of this visit. $line: who waits for the end of the input. A line that is gone must not end the shell
# by SIGPIPE before it has cleared up.
_SCRIPT = """\
umask 077
trap '' PIPE
exec 3<&0
at= line=
end() {{
    trap - HUP INT TERM
    [ -n "$line" ] && kill "$line" 2>/dev/null
    [ -n "$at" ] && cd / && rm -rf "$at"
    echo "{report} $1 $2" >&2
    exit 0
}}
trap 'end line 143' HUP INT TERM
at=$(mktemp -d {place}/compress-visit.XXXXXX) || end folder $?
head -c {size} <&3 | tar -xf - -C "$at" || end files $?
cd "$at" || end folder $?
timeout -k 2 {limit} sh -c {command} </dev/null >answer 2>said 3<&- &
job=$!
{{ cat <&3; kill "$job"; }} >/dev/null 2>&1 &
line=$!
wait "$job"
code=$?
cat answer || end answer $?
tail -n 20 said >&2
end command "$code"
"""
_TIMED_OUT = (124, 137)
# Longer than the target's own limit, which speaks first wherever it can.
_GRACE_S = 60


@dataclass(frozen=True)
class Answer:
    """What a command said on a target.

    Attributes:
        code: its exit status.
        output: its standard output.
        said: the end of its standard error.
    """

    code: int
    output: str
    said: str


def visit(shell: Shell, files: Mapping[str, Path | bytes], command: str, limit_s: int) -> Answer:
    """Runs a command on a target, in a fresh folder that holds `files`, and clears up behind it.

    Args:
        shell: how the target is reached.
        files: path within the folder → a local file, or the bytes themselves.
        command: for a POSIX shell; its working directory is the folder.
        limit_s: seconds that the command may run.

    Raises:
        MachineError: if the target cannot be reached or is lost, has no room, or the command outlasts its limit.
    """
    with tempfile.TemporaryFile() as archive:
        _pack(files, archive)
        size = archive.tell()
        archive.seek(0)
        script = _SCRIPT.format(
            report=_REPORT, place=shell.place, size=size, limit=limit_s, command=shlex.quote(command)
        )
        output, said = _converse(shell, script, archive, limit_s)
    report = re.search(rf"^{_REPORT} (\w+) (\d+)$", said, re.MULTILINE)
    if not report:
        raise shell.refusal(said)
    rest, stage, code = said[: report.start()], report[1], int(report[2])
    if stage == "folder":
        raise MachineError(
            f"device {shell.device!r}: no folder can be made for temporary files ({last_line(rest)})",
            next_step='name one that can be written to in devices.toml: { at = "…", folder = "/path" }',
        )
    if stage in ("files", "answer"):
        raise MachineError(
            f"device {shell.device!r}: {size:,} bytes cannot be unpacked there ({_complaint(rest)})",
            next_step='free space there, or name a roomier place in devices.toml: { at = "…", folder = "/path" }',
        )
    if stage == "line":
        raise MachineError(f"device {shell.device!r}: the visit was ended over there", next_step="run it again")
    if code in _TIMED_OUT:
        raise MachineError(
            f"device {shell.device!r}: no result within {limit_s} s (or killed for lack of memory)",
            next_step='ask for fewer runs, or set a higher limit in devices.toml: { at = "…", limit = 3600 }',
        )
    return Answer(code, output, rest)


def _complaint(said: str) -> str:
    # Of what tar says the first line is the cause, the last a summary.
    return next((line.strip() for line in said.splitlines() if line.startswith("tar:")), last_line(said))


def _pack(files: Mapping[str, Path | bytes], archive: IO[bytes]) -> None:
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in files.items():
            if isinstance(content, Path):
                tar.add(content.resolve(), name, filter=_plain)
            else:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    archive.seek(0, 2)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    # Whose file it was here says nothing over there.
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o700 if entry.mode & 0o100 else 0o600
    return entry


def _converse(shell: Shell, script: str, archive: IO[bytes], limit_s: int) -> tuple[str, str]:
    """Sends an archive, keeps the line open, and returns what came back: standard output and standard error."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as said:
        process = shell.start(script, output, said)
        # Not `communicate`: it closes the line first and waits only then.
        line = process.stdin
        assert line is not None
        try:
            # A target that gives up early says why in its report.
            with suppress(BrokenPipeError):
                shutil.copyfileobj(archive, line, 1 << 20)
                line.flush()
            process.wait(limit_s + _GRACE_S)
        except subprocess.TimeoutExpired:
            raise MachineError(
                f"device {shell.device!r}: silent for {limit_s + _GRACE_S} s", next_step="check the connection"
            ) from None
        finally:
            process.kill()
            process.wait()
            with suppress(BrokenPipeError):
                line.close()
        return text_of(output), text_of(said)
