"""One finished tiny run, made once and copied for each test."""

import shutil
from pathlib import Path

import pytest
from tiny_project import Project, write_project

from compress.pipeline import run


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Two folders: where the run was made, and a copy of it that stays as it is."""
    place = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(write_project(place / "made"))
        patch.delenv("COMPRESS_DATA", raising=False)
        run(Path("recipe.toml"))
    shutil.copytree(place / "made", place / "saved")
    return place


@pytest.fixture
def project(finished, monkeypatch):
    """The finished run, at the place where it was made, as it was when it had just ended."""
    shutil.rmtree(finished / "made")
    shutil.copytree(finished / "saved", finished / "made")
    monkeypatch.chdir(finished / "made")
    monkeypatch.delenv("COMPRESS_DATA", raising=False)
    return Project(finished / "made")


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """The same project, with nothing run yet."""
    monkeypatch.chdir(write_project(tmp_path / "fresh"))
    monkeypatch.delenv("COMPRESS_DATA", raising=False)
    return Project(tmp_path / "fresh")
