"""A real OpenSSH server on loopback: throwaway keys, an unprivileged port, everything in one folder."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from compress.profiling.remote.ssh import SshShell


@dataclass
class Sshd:
    """One server and what a client needs for it."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def target(self) -> str:
        return f"{getpass.getuser()}@127.0.0.1"

    @property
    def config(self) -> Path:
        return self.folder / "client"

    @property
    def place(self) -> Path:
        """Where visitors put their files."""
        return self.folder / "place"

    def shell(self, **changes) -> SshShell:
        given = {
            "device": "board",
            "folder": str(self.place),
            "target": self.target,
            "port": self.port,
            "config": str(self.config),
        }
        return SshShell(**{**given, **changes})

    def end_sessions(self) -> None:
        """Kills what serves the connections, as a board that loses its network or its server does."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in children:
            for grandchild in Path(f"/proc/{child}/task/{child}/children").read_text().split():
                if Path(f"/proc/{grandchild}/comm").read_text().startswith("sshd"):
                    os.kill(int(grandchild), signal.SIGKILL)
            os.kill(int(child), signal.SIGKILL)

    def leftovers(self, patience_s: float = 20) -> list[str]:
        """Returns what is still in the visitors' place once it had time to be cleared."""
        end = time.monotonic() + patience_s
        while (names := [entry.name for entry in self.place.iterdir()]) and time.monotonic() < end:
            time.sleep(0.05)
        return names


def start(folder: Path) -> Sshd:
    server = shutil.which("sshd") or "/usr/sbin/sshd"
    if os.geteuid() == 0:
        # Root's sshd insists on this empty folder.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    (folder / "place").mkdir()
    port = free_port()
    host_key = " ".join((folder / "host.pub").read_text().split()[:2])
    (folder / "known").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    (folder / "server").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nPidFile none\n"
    )
    (folder / "client").write_text(
        f"Host *\n    IdentityFile {folder}/user\n    IdentitiesOnly yes\n    UserKnownHostsFile {folder}/known\n"
        "    GlobalKnownHostsFile none\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([server, "-D", "-e", "-f", folder / "server"], stderr=log, stdout=log)
    end = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return Sshd(folder, port, process)
        except OSError:
            if time.monotonic() > end or process.poll() is not None:
                raise RuntimeError(f"sshd does not answer: {(folder / 'log').read_text()}") from None
            time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
