"""The emulated ARM, for real: what is set up runs the aarch64 runtime, and what it counts can be relied upon.

Where the set-up is impossible the tests that need it are left out, unless COMPRESS_REQUIRE_ARM says that they may not.
"""

import fcntl
import json
import os
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.errors import CompressError, MachineError, ModelFileError
from compress.profiling import ProfileReport, profile, tables
from compress.profiling.emulation import packages, setup
from compress.profiling.emulation.cores import CORES
from compress.profiling.emulation.packages import Distribution, distribution
from compress.profiling.emulation.place import MARKER, PLUGIN, find
from compress.profiling.resolve import resolve
from compress.profiling.tensors import pack, unpack
from compress.profiling.trial import try_device
from compress.quantize import quantize
from compress.recipe import ProfileSettings, QuantizeSettings

WIDTHS = range(4, 44, 4)
CORE_NAMES = ("cortex-a53", "cortex-a76")
REPEATABLE = 1e-3


@pytest.fixture(scope="module")
def place():
    """The set-up, made if there is none."""
    try:
        return setup.ensure(lambda _: None)
    except MachineError as error:
        if os.environ.get("COMPRESS_REQUIRE_ARM"):
            raise
        pytest.skip(f"the emulated ARM cannot be set up here: {error}")


def save(path: Path, width: int, op_type="Relu") -> Path:
    """Two 3×3 convolutions of `width` channels on 12×12 pixels, and a classifier."""
    generator = np.random.default_rng(width)
    shapes = {"a": (width, 3, 3, 3), "b": (width, width, 3, 3), "c": (width, 10)}
    weights = [
        numpy_helper.from_array((generator.standard_normal(shape) / 9).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["h"], "first", pads=[1, 1, 1, 1]),
        helper.make_node(op_type, ["h"], ["i"], "rectified"),
        helper.make_node("Conv", ["i", "b"], ["j"], "second", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["j"], ["k"], "pool"),
        helper.make_node("Flatten", ["k"], ["l"], "flat"),
        helper.make_node("MatMul", ["l", "c"], ["y"], "classes"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """One network in ten widths, in float32 and in int8."""
    folder = tmp_path_factory.mktemp("widths")
    floats = [save(folder / f"{width}.onnx", width) for width in WIDTHS]
    images = np.random.default_rng(0).standard_normal((8, 3, 12, 12)).astype(np.float32)
    integers = []
    for path in floats:
        integers.append(path.with_suffix(".int8.onnx"))
        quantize(path, integers[-1], QuantizeSettings(format="int8", samples=8), [image[None] for image in images])
    return {"fp32": floats, "int8": integers}


@pytest.fixture(scope="module")
def counted(place, networks, tmp_path_factory):
    """Every network on each core; counted once, however many workers run these tests."""
    here = tmp_path_factory.getbasetemp()
    kept = (here.parent if os.environ.get("PYTEST_XDIST_WORKER") else here) / "counted.json"
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            models = [*networks["fp32"], *networks["int8"]]
            found = {core: [r.to_dict() for r in profile(models, settings(core))] for core in CORE_NAMES}
            kept.write_text(json.dumps(found))
    read = json.loads(kept.read_text())
    return {core: [ProfileReport.from_dict(report) for report in reports] for core, reports in read.items()}


def settings(core="cortex-a53", **others) -> ProfileSettings:
    return ProfileSettings(device=f"arm-emu:{core}", **others)


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert "next: " in text
    return text


def part(reports, kind):
    return reports[: len(WIDTHS)] if kind == "fp32" else reports[len(WIDTHS) :]


def saturates() -> bool:
    """Tells whether this machine's int8 kernels add pairs of products in 16 bits, as x86 without VNNI does."""
    information = Path("/proc/cpuinfo").read_text() if platform.machine() == "x86_64" else "vnni"
    return "vnni" not in information


@pytest.mark.parametrize("core", CORE_NAMES)
@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_outputs_are_those_of_this_machine(counted, core, kind):
    if kind == "int8" and saturates():
        pytest.skip("sums of this machine's int8 kernels saturate: ARM's are right and differ")
    assert max(report.parity for report in part(counted[core], kind)) <= 1e-5


@pytest.mark.parametrize("core", CORE_NAMES)
def test_two_runs_count_the_same(counted, networks, core):
    firsts = [part(counted[core], kind)[-1] for kind in networks]
    seconds = profile([networks[kind][-1] for kind in networks], settings(core))
    for first, second in zip(firsts, seconds, strict=True):
        assert first.minimum == pytest.approx(second.minimum, rel=REPEATABLE)


def test_a_count_does_not_depend_on_where_the_file_stands(networks, tmp_path):
    model = networks["int8"][-1]
    elsewhere = tmp_path / "some, other folder" / model.name
    elsewhere.parent.mkdir()
    shutil.copy(model, elsewhere)
    here, there = profile([model, elsewhere], settings("cortex-a76"))
    assert here.minimum == there.minimum


def test_without_details_no_operators_are_counted(networks):
    quick = settings("cortex-a53").model_copy(update={"details": False})
    (report,) = profile([networks["fp32"][0]], quick)
    assert report.minimum > 0
    assert not report.operators


@pytest.mark.parametrize("core", CORE_NAMES)
@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_counts_rank_the_widths(counted, core, kind):
    counts = [report.minimum for report in part(counted[core], kind)]
    assert counts == sorted(counts)
    assert len(set(counts)) == len(counts)


def test_the_core_chooses_the_kernels(counted):
    small, large = (part(counted[core], "int8")[-1].minimum for core in CORE_NAMES)
    assert large < 0.8 * small  # dot products


def test_operators_add_up_to_the_inference(counted):
    for report in counted["cortex-a53"]:
        assert sum(row.cost for row in report.operators) == pytest.approx(report.minimum, rel=1e-3)
        assert sum(row.share for row in report.operators) == pytest.approx(1, abs=1e-4)
        assert min(row.cost for row in report.operators) >= 0
    report = part(counted["cortex-a53"], "fp32")[-1]
    assert report.operators[0].node == "second"


def test_no_time_is_ever_told(counted):
    report = counted["cortex-a53"][0]
    assert (report.kind, report.unit) == ("counted", "instructions")
    assert report.load_ms is None
    assert report.peak_rss_bytes is None
    shown = tables.markdown([report], [tables.models([report]), tables.operators(report, 9)])
    assert "µs" not in shown
    assert " ms" not in shown
    assert "no time" in shown


def test_a_set_up_is_made_once(place):
    told = []
    assert setup.ensure(told.append) == place
    assert told == []
    assert try_device("arm-emu").passed
    assert resolve("arm-emu").device.missing() is None


def test_what_was_set_up_is_whole(place):
    assert place.damaged() is None
    assert resolve("arm-emu:cortex-a72").device.facts()["state"] == "ready"
    links = [path for path in place.folder.rglob("*") if path.is_symlink()]
    assert all(path.resolve().is_relative_to(place.folder) for path in links)


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"no model", "is refused by ONNX Runtime|not an ONNX|cannot be read|damaged"), (None, "Frobnicate")],
)
def test_a_model_that_cannot_run_is_named(place, tmp_path, content, expected):
    path = save(tmp_path / "bad.onnx", 4, op_type="Frobnicate")
    if content:
        path.write_bytes(content)
    with pytest.raises(ModelFileError, match=expected) as error:
        profile([save(tmp_path / "good.onnx", 4), path], settings())
    assert "bad.onnx" in one_line(error)


