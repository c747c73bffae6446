"""Files go over a real sshd, a command runs, its answer comes back, and whatever happens nothing stays."""

from __future__ import annotations

import dataclasses
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from compress.errors import MachineError
from compress.profiling.remote.probe import probe, read
from compress.profiling.remote.visit import visit


def running(token: str) -> list[str]:
    """Returns the processes whose command line holds a token."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if token.encode() in entry.read_bytes():
                found.append(entry.parent.name)
        except OSError:
            continue
    return found


def gone(token: str, patience_s: float = 20) -> bool:
    end = time.monotonic() + patience_s
    while running(token):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_files_go_and_the_answer_comes(sshd, tmp_path):
    data = bytes(range(256)) * 8192
    (tmp_path / "local").write_bytes(data)
    answer = visit(
        sshd.shell(), {"a/big": tmp_path / "local", "b": b"small"}, "sha256sum a/big; cat b; echo no >&2", 20
    )
    digest = subprocess.run(["sha256sum", tmp_path / "local"], capture_output=True, text=True, check=True).stdout
    assert answer.code == 0
    assert answer.output == f"{digest.split()[0]}  a/big\nsmall"
    assert answer.said.strip() == "no"


def test_a_failing_command_is_told_with_its_last_words(sshd):
    answer = visit(sshd.shell(), {}, "echo reason >&2; exit 9", 20)
    assert (answer.code, answer.output, answer.said.strip()) == (9, "", "reason")


def test_quotes_and_odd_names_arrive_as_they_are(sshd):
    answer = visit(sshd.shell(), {"it's $HOME": b"x"}, """cat "it's "'$HOME'; printf '%s' '"$(id)"'""", 20)
    assert answer.output == 'x"$(id)"'


def test_a_hung_command_is_ended_at_its_limit(sshd):
    with pytest.raises(MachineError, match="no result within 1 s"):
        visit(sshd.shell(), {}, "exec sleep 987601", 1)
    assert gone("987601")


def test_a_command_that_ignores_the_end_is_killed(sshd):
    with pytest.raises(MachineError, match="no result within 1 s"):
        visit(sshd.shell(), {}, "trap '' TERM; while :; do sleep 987602; done", 1)
    assert gone("987602")


def test_a_server_killed_during_a_run_leaves_nothing(sshd):
    failure: list[BaseException] = []

    def call():
        try:
            visit(sshd.shell(), {"a": b"x" * 100_000}, "exec sleep 987603", 60)
        except MachineError as error:
            failure.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    while not running("sleep\0987603"):
        time.sleep(0.02)
    sshd.end_sessions()
    caller.join(30)
    assert "was lost" in str(failure[0])
    assert gone("987603")
    assert sshd.leftovers() == []


def test_a_client_killed_during_a_run_leaves_nothing(sshd):
    shell = sshd.shell()
    code = (
        "from compress.profiling.remote.ssh import SshShell\n"
        "from compress.profiling.remote.visit import visit\n"
        f"visit(SshShell(**{dataclasses.asdict(shell)!r}), {{'a': b'x'}}, 'exec sleep 987604', 60)\n"
    )
    client = subprocess.Popen([sys.executable, "-c", code])
    while not running("sleep\0987604"):
        time.sleep(0.02)
    client.kill()
    client.wait()
    assert gone("exec sleep 987604")
    assert sshd.leftovers() == []


def test_a_full_disk_is_told(sshd, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", full]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no small file system can be mounted here")
    try:
        with pytest.raises(MachineError, match=r"cannot be unpacked there .*free space there"):
            visit(sshd.shell(folder=str(full)), {"a": b"x" * 200_000}, "true", 20)
        assert not list(full.iterdir())
    finally:
        subprocess.run(["umount", full], check=True)


def test_a_folder_that_is_not_there_is_told(sshd):
    with pytest.raises(MachineError, match=r"no folder can be made.*folder = "):
        visit(sshd.shell(folder="/nowhere at all"), {}, "true", 20)


def test_an_unknown_host_key_is_refused(sshd, tmp_path):
    config = tmp_path / "client"
    config.write_text(sshd.config.read_text().replace(str(sshd.folder / "known"), str(tmp_path / "none")))
    with pytest.raises(MachineError, match="host key is not known here") as error:
        visit(sshd.shell(config=str(config)), {}, "true", 20)
    assert f"`ssh -p {sshd.port} -F {config} {sshd.target}`" in str(error.value)


def test_a_changed_host_key_is_refused(sshd, tmp_path):
    config = tmp_path / "client"
    config.write_text(sshd.config.read_text().replace(str(sshd.folder / "known"), str(tmp_path / "other")))
    user_key = " ".join((sshd.folder / "user.pub").read_text().split()[:2])
    (tmp_path / "other").write_text(f"[127.0.0.1]:{sshd.port} {user_key}\n")
    with pytest.raises(MachineError, match="host key is not the known one") as error:
        visit(sshd.shell(config=str(config)), {}, "true", 20)
    # The command that is told really makes the client forget.
    subprocess.run(shlex.split(str(error.value).split("`")[1]), check=True, capture_output=True)
    with pytest.raises(MachineError, match="host key is not known here"):
        visit(sshd.shell(config=str(config)), {}, "true", 20)


def test_a_refused_login_is_told(sshd, tmp_path):
    config = tmp_path / "client"
    config.write_text(sshd.config.read_text().replace(str(sshd.folder / "user"), str(sshd.folder / "host")))
    with pytest.raises(MachineError, match="login is refused") as error:
        visit(sshd.shell(config=str(config)), {}, "true", 20)
    assert f"`ssh-copy-id -p {sshd.port} -F {config} {sshd.target}`" in str(error.value)


def test_the_command_that_is_told_for_a_lost_connection_works(sshd):
    refusal = str(sshd.shell(config="with space/cfg").refusal("bye"))
    assert f"`ssh -p {sshd.port} -F 'with space/cfg' {sshd.target} true`" in refusal
    command = str(sshd.shell().refusal("bye")).split("`")[1]
    subprocess.run(shlex.split(command), check=True, capture_output=True)


def test_nobody_listens(sshd):
    with pytest.raises(MachineError, match="nothing listens there"):
        visit(sshd.shell(port=1), {}, "true", 20)


def test_an_unknown_host(sshd):
    with pytest.raises(MachineError, match="there is no such host"):
        visit(sshd.shell(target="nobody@board.invalid"), {}, "true", 20)


def test_no_client(sshd, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MachineError, match="ssh cannot be started"):
        visit(sshd.shell(), {}, "true", 20)


def test_a_probe_tells_what_is_there(sshd):
    found = probe(sshd.shell(), sys.executable)
    import platform

    import onnxruntime

    assert found.architecture == platform.machine()
    assert found.python == platform.python_version()
    assert found.onnxruntime == onnxruntime.__version__
    assert len(found.cores) >= 1
    assert found.room_bytes
    assert {"tar", "head", "timeout", "mktemp"} <= found.tools


def test_a_probe_without_python(sshd):
    found = probe(sshd.shell(), "/nowhere/python3")
    assert found.python is None
    assert found.onnxruntime is None


def test_the_fastest_cores_come_first():
    answer = "Welcome!\narchitecture=aarch64\n" + "".join(
        f"core={i}:{1800000 if i < 4 else 2400000}:ondemand\n" for i in range(6)
    )
    found = read(answer + "temperature=51000\ntemperature=\ntemperature=48500\n")
    assert found.fastest(1) == (5,)
    assert found.fastest(3) == (3, 4, 5)
    assert found.temperature_c == 51.0
    assert found.facts()["governor"] == "ondemand"
