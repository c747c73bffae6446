from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from sshd import Sshd, start


@pytest.fixture(scope="session")
def _server(tmp_path_factory):
    if not (shutil.which("sshd") or Path("/usr/sbin/sshd").exists()):
        if os.environ.get("COMPRESS_REQUIRE_SSHD"):
            pytest.fail("there is no sshd: install openssh-server")
        pytest.skip("there is no sshd: install openssh-server")
    sshd = start(tmp_path_factory.mktemp("sshd"))
    yield sshd
    sshd.process.kill()
    sshd.process.wait()


@pytest.fixture
def sshd(_server: Sshd):
    """A server whose place for visitors is empty, before and after."""
    assert not list(_server.place.iterdir())
    yield _server
    assert _server.leftovers() == [], "a visit left something behind"