def test_threads_cannot_be_counted(tmp_path):
    with pytest.raises(CompressError, match="counts one thread; got 2") as error:
        profile([save(tmp_path / "m.onnx", 4)], settings(threads=2))
    one_line(error)


def test_unknown_cores_are_refused():
    with pytest.raises(CompressError, match="no core 'cortex-m4' can be emulated") as error:
        resolve("arm-emu:cortex-m4")
    one_line(error)


# Without the network: what becomes of a set-up that fails.


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(packages, "distribution", lambda: Distribution("debian", "bookworm", "amd64"))
    return tmp_path / "compress/arm-emu"


def test_a_set_up_that_fails_leaves_nothing(empty_cache, monkeypatch):
    (empty_cache / ".partial-killed").mkdir(parents=True)

    def offline(system, folder):
        assert folder.is_relative_to(empty_cache)
        (folder / "half").write_text("half")
        raise MachineError("fetching packages: no network", next_step="check the network")

    monkeypatch.setattr(packages, "fetch", offline)
    with pytest.raises(MachineError, match="no network"):
        setup.ensure(lambda _: None)
    assert [path.name for path in empty_cache.iterdir()] == ["lock"]
    assert find() is None


def test_a_folder_without_its_marker_is_no_set_up(empty_cache, monkeypatch):
    from compress.profiling.emulation.place import folder_of_this_version

    folder = folder_of_this_version()
    folder.mkdir(parents=True)
    (folder / PLUGIN).write_bytes(b"")
    assert find() is None
    (folder / MARKER).write_text("{")
    assert find() is None
    (folder / MARKER).write_text('{"sha256": {"runner": "0"}}')
    assert find() is None
    (folder / MARKER).write_text('{"sha256": {"instructions.so": "0"}}')
    assert find().damaged() == str(folder / PLUGIN)


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(packages, "distribution", lambda: Distribution("debian", "bookworm", "amd64"))
    with pytest.raises(MachineError, match="setting up the emulated ARM") as error:
        setup.ensure(lambda _: None)
    one_line(error)


