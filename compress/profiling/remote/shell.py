"""What a remote shell is: a local command that runs a script over there, with its standard streams.

Whatever carries bytes both ways and hands on end-of-file can be one: `ssh`, `adb`.
"""

from __future__ import annotations

import shlex
import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import IO

from compress.errors import MachineError


@dataclass(frozen=True)
class Shell(ABC):
    """A way to run POSIX shell scripts on a target.

    Attributes:
        device: the device's name, for messages.
        folder: where files may be put on the target; None for its own choice of a temporary folder.
    """

    device: str
    folder: str | None

    @abstractmethod
    def argv(self, script: str) -> list[str]:
        """Returns the local command that runs `script` over there."""

    def start(self, script: str, output: IO[bytes], said: IO[bytes]) -> subprocess.Popen[bytes]:
        """Starts a script over there; its standard input is a pipe.

        Args:
            script: for a POSIX shell.
            output: takes its standard output.
            said: takes its standard error, and the local command's.

        Raises:
            MachineError: if the local command is not there.
        """
        try:
            return subprocess.Popen(self.argv(script), stdin=subprocess.PIPE, stdout=output, stderr=said)
        except OSError as error:
            raise MachineError(
                f"device {self.device!r}: {error.filename} cannot be started ({error.strerror})",
                next_step="install it and see that it is on the PATH",
            ) from error

    @abstractmethod
    def refusal(self, said: str) -> MachineError:
        """Returns the error for a shell that did not run the script to its end.

        Args:
            said: what the local command wrote on its standard error.
        """

    @property
    def place(self) -> str:
        """The target's folder for temporary files, as a word of a shell script."""
        return word(self.folder) if self.folder else '"${TMPDIR:-/tmp}"'


def word(path: str) -> str:
    """Returns a path over there as a word of a shell script; ``~/`` is the home over there."""
    home, rest = ("~/", path[2:]) if path.startswith("~/") else ("", path)
    return home + shlex.quote(rest)


def last_line(text: str) -> str:
    """Returns the last line that says something, or `no answer`."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no answer"


def text_of(stream: IO[bytes]) -> str:
    """Returns all that a stream holds; tools over there may speak in any encoding, the answers are ASCII."""
    stream.seek(0)
    return stream.read().decode(errors="replace")
