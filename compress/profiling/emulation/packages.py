"""QEMU and the ARM system libraries, by the distribution's own package client and from its own sources.

Nothing is installed: the client keeps a state of its own in the folder it is given, so that no root is needed and the
system's stays as it is. What it fetches is checked by the client against the distribution's signatures.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from compress.errors import MachineError
from compress.profiling.emulation.commands import ELSEWHERE, run

_GUEST = "arm64"
_GUEST_LIBRARIES = ("libc6", "libstdc++6", "libgcc-s1")
# Later releases build QEMU statically, without plugins: there the newest of these is taken, from the same archive.
_WITH_PLUGINS = {"debian": ("bookworm",), "ubuntu": ("jammy", "noble")}
_KEYS = {
    "debian": [Path(f"/usr/share/keyrings/debian-archive-keyring.{ending}") for ending in ("gpg", "pgp")],
    "ubuntu": [Path("/usr/share/keyrings/ubuntu-archive-keyring.gpg")],
}
_COMPONENTS = {"debian": "main", "ubuntu": "main universe"}
_CONFIGURATION = """\
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Log "{folder}/log";
{sources}
APT::Architecture "{host}";
APT::Architectures {{ "{host}"; "{guest}"; }};
APT::Sandbox::User "";
APT::Install-Recommends "false";
APT::Get::Assume-Yes "true";
APT::Update::Post-Invoke-Success "";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
"""


@dataclass(frozen=True)
class Distribution:
    """What the system says of itself.

    Attributes:
        name: ``debian``, ``ubuntu``, or what it is like.
        codename: of the release, e.g. ``bookworm``.
        host: its architecture, as packages name it.
    """

    name: str
    codename: str
    host: str


def distribution(os_release: Path = Path("/etc/os-release")) -> Distribution:
    """Returns which distribution this is.

    Raises:
        MachineError: if it is neither Debian nor Ubuntu nor derived from them, or its package client is not there.
    """
    here = platform.system()
    facts = _os_release(os_release) if here == "Linux" else {}
    family = [facts.get("ID", ""), *facts.get("ID_LIKE", "").split()]
    name = next((known for known in ("ubuntu", "debian") if known in family), None)
    if name is None or not all(map(shutil.which, ("apt-get", "dpkg", "dpkg-deb"))):
        raise MachineError(
            "the emulated ARM is set up by the package client of Debian or Ubuntu",
            got=facts.get("PRETTY_NAME") or here,
            next_step="run in a Debian container, " + ELSEWHERE,
        )
    codename = facts.get("UBUNTU_CODENAME") or facts.get("VERSION_CODENAME", "")
    host = run(["dpkg", "--print-architecture"], "asking for the architecture").strip()
    return Distribution(name, codename, host)


def fetch(system: Distribution, folder: Path) -> list[Path]:
    """Downloads the packages and what they depend on.

    Args:
        system: where this runs.
        folder: absolute, for the client's state; nothing else is written.

    Returns:
        package files, of both architectures.

    Raises:
        MachineError: if the sources cannot be reached or do not have them.
    """
    for part in ("state/lists/partial", "cache/archives/partial", "log", "parts"):
        (folder / part).mkdir(parents=True)
    (folder / "status").touch()
    configuration = folder / "apt.conf"
    values = {"folder": folder, "sources": _sources(system, folder), "host": system.host, "guest": _GUEST}
    configuration.write_text(_CONFIGURATION.format(**values), encoding="utf-8")
    client = {"APT_CONFIG": str(configuration), "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-q"], "reading the package lists", environment=client)
    wanted = ["qemu-user", *(f"{name}:{_GUEST}" for name in _GUEST_LIBRARIES)]
    run(["apt-get", "install", "-q", "--download-only", *wanted], "fetching packages", environment=client)
    return sorted((folder / "cache/archives").glob("*.deb"))


def unpack(packages: list[Path], system: Distribution, host: Path, guest: Path) -> None:
    """Unpacks packages into the folder of their architecture.

    Raises:
        MachineError: if one is damaged.
    """
    for root in (host, guest):
        # Libraries stand in lib or in usr/lib, as the release has it: one folder for both.
        (root / "usr/lib").mkdir(parents=True)
        (root / "lib").symlink_to("usr/lib")
        (root / "usr/lib64").mkdir()
        (root / "lib64").symlink_to("usr/lib64")
    for package in packages:
        guests = package.name.endswith(f"_{_GUEST}.deb")
        for root in {guest if guests else host, host if package.name.endswith(f"_{system.host}.deb") else guest}:
            run(["dpkg-deb", "--extract", package, root], f"unpacking {package.name}")
    for root in (host, guest):
        for link in [path for path in root.rglob("*") if path.is_symlink() and path.readlink().is_absolute()]:
            # What a package calls the system's is this folder's.
            inside = root / link.readlink().relative_to("/")
            link.unlink()
            link.symlink_to(os.path.relpath(inside, link.parent))


def _sources(system: Distribution, folder: Path) -> str:
    """Returns where packages come from: the system's own sources where they will do.

    Raises:
        MachineError: if the distribution's keys are not there to check other sources with.
    """
    serving = _WITH_PLUGINS[system.name]
    split = system.name == "ubuntu" and system.host != _GUEST
    if system.codename in serving and not split:
        return ""
    release = system.codename if system.codename in serving else serving[-1]
    keys = next((path for path in _KEYS[system.name] if path.is_file()), None)
    if keys is None:
        raise MachineError(
            f"{_KEYS[system.name][0]} is not there to check packages with",
            next_step=f"install {system.name}-{'archive-' if system.name == 'debian' else ''}keyring, or {ELSEWHERE}",
        )
    lines = []
    for architecture in dict.fromkeys((system.host, _GUEST)):
        if system.name == "debian":
            servers = {
                "http://deb.debian.org/debian": ("", "-updates"),
                "http://deb.debian.org/debian-security": ("-security",),
            }
        elif architecture in ("amd64", "i386"):
            servers = {"http://archive.ubuntu.com/ubuntu": ("", "-updates", "-security")}
        else:
            servers = {"http://ports.ubuntu.com/ubuntu-ports": ("", "-updates", "-security")}
        lines += [
            f"deb [arch={architecture} signed-by={keys}] {server} {release}{pocket} {_COMPONENTS[system.name]}\n"
            for server, pockets in servers.items()
            for pocket in pockets
        ]
    (folder / "sources.list").write_text("".join(lines), encoding="utf-8")
    return f'Dir::Etc::sourcelist "{folder}/sources.list";\nDir::Etc::sourceparts "{folder}/parts";'


def _os_release(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    return {key: value.strip("\"'") for key, value in re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE)}