def test_other_systems_are_told_what_to_do(tmp_path):
    release = tmp_path / "os-release"
    release.write_text('ID=fedora\nPRETTY_NAME="Fedora Linux 43"\n')
    with pytest.raises(MachineError, match=r"Debian or Ubuntu; got Fedora Linux 43.*estimate") as error:
        distribution(release)
    one_line(error)


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (("debian", "bookworm", "amd64"), []),
        (("debian", "trixie", "amd64"), ["[arch=arm64 signed-by=KEYS] http://deb.debian.org/debian bookworm main"]),
        (("ubuntu", "jammy", "amd64"), ["http://ports.ubuntu.com/ubuntu-ports jammy main universe", "=amd64"]),
        (("ubuntu", "questing", "arm64"), ["http://ports.ubuntu.com/ubuntu-ports noble-updates main universe"]),
    ],
)
def test_packages_come_from_a_release_whose_emulator_can_count(tmp_path, monkeypatch, system, expected):
    keys = tmp_path / "keys.gpg"
    keys.touch()
    monkeypatch.setattr(packages, "_KEYS", {"debian": [tmp_path / "absent", keys], "ubuntu": [keys]})
    lines = packages._sources(Distribution(*system), tmp_path)
    listed = (tmp_path / "sources.list").read_text() if expected else ""
    assert all(part.replace("KEYS", str(keys)) in listed for part in expected)
    assert (str(tmp_path / "sources.list") in lines) == bool(expected)


def test_packages_that_cannot_be_checked_are_not_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "_KEYS", {"debian": [tmp_path / "absent.gpg"]})
    with pytest.raises(MachineError, match="is not there to check packages with") as error:
        packages._sources(Distribution("debian", "trixie", "amd64"), tmp_path)
    one_line(error)


def test_each_core_says_what_it_is():
    for core in CORES.values():
        assert f"CPU part\t: {core.part:#x}\n" in core.cpuinfo()


@pytest.mark.parametrize("api", [1, 2])
def test_the_plugin_compiles_for_both_interfaces(tmp_path, api):
    from compress.profiling.emulation.compilers import Compilers

    try:
        Compilers(tmp_path).plugin(tmp_path / "plugin.so", api)
    except MachineError as error:
        pytest.skip(str(error))
    symbols = (tmp_path / "plugin.so").read_bytes()
    assert (b"qemu_plugin_scoreboard_new" in symbols) == (api == 2)


# Arrays in files.


def test_arrays_survive_their_file():
    generator = np.random.default_rng(0)
    arrays = {
        "f": generator.standard_normal((2, 3)).astype(np.float32),
        "é": np.array(True),
        "empty": np.zeros((0, 4), np.int64),
        "half": np.ones((1, 2), np.float16),
    }
    found = unpack(pack(arrays))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("cut", [1, 5, 12, 30, 50])
def test_a_file_that_is_cut_short(cut):
    with pytest.raises(ValueError, match=r"."):
        unpack(pack({"name": np.ones((2, 3), np.float32)})[:cut])


def test_the_runner_tells_how_it_is_used(tmp_path):
    from compress.profiling.emulation.compilers import SOURCES

    compiled = (
        subprocess.run(
            [
                "cc",
                "-std=gnu17",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-o",
                tmp_path / "runner",
                SOURCES / "runner.c",
                "-ldl",
            ],
            check=False,
            capture_output=True,
            text=True,
        )
        if any((Path(folder) / "cc").exists() for folder in os.get_exec_path())
        else None
    )
    if compiled is None:
        pytest.skip("no compiler")
    assert compiled.returncode == 0, compiled.stderr
    said = subprocess.run([tmp_path / "runner"], check=False, capture_output=True, text=True)
    assert (said.returncode, said.stderr.startswith("usage: runner LIBRARY")) == (2, True)
