"""Devices behind a shell, over a real sshd: what they measure, and what they say when they cannot."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.errors import CompressError, MachineError, ModelFileError
from compress.profiling.devices.adb import Adb
from compress.profiling.devices.ssh import Ssh
from compress.profiling.remote import target
from compress.profiling.remote.probe import probe
from compress.recipe import ProfileSettings

QUICK = ProfileSettings(blocks=6, runs=2, warmup=0)


def save(path: Path, width: int, external: bool = False, side: int = 16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    weight = numpy_helper.from_array(np.ones((width, 3, 3, 3), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], name="conv")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 3, side, side))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    location = {"save_as_external_data": True, "location": "weights/w.bin", "size_threshold": 0} if external else {}
    if external:
        (path.parent / "weights").mkdir()
    onnx.save(model, path, **location)
    return path


@pytest.fixture
def options(sshd):
    return {"python": sys.executable, "folder": str(sshd.place), "config": str(sshd.config)}


def device(sshd, options, **changes) -> Ssh:
    return Ssh(f"{sshd.target}:{sshd.port}", {**options, **changes})


def test_models_are_measured_over_there(sshd, options, tmp_path):
    # The same file name twice, and weights outside the file.
    models = [save(tmp_path / "a" / "m.onnx", 4, side=8), save(tmp_path / "b" / "m.onnx", 64, external=True)]
    small, large = device(sshd, options).measure(models, QUICK)
    assert small.unit == large.unit == "us"
    assert len(large.blocks) == QUICK.blocks
    assert "Conv" in {row.operator for row in large.operators}
    assert [one.input_shapes["x"][2] for one in (small, large)] == [8, 16]
    assert small.machine["architecture"] == os.uname().machine
    assert {"governor", "temperature_c", "pinned_cores"} <= set(small.machine)
    assert (small.parity, large.parity) == (0, 0)
    assert small.load_ms > 0


def test_facts_are_asked(sshd, options):
    assert device(sshd, options).facts()["architecture"] == os.uname().machine


def test_without_python_a_runner_goes_along(sshd, options, tmp_path):
    models = [save(tmp_path / "a" / "m.onnx", 4, side=8), save(tmp_path / "b" / "m.onnx", 64, external=True, side=99)]
    told: list[str] = []
    board = Ssh(f"{sshd.target}:{sshd.port}", {**options, "python": "/nowhere/python3"}, told.append)
    small, large = board.measure(models, QUICK)
    assert "there is no /nowhere/python3: a runner and its libraries go along" in told[0]
    assert small.unit == large.unit == "us"
    assert [len(block) for block in large.blocks] == [QUICK.runs] * QUICK.blocks
    assert "Conv" in {row.operator for row in large.operators}
    assert sum(row.share for row in large.operators) == pytest.approx(1, abs=1e-3)
    assert [one.input_shapes["x"][2] for one in (small, large)] == [8, 99]
    # A thousand times as much to do: no block of one is among those of the other, whose turn ever it was.
    assert min(map(min, large.blocks)) > max(map(min, small.blocks))
    assert small.runtime == f"onnxruntime {onnxruntime.__version__}"
    assert small.notes == ()
    assert small.parity <= 1e-6
    # 64 · 97 · 97 numbers are too many to be sent back.
    assert large.parity is None
    assert "not sent to be compared: more than 262,144 numbers" in large.notes[0]


def test_what_a_runner_that_went_along_computes_is_compared(sshd, options, tmp_path, monkeypatch):
    models = [save(tmp_path / "a" / "m.onnx", 4, side=8), save(tmp_path / "b" / "m.onnx", 8)]

    def shifted(*arguments):
        return [
            (feed, {"y": expected["y"] + by}) for (feed, expected), by in zip(made(*arguments), (0, 1), strict=True)
        ]

    made = target.references
    monkeypatch.setattr(target, "references", shifted)
    monkeypatch.setattr(target, "few", lambda expected: expected["y"].shape[1] == 8)
    quick = QUICK.model_copy(update={"details": False})
    one, other = device(sshd, options, runner="bundle").measure(models, quick)
    assert one.parity is None
    assert "not sent to be compared" in one.notes[0]
    assert other.parity == pytest.approx(1, abs=1e-5)


def test_what_a_runner_that_went_along_refuses_is_told(sshd, options, tmp_path):
    broken = save(tmp_path / "m.onnx", 4)
    model = onnx.load(broken)
    model.graph.node[0].op_type = "Sin"
    broken.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match=r"model .* is refused by ONNX Runtime"):
        device(sshd, options, runner="bundle").measure([broken], QUICK)


def test_an_architecture_without_a_bundle_is_told(sshd, options, tmp_path, monkeypatch):
    (tmp_path / "uname").write_text("#!/bin/sh\necho riscv64\n")
    (tmp_path / "uname").chmod(0o755)
    # What the server's sessions find first.
    (sshd.folder / "environment").write_text("")
    found = dataclasses.replace(probe(sshd.shell(), sys.executable), architecture="riscv64")
    monkeypatch.setattr("compress.profiling.remote.target.probe", lambda *_: found)
    with pytest.raises(CompressError, match=r"no bundle can be made for 'riscv64'.*allowed: aarch64"):
        device(sshd, options, runner="bundle").measure([save(tmp_path / "m.onnx", 4)], QUICK)


def test_no_python(sshd, options, tmp_path):
    with pytest.raises(MachineError, match=r"there is no /nowhere/python3.*next: install Python 3 there"):
        device(sshd, options, python="/nowhere/python3", runner="python").measure([save(tmp_path / "m.onnx", 4)], QUICK)


@pytest.fixture
def bare(tmp_path) -> str:
    """A Python without packages."""
    script = tmp_path / "python3"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    script.chmod(0o755)
    return str(script)


def test_without_onnxruntime_a_runner_goes_along(sshd, options, bare, tmp_path):
    told: list[str] = []
    board = Ssh(f"{sshd.target}:{sshd.port}", {**options, "python": bare}, told.append, "pi")
    (found,) = board.measure([save(tmp_path / "m.onnx", 4)], QUICK)
    assert told[0] == f"device 'pi': {bare} there has no onnxruntime: a runner and its libraries go along"
    assert found.runtime == f"onnxruntime {onnxruntime.__version__}"


def test_no_onnxruntime(sshd, options, bare, tmp_path):
    with pytest.raises(MachineError, match=r"cannot import onnxruntime .*next: run `.* -m venv ~/onnxruntime &&"):
        device(sshd, options, python=bare, runner="python").measure([save(tmp_path / "m.onnx", 4)], QUICK)


def test_a_home_over_there_is_found(sshd, options, tmp_path):
    # As the advice for a Python without onnxruntime has it: `~` means the home of whoever logs in.
    home = Path.home() / f".compress-test-{os.getpid()}"
    home.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    home.chmod(0o755)
    try:
        board = device(sshd, options, python=f"~/{home.name}", runner="python")
        (found,) = board.measure([save(tmp_path / "m.onnx", 4)], QUICK)
    finally:
        home.unlink()
    assert found.runtime == f"onnxruntime {onnxruntime.__version__}"


def test_a_hung_runner(sshd, options, tmp_path):
    hung = tmp_path / "python3"
    hung.write_text(f'#!/bin/sh\n[ "$1" = runner.py ] && exec sleep 987605\nexec {sys.executable} "$@"\n')
    hung.chmod(0o755)
    with pytest.raises(MachineError, match=r"no result within 1 s .*limit = 3600"):
        device(sshd, options, python=str(hung), limit=1).measure([save(tmp_path / "m.onnx", 4)], QUICK)


def test_a_runner_that_is_killed(sshd, options, tmp_path):
    killed = tmp_path / "python3"
    killed.write_text(f'#!/bin/sh\n[ "$1" = runner.py ] && kill -SEGV $$\nexec {sys.executable} "$@"\n')
    killed.chmod(0o755)
    with pytest.raises(MachineError, match=r"the runner ended with 139"):
        device(sshd, options, python=str(killed)).measure([save(tmp_path / "m.onnx", 4)], QUICK)


def test_the_cores_are_those_that_are_named(sshd, options, tmp_path):
    core = sorted(os.sched_getaffinity(0))[-1]
    (found,) = device(sshd, options, cores=str(core)).measure([save(tmp_path / "m.onnx", 4)], QUICK)
    assert found.machine["pinned_cores"] == str(core)
    assert found.machine["cores"] == 1


def test_cores_that_are_not_there_are_refused_with_those_that_are(sshd, options, tmp_path):
    there = ", ".join(str(core.index) for core in probe(sshd.shell(), sys.executable).cores)
    with pytest.raises(CompressError, match=rf"option cores; got 0-9999; allowed: {there}; next: ") as error:
        device(sshd, options, cores="0-9999").measure([save(tmp_path / "m.onnx", 4)], QUICK)
    assert "memory" not in str(error.value)


def test_a_configuration_that_is_not_there_is_told_before_anything_is_contacted(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MachineError, match=rf"option config; got {tmp_path}/cfg, which does not exist; .*; next: "):
        Ssh("board", {"config": f"{tmp_path}/cfg"})
    assert Ssh("board", {"config": "none"}).shell.config == "none"
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "cfg").touch()
    assert Ssh("board", {"config": "~/cfg"}).shell.config == f"{tmp_path}/cfg"


def test_errors_name_the_device_as_the_user_calls_it(options, tmp_path):
    board = Ssh("pi@127.0.0.1:1", options, None, "shelf")
    with pytest.raises(MachineError, match=r"device 'shelf': nothing listens there \(pi@127\.0\.0\.1:1\)"):
        board.facts()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("cores", "0;reboot", "numbers and ranges"),
        ("cores", 3, "must be a string"),
        ("cores", "7-4", "numbers and ranges"),
        ("python", "", "must be a string"),
        ("config", 1, "must be a string"),
        ("limit", 0, "1 or more"),
        ("limit", "5", "1 or more"),
        ("cors", "3", "no option 'cors'"),
    ],
)
def test_options_that_will_not_do(option, value, message):
    with pytest.raises(CompressError, match=rf"{message}.*; next: "):
        Ssh("board", {option: value})


@pytest.mark.parametrize("address", ["", "-oProxyCommand=id", "a b", "pi@", "pi@board:x", "pi@-board"])
def test_addresses_that_will_not_do(address):
    with pytest.raises(CompressError, match="needs a host"):
        Ssh(address)


@pytest.mark.parametrize(
    ("address", "target", "port"),
    [("board", "board", None), ("pi@board:2222", "pi@board", 2222), ("pi@[fe80::1]:22", "pi@fe80::1", 22)],
)
def test_addresses(address, target, port):
    shell = Ssh(address).shell
    assert (shell.target, shell.port) == (target, port)


@pytest.fixture
def bridge(tmp_path, monkeypatch):
    """A debug bridge that runs what it is given on this machine, and knows the serial `x1` alone."""
    script = tmp_path / "bin" / "adb"
    script.parent.mkdir()
    script.write_text(
        '#!/bin/sh\nif [ "$1" = -s ]; then\n'
        '    [ "$2" = x1 ] || { echo "adb: device \'$2\' not found" >&2; exit 1; }\n    shift 2\nfi\n'
        '[ "$1 $2" = "shell -T" ] || exit 2\nexec sh -c "$3"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    place = tmp_path / "place"
    place.mkdir()
    yield {"python": sys.executable, "folder": str(place)}
    assert list(place.iterdir()) == []


def test_android_is_measured_the_same_way(bridge, tmp_path):
    (found,) = Adb("x1", bridge).measure([save(tmp_path / "m.onnx", 4)], QUICK)
    assert len(found.blocks) == QUICK.blocks
    assert found.parity == 0


def test_an_unknown_serial(bridge, tmp_path):
    with pytest.raises(MachineError, match=r"no such Android device.*`adb devices`"):
        Adb("x2", bridge).measure([save(tmp_path / "m.onnx", 4)], QUICK)
