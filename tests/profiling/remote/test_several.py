"""Several boards at once, by name, from the command line."""

from __future__ import annotations

import json
import sys
import threading

import pytest
from typer.testing import CliRunner

from compress.cli.app import app
from compress.errors import MachineError
from compress.onnx_io.file import write_model
from compress.profiling import profile_on
from compress.profiling.remote import target
from compress.profiling.trial_model import small_model
from compress.recipe import ProfileSettings


@pytest.fixture
def project(sshd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    write_model(small_model(), tmp_path / "m.onnx")
    rest = f'python = "{sys.executable}", folder = "{sshd.place}", config = "{sshd.config}"'
    address = f"ssh://{sshd.target}:{sshd.port}"
    (tmp_path / "devices.toml").write_text(
        f'desk = {{ at = "{address}", {rest} }}\nshelf = {{ at = "{address}", {rest} }}\n'
        f'gone = {{ at = "ssh://{sshd.target}:1", {rest} }}\n'
    )
    return tmp_path


def test_boards_are_measured_at_once_and_one_that_is_gone_spoils_nothing(project, monkeypatch):
    # Neither visit ends before both have begun.
    both = threading.Barrier(2, timeout=60)
    visit = target.visit

    def meeting(*arguments):
        both.wait()
        return visit(*arguments)

    monkeypatch.setattr(target, "visit", meeting)
    models = [project / "m.onnx"]
    found = profile_on(["gone", "desk", "shelf"], models, ProfileSettings(blocks=6, runs=1, warmup=0))
    assert list(found) == ["gone", "desk", "shelf"]
    assert isinstance(found["gone"], MachineError)
    assert [found[name][0].device for name in ("desk", "shelf")] == ["desk", "shelf"]


def test_the_command_shows_what_there_is_and_fails_for_what_is_not(project):
    quick = ["--blocks", "6", "--runs", "1", "--warmup", "0"]
    result = CliRunner().invoke(app, ["profile", "m.onnx", "--device", "desk", "--device", "gone", "--json", *quick])
    assert isinstance(result.exception, MachineError)
    assert "nothing listens there" in str(result.exception)
    (report,) = json.loads(result.stdout)
    assert report["device"] == "desk"
    assert (project / "export" / "m" / "desk" / "profile.json").is_file()


def test_a_board_tells_what_it_is(project):
    result = CliRunner().invoke(app, ["devices", "show", "desk", "--json"])
    facts = json.loads(result.stdout)
    assert {"architecture", "governor", "temperature_c", "python", "runtime"} <= set(facts)
