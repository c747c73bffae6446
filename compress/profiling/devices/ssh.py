"""A machine that OpenSSH's client can log in to."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from compress.errors import CompressError, MachineError
from compress.profiling.device import devices
from compress.profiling.remote.ssh import SshShell
from compress.profiling.remote.target import Target

_ADDRESS = re.compile(r"(?P<target>([\w.-]+@)?(\w[\w.-]*|\[[0-9a-fA-F:.%\w]+\]))(:(?P<port>\d{1,5}))?", re.ASCII)


@devices.register("ssh")
class Ssh(Target):
    """A board or server that you can log in to: ssh://user@host:port.

    User and port are the client's own configuration's where they are left out.

    Args:
        arguments: as of `Device`.

    Raises:
        CompressError: if the address or an option will not do.
        MachineError: if the configuration file cannot be read.
    """

    OPTIONS: ClassVar[Mapping[str, str]] = {
        **Target.OPTIONS,
        "config": "a file for `ssh -F` instead of the user's own configuration",
    }

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        match = _ADDRESS.fullmatch(self.address)
        if match is None:
            raise CompressError(
                "device 'ssh' needs a host", got=self.address, allowed="user@host:port", next_step="ssh://pi@board:22"
            )
        self._shell = SshShell(
            device=self.label or f"ssh://{self.address}",
            folder=self.folder,
            target=match["target"].replace("[", "").replace("]", ""),
            port=int(match["port"]) if match["port"] else None,
            config=self._config(),
        )

    @property
    def shell(self) -> SshShell:
        """How it is reached."""
        return self._shell

    def _config(self) -> str | None:
        config = self.text("config")
        # The client's own word for no file at all.
        if config is None or config == "none":
            return config
        path = Path(config).expanduser()
        if path.is_dir() or not os.access(path, os.R_OK):
            raise MachineError(
                "device option config",
                got=f"{path}, which {'cannot be read' if path.exists() else 'does not exist'}",
                allowed="a file that `ssh -F` reads",
                next_step="name the file, or leave config out for your own ~/.ssh/config",
            )
        return str(path)
