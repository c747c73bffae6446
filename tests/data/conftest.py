"""No test here sees a data set of the machine, unless it asks for one."""

import os

import pytest

REAL_ROOT = os.environ.get("COMPRESS_DATA")


@pytest.fixture(autouse=True)
def _no_data_in_sight(tmp_path, monkeypatch):
    monkeypatch.delenv("COMPRESS_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def real_root(monkeypatch):
    """The folder of real data sets that COMPRESS_DATA named at the start."""
    if not REAL_ROOT:
        pytest.skip("COMPRESS_DATA is not set")
    monkeypatch.setenv("COMPRESS_DATA", REAL_ROOT)
    return REAL_ROOT
