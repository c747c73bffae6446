"""A folder that a board needs nothing else for: run for real, for this machine and for an emulated ARM."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.errors import CompressError, MachineError, ModelFileError
from compress.profiling.bundle import bundle, compare
from compress.profiling.emulation.cores import CORES
from compress.profiling.emulation.qemu import qemu_command
from compress.profiling.emulation.setup import ensure
from compress.profiling.tensors import unpack


@pytest.fixture
def model(tmp_path) -> Path:
    weight = numpy_helper.from_array(np.linspace(-1, 1, 216, dtype=np.float32).reshape(8, 3, 3, 3), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 3, 16, 16))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    path = tmp_path / "it's a model" / "net.onnx"
    (path.parent / "weights").mkdir(parents=True)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(made, path, save_as_external_data=True, location="weights/w.bin", size_threshold=0)
    return path


def outputs(folder: Path, name: str) -> np.ndarray:
    return unpack((folder / name).read_bytes())["y"]


def test_it_runs_with_an_empty_environment_wherever_it_is_put(model, tmp_path):
    made = bundle(model, platform.machine(), tmp_path / "made", lambda _: None)
    moved = tmp_path / "else where"
    shutil.move(made.folder, moved)
    shutil.rmtree(model.parent)
    home = tmp_path / "home"
    home.mkdir()
    result = subprocess.run(
        [moved / "run.sh", "1", "3", "2"],
        env={"PATH": "/usr/bin:/bin", "HOME": str(home)},
        capture_output=True,
        check=True,
    )
    assert not list(home.iterdir())
    answer = json.loads(result.stdout)
    assert np.array(answer["models"][0]["blocks"]).shape == (3, 2)
    np.testing.assert_allclose(outputs(moved, "outputs.bin"), outputs(moved, "expected.bin"), atol=1e-6)
    assert np.abs(outputs(moved, "expected.bin")).max() > 0.1
    manifest = json.loads((moved / "manifest.json").read_text())
    for name, digest in manifest["sha256"].items():
        assert hashlib.sha256((moved / name).read_bytes()).hexdigest() == digest
    assert {"net.onnx", "weights/w.bin", "run.sh", "lib/runner", "README.txt"} <= set(manifest["sha256"])
    # What the bundle says of itself is so.
    text = (moved / "README.txt").read_text()
    assert f"net.onnx, ready to run on {platform.machine()} with onnxruntime " in text
    assert all(name in text for name in answer["models"][0])
    (command,) = re.findall(r"python (-c '.*')", text)
    said = subprocess.run(
        [sys.executable, *shlex.split(command)], cwd=moved, capture_output=True, text=True, check=True
    ).stdout
    assert re.fullmatch(r"outputs differ by \d\.\de[-+]\d\d at most\n", said)
    content = (moved / "outputs.bin").read_bytes()
    (moved / "outputs.bin").write_bytes(content[:-4] + np.float32(np.inf).tobytes())
    assert "infinities" in compare(moved)
    for damaged in (content[:-1], b"", None):
        (moved / "outputs.bin").write_bytes(damaged) if damaged is not None else (moved / "outputs.bin").unlink()
        with pytest.raises(ModelFileError, match=r"outputs\.bin.*next: "):
            compare(moved)


def test_for_arm_it_runs_on_an_emulated_one(model, tmp_path):
    try:
        place = ensure(lambda _: None)
    except MachineError as error:
        if os.environ.get("COMPRESS_REQUIRE_ARM"):
            raise
        pytest.skip(f"the emulated ARM cannot be set up here: {error}")
    made = bundle(model, "aarch64", tmp_path / "made", lambda _: None)
    # The set-up's own file system stays out of it, but for what its kernel would say: what the bundle holds must do.
    root = tmp_path / "root"
    (root / "proc").mkdir(parents=True)
    shutil.copy(place.sysroot(CORES["cortex-a76"]) / "proc/cpuinfo", root / "proc")
    line = (made.folder / "run.sh").read_text().splitlines()[-1].removeprefix("exec ")
    line = line.replace('"${1:-1}" 10 "${2:-20}" "${3:-10}"', "1 0 1 1")
    emulator = shlex.join([*qemu_command(place.folder), "-cpu", "cortex-a76", "-L", str(root)])
    result = subprocess.run(
        f"{emulator} {line}", shell=True, cwd=made.folder, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(outputs(made.folder, "outputs.bin"), outputs(made.folder, "expected.bin"), atol=1e-5)


def test_what_will_not_do_is_told_and_leaves_nothing(model, tmp_path):
    with pytest.raises(CompressError, match=r"no bundle can be made for 'mips'.*allowed: aarch64"):
        bundle(model, "mips", tmp_path / "made", lambda _: None)
    with pytest.raises(ModelFileError, match="nowhere"):
        bundle(tmp_path / "nowhere.onnx", "aarch64", tmp_path / "made", lambda _: None)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    with pytest.raises(CompressError, match="holds something already"):
        bundle(model, "aarch64", tmp_path / "full", lambda _: None)
    assert not (tmp_path / "made").exists()
    assert not list(tmp_path.glob(".partial-*"))
