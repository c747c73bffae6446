"""OpenSSH's client as a shell: its own configuration, keys, agents and jump hosts hold."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from compress.errors import MachineError
from compress.profiling.remote.shell import Shell, last_line

# What the client says, what that means, and what helps.
_REASONS = (
    (
        "identification has changed",
        "its host key is not the known one",
        "make sure that it is the same board, then `{forget}`",
    ),
    (
        "host key verification failed",
        "its host key is not known here",
        "log in once by hand, `{login}`, and compare its fingerprint",
    ),
    (
        "permission denied",
        "the login is refused",
        "put a key there, `{copy_key}`; passwords are never asked for",
    ),
    ("could not resolve hostname", "there is no such host", "check the name, or write its number"),
    ("connection refused", "nothing listens there", "start sshd on the board, or give its port, ssh://user@host:port"),
    ("no route to host", "there is no way to it", "check that it is switched on and on this network"),
    ("timed out", "it does not answer", "check that it is switched on and on this network"),
    ("unprotected private key", "the key's file may be read by others", "chmod 600 the key's file"),
)


@dataclass(frozen=True)
class SshShell(Shell):
    """A login by OpenSSH.

    Attributes:
        target: `user@host` or `host`.
        port: None for the client's own choice.
        config: a configuration file instead of the user's own.
    """

    target: str
    port: int | None = None
    config: str | None = None

    def argv(self, script: str) -> list[str]:
        """See `Shell.argv`."""
        options = {
            # A question would wait for ever.
            "BatchMode": "yes",
            "ConnectTimeout": "10",
            # A dead line is noticed after a quarter of a minute.
            "ServerAliveInterval": "5",
            "ServerAliveCountMax": "3",
            "StrictHostKeyChecking": "yes",
        }
        command = ["ssh", "-T"]
        for name, value in options.items():
            command += ["-o", f"{name}={value}"]
        # The login shell over there may be any.
        return [*command, *self._where, "--", self.target, f"exec sh -c {shlex.quote(script)}"]

    def by_hand(self, program: str) -> str:
        """Returns the command that a user can give for the same target: ``ssh``, ``ssh-copy-id``."""
        return shlex.join([program, *self._where, self.target])

    def refusal(self, said: str) -> MachineError:
        """See `Shell.refusal`."""
        commands = {
            "login": self.by_hand("ssh"),
            "copy_key": self.by_hand("ssh-copy-id"),
            "forget": self._forget(said),
        }
        at = f"{self.target}:{self.port}" if self.port else self.target
        for sign, reason, help_ in _REASONS:
            if sign in said.lower():
                return MachineError(f"device {self.device!r}: {reason} ({at})", next_step=help_.format_map(commands))
        return MachineError(
            f"device {self.device!r}: the connection to {at} was lost ({last_line(said)})",
            next_step=f"check that `{commands['login']} true` works, and run it again",
        )

    @property
    def _where(self) -> list[str]:
        """The options that say where, as OpenSSH's programs for a login share them."""
        return [*(["-p", str(self.port)] if self.port else []), *(["-F", self.config] if self.config else [])]

    def _forget(self, said: str) -> str:
        """Returns the command that forgets a host key: under the name, in the file, that the client speaks of."""
        host = self.target.rpartition("@")[2]
        name = re.search(r"Host key for (\S+) has changed", said)
        file = re.search(r"Offending .*key in (.+):\d+", said)
        known = name[1] if name else f"[{host}]:{self.port}" if self.port else host
        return shlex.join(["ssh-keygen", *(["-f", file[1]] if file else []), "-R", known])
