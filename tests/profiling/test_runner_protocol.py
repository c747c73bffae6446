import ast
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.errors import CompressError, MachineError, ModelFileError
from compress.profiling import Device, Measurement, ProfileReport, local_runner, profile
from compress.profiling.device import devices
from compress.profiling.python_runner import RUNNER, measurements, runner_request, spread
from compress.profiling.reference import references, references_if_any
from compress.profiling.resolve import resolve
from compress.profiling.runner import rows_of
from compress.recipe import ProfileSettings

QUICK = ProfileSettings(blocks=6, runs=2, warmup=0)
EMPTY = '{"machine": {}, "runtime": "r", "processes": 1, "warmup": 1, "models": []}'


def save(path: Path, width=8, shape=("N", 3, 8, 8), op_type="Relu", ir_version=10, elem_type=TensorProto.FLOAT) -> Path:
    weight = numpy_helper.from_array(np.ones((width, 3, 3, 3), np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], name="conv"),
        helper.make_node(op_type, ["h"], ["y"], name="a"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", elem_type, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=ir_version)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return profile([save(folder / "a.onnx"), save(folder / "b.onnx", width=64)], QUICK)


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert "next: " in text
    return text


def test_a_report_a_model_in_order(reports):
    assert [Path(report.model).name for report in reports] == ["a.onnx", "b.onnx"]
    for report in reports:
        assert report.file_bytes == Path(report.model).stat().st_size
        assert len(report.model_sha256) == 64
        assert report.runtime.startswith("onnxruntime ")
        assert report.machine["architecture"]
        assert report.input_shapes == {"x": [1, 3, 8, 8]}
        assert len(report.block_minima) == QUICK.blocks
        assert 0 < report.minimum <= report.p50 <= report.p90 <= report.p99
        assert report.load_ms > 0
        assert 0 < report.runtime_rss_bytes < report.peak_rss_bytes


def test_only_the_first_has_no_ratio(reports):
    first, second = reports
    assert first.ratio is None
    assert first.compared_to is None
    assert second.compared_to == first.model_sha256
    paired = np.array(second.block_minima) / np.array(first.block_minima)
    assert second.ratio.ratio == pytest.approx(np.median(paired))
    assert second.ratio.low <= second.ratio.ratio <= second.ratio.high


def test_operator_rows_name_what_ran(reports):
    for report in reports:
        assert sum(row.share for row in report.operators) == pytest.approx(1, abs=1e-4)
        assert "Conv" in {row.operator for row in report.operators}
        assert [row.cost for row in report.operators] == sorted((row.cost for row in report.operators), reverse=True)


def test_a_report_survives_json(reports):
    for report in reports:
        assert ProfileReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report


@pytest.mark.parametrize("damage", [{"p50": "fast"}, {"operators": [{"node": 1}]}, {"ratio": {"ratio": 1.0}}])
def test_a_damaged_report_is_refused(reports, damage):
    with pytest.raises(ModelFileError, match=next(iter(damage))) as error:
        ProfileReport.from_dict(reports[0].to_dict() | damage)
    one_line(error)


def test_the_batch_is_as_asked(tmp_path):
    (report,) = profile([save(tmp_path / "m.onnx")], QUICK.model_copy(update={"batch_size": 3, "blocks": 1}))
    assert report.input_shapes == {"x": [3, 3, 8, 8]}


def test_nothing_to_profile():
    with pytest.raises(CompressError, match="nothing to profile") as error:
        profile([], QUICK)
    one_line(error)


def test_an_unknown_device_lists_the_known(tmp_path):
    with pytest.raises(CompressError, match=r"unknown device 'hots'.*did you mean 'host'.*known: ") as error:
        profile([save(tmp_path / "m.onnx")], QUICK.model_copy(update={"device": "hots"}))
    one_line(error)


def test_the_host_takes_no_address():
    with pytest.raises(CompressError, match="takes no address"):
        resolve("host:me")


@pytest.mark.parametrize(
    ("arguments", "batch_size", "expected"),
    [
        ({"ir_version": 99}, 1, "IR version 99, the device's onnxruntime takes at most"),
        ({"shape": (1, 3, 8, 8)}, 2, "batch axis is fixed, a batch of 2 does not fit"),
        ({"shape": ("N", 5, 8, 8)}, 1, "fails when it runs: .*C: 5 kernel channels: 3"),
        ({"shape": ("N", "C", 8, 8)}, 1, "fails when it runs"),
        ({"elem_type": TensorProto.STRING}, 1, "ONNX Runtime"),
        ({"op_type": "Frobnicate"}, 1, "Frobnicate"),
    ],
)
def test_the_model_that_cannot_be_measured_is_named(tmp_path, arguments, batch_size, expected):
    other = tmp_path / "other"
    other.mkdir()
    models = [save(other / "m.onnx"), save(tmp_path / "m.onnx", **arguments)]
    with pytest.raises(ModelFileError, match=expected) as error:
        profile(models, QUICK.model_copy(update={"batch_size": batch_size}))
    assert f"{models[1]} " in one_line(error)


def test_a_damaged_file_never_reaches_the_device(tmp_path):
    path = save(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ModelFileError, match="cut short") as error:
        profile([path], QUICK)
    one_line(error)


def test_strings_cannot_be_fed(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.STRING, ["N"])],
        [helper.make_tensor_value_info("y", TensorProto.STRING, ["N"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match=r"cannot be fed: input 'x' is a tensor\(string\)") as error:
        profile([tmp_path / "m.onnx"], QUICK)
    one_line(error)


def test_a_runner_that_dies_is_a_device_error(tmp_path, monkeypatch):
    monkeypatch.setattr("compress.profiling.local_runner.RUNNER", tmp_path / "absent.py")
    with pytest.raises(MachineError, match="measuring process ended with 2") as error:
        profile([save(tmp_path / "m.onnx")], QUICK)
    one_line(error)


def test_a_python_that_cannot_start_is_a_device_error(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "absent"))
    with pytest.raises(MachineError, match="cannot start") as error:
        profile([save(tmp_path / "m.onnx")], QUICK)
    one_line(error)


@pytest.mark.parametrize(
    "output",
    [
        "",
        "Segmentation fault",
        "[]",
        "{}",
        '{"machine": {}, "runtime": "r", "warmup": 1, "models": [{}]}',
        '{"error": {}}',
    ],
)
def test_an_answer_that_is_none_is_a_device_error(output):
    with pytest.raises(MachineError, match="answer cannot be read") as error:
        measurements(output, [Path("a.onnx")], "d", [])
    one_line(error)


def test_an_answer_for_too_few_models_is_a_device_error():
    with pytest.raises(MachineError, match="0 models measured"):
        measurements(EMPTY, [Path("a.onnx")], "d", [])


def test_noise_before_the_answer_is_ignored(tmp_path):
    assert measurements(f"hello\n{EMPTY}\n", [], "d", []) == []


def test_the_runner_imports_nothing_of_the_product():
    names = set()
    for node in ast.walk(ast.parse(RUNNER.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.partition(".")[0])
    assert names <= set(sys.stdlib_module_names) | {"numpy", "onnxruntime", "__future__"}


def test_operator_times_by_hand():
    def event(category, name, start, duration, operator=None):
        return {"cat": category, "name": name, "ts": start, "dur": duration, "args": {"op_name": operator}}

    events = [event("Session", "session_initialization", 0, 50)]
    for start, slow in ((100, 9000), (200, 30), (300, 50)):
        events += [
            event("Session", "model_run", start, 90),
            event("Node", "conv_kernel_time", start + 1, slow, "Conv"),
            event("Node", "conv_fence_before", start + 1, 1, "Conv"),
            event("Node", "relu_kernel_time", start + 60, 10, "Relu"),
            event("Node", "branch_kernel_time", start + 61, 500, "If"),
        ]
    assert rows_of(events, 2) == [
        {"node": "conv", "operator": "Conv", "us": 40.0, "share": 0.8},
        {"node": "relu", "operator": "Relu", "us": 10.0, "share": 0.2},
    ]
    assert rows_of([], 2) == []


def test_the_runner_works_alone_in_a_folder_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "runner.py").write_bytes(RUNNER.read_bytes())
    model = save(tmp_path / "m.onnx")
    request = runner_request([model.name], QUICK.model_copy(update={"blocks": 1}), loads=0)
    command = [sys.executable, "-B", "runner.py", json.dumps(request)]
    home = tmp_path / "home"
    home.mkdir()
    # Nothing else in the environment: the runtime keeps its log to itself where it believes to be in a CI.
    result = subprocess.run(command, cwd=tmp_path, env={"HOME": str(home)}, capture_output=True, text=True, check=True)
    assert not list(home.iterdir())
    (measured,) = measurements(result.stdout, [model], "d", references([model], QUICK))
    assert measured.processes == 1
    assert measured.parity == 0
    assert measured.notes == ()
    assert measured.load_ms is None
    assert measured.peak_rss_bytes is None
    assert [len(block) for block in measured.blocks] == [QUICK.runs]


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """A model, what the runner says of it, and what this machine expects."""
    model = save(tmp_path_factory.mktemp("answered") / "m.onnx")
    settings = QUICK.model_copy(update={"blocks": 2, "processes": 2, "details": False})
    answer = json.loads(local_runner.start(runner_request([str(model)], settings)))
    return model, answer, references([model], settings)


def test_outputs_come_back_and_are_compared(answered):
    model, answer, given = answered
    ((feed, expected),) = given
    (one,) = measurements(json.dumps(answer), [model], "d", given)
    assert (one.parity, one.notes) == (0.0, ())
    shifted = {name: array + 0.25 for name, array in expected.items()}
    (one,) = measurements(json.dumps(answer), [model], "d", [(feed, shifted)])
    assert one.parity == pytest.approx(0.25)


def test_why_outputs_were_not_compared_is_told(answered, tmp_path):
    model, answer, given = answered
    ((feed, expected),) = given

    def noted(given, **changes):
        changed = {**answer, "models": [{**answer["models"][0], **changes}]}
        (one,) = measurements(json.dumps(changed), [model], "d", given)
        assert one.parity is None
        (note,) = one.notes
        return note

    assert "NumPy over there draws other inputs" in noted([({"x": feed["x"] + 1}, expected)])
    assert "more than 262,144 numbers" in noted(given, outputs=None)
    assert "another shape" in noted([(feed, {"y": expected["y"][:, :1]})])
    assert "no output of numbers" in noted([(feed, {})])
    refused = references_if_any([save(tmp_path / "m.onnx", ir_version=99)], QUICK)
    assert "this machine's, which has none: model" in noted(refused)


def test_an_output_that_is_damaged_is_a_device_error(answered):
    model, answer, given = answered
    for damage in ({"base64": "AAAA"}, {"type": "O"}, {"shape": [3]}, {"base64": "é"}):
        sent = [{**answer["models"][0]["outputs"][0], **damage}]
        changed = {**answer, "models": [{**answer["models"][0], "outputs": sent}]}
        with pytest.raises(MachineError, match="answer cannot be read"):
            measurements(json.dumps(changed), [model], "d", given)


def test_more_numbers_than_asked_for_are_not_sent(answered):
    model, _, _ = answered
    settings = QUICK.model_copy(update={"blocks": 1, "details": False})
    request = {**runner_request([str(model)], settings), "most_numbers": 8 * 6 * 6 - 1}
    assert json.loads(local_runner.start(request))["models"][0]["outputs"] is None


@pytest.mark.parametrize(("blocks", "processes", "expected"), [(7, 3, [3, 2, 2]), (4, 9, [1, 1, 1, 1]), (5, 1, [5])])
def test_blocks_are_spread_over_processes(blocks, processes, expected):
    assert spread(ProfileSettings(blocks=blocks, processes=processes)) == expected


def test_every_process_measures_its_blocks(tmp_path):
    models = [save(tmp_path / "a.onnx"), save(tmp_path / "b.onnx", width=64, shape=(1, 3, 99, 99))]
    one, two = profile(models, QUICK.model_copy(update={"blocks": 7, "processes": 3, "details": False}))
    assert one.processes == two.processes == 3
    assert len(one.block_minima) == len(two.block_minima) == 7
    assert two.ratio.verdict == "no difference measured"  # of three processes nothing is concluded
    # It has a thousand times as much to do: no block of one is among those of the other, whose turn ever it was.
    assert min(two.block_minima) > max(one.block_minima)


def test_who_ends_the_runner_ends_what_it_started(tmp_path):
    model = save(tmp_path / "m.onnx", shape=(1, 3, 256, 256), width=64)
    request = runner_request([str(model)], ProfileSettings(blocks=1000, runs=1000, processes=1, details=False))
    with subprocess.Popen([sys.executable, str(RUNNER), json.dumps(request)]) as runner:
        children = Path(f"/proc/{runner.pid}/task/{runner.pid}/children")
        while not (started := children.read_text().split()):
            time.sleep(0.05)
        runner.terminate()
        assert runner.wait(30) == 143
    assert not Path(f"/proc/{started[0]}").exists()


class Recorded(Device):
    """Gives fixed times, so that what the verb does with them can be computed by hand."""

    def facts(self):
        return {"architecture": "none"}

    def measure(self, models, settings):
        common = {
            "operators": (),
            "load_ms": None,
            "runtime_rss_bytes": None,
            "peak_rss_bytes": None,
            "input_shapes": {},
            "arena_bytes": None,
            "unit": "us",
            "kind": "measured",
            "processes": 8,
            "warmup": 1,
            "machine": {},
            "runtime": "r 1",
        }
        base = tuple((100.0 + block, 500.0) for block in range(8))
        return [Measurement(blocks=tuple((a * f, b) for a, b in base), **common) for f in (1.0, 0.5, 2.0, 1.0)]


def test_figures_by_hand(tmp_path, monkeypatch):
    monkeypatch.setitem(devices._entries, "recorded", Recorded)
    model = save(tmp_path / "m.onnx")
    reports = profile([model] * 4, QUICK.model_copy(update={"device": "recorded:x"}))
    assert [report.minimum for report in reports] == [100, 50, 200, 100]
    assert [report.ratio and report.ratio.ratio for report in reports] == [None, 0.5, 2.0, 1.0]
    assert [report.ratio and report.ratio.verdict for report in reports[1:]] == [
        "faster",
        "slower",
        "no difference measured",
    ]
    assert reports[0].p50 == (107 + 500) / 2


def test_one_interruption_is_not_the_operators():
    def event(start, name, duration):
        return {"cat": "Node", "ts": start, "name": f"{name}_kernel_time", "dur": duration, "args": {"op_name": "Conv"}}

    starts = range(0, 9000, 1000)
    events = [{"name": "model_run", "ts": start} for start in starts]
    for number, start in enumerate(starts):
        events += [event(start + 1, "a", 500 if number == 3 else 10), event(start + 600, "b", 20 + number % 2)]
    rows = {row["node"]: row["us"] for row in rows_of(events, runs=8)}
    assert rows["a"] == 10
    assert rows["b"] == pytest.approx(20.5)
