import hashlib
import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.check import accept, check, measure
from compress.check.metrics import Metrics
from compress.check.output import github_annotations, junit, markdown
from compress.coding.verb import packed_model
from compress.errors import ModelFileError, RecipeError
from compress.profiling import keep, profile
from compress.recipe import Budget, ProfileSettings

# Conv 3→4, 3×3, padded, on 8×8, then Relu and Gemm: parameters 108 + 4 + 512 + 2, MACs 64·4·27 + 256·2.
PARAMETERS, MACS, PEAK = 626, 7424, 4 * (3 * 64 + 4 * 64)


def save(path: Path, extra_nodes=(), width=4) -> Path:
    rng = np.random.default_rng(0)
    arrays = {
        "w1": rng.normal(size=(width, 3, 3, 3)),
        "b1": np.zeros(width),
        "w2": rng.normal(size=(width * 64, 2)),
        "b2": np.zeros(2),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Flatten", ["r"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w2", "b2"], ["y"], name="gemm"),
        *extra_nodes,
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", 18), *(helper.make_opsetid(node.domain, 1) for node in extra_nodes)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
    return path


def save_metrics(model: Path, **changes) -> None:
    metrics = {
        "model_sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "accuracy": {"before": 91.2, "after": 90.7},
        "latency_ratio": {"host": {"ratio": 0.5, "low": 0.49, "high": 0.51}},
    }
    model.with_name("metrics.json").write_text(json.dumps(metrics | changes))


@pytest.fixture
def model(tmp_path):
    path = save(tmp_path / "export" / "tiny" / "model.onnx")
    save_metrics(path)
    return path


def exact(model: Path) -> dict:
    """The tightest budget that the model keeps."""
    return {
        "file_bytes": model.stat().st_size,
        "packed_bytes": len(packed_model(model).data),
        "parameters": PARAMETERS,
        "macs": MACS,
        "accuracy": 90.7,
        "accuracy_drop": 0.5,
        "latency_ratio": {"host": 0.51},
        "peak_activation_bytes": PEAK,
        "operators": ["Conv", "Flatten", "Gemm", "Relu"],
    }


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert "next: " in text
    return text


def test_the_tightest_budget_is_kept(model):
    result = check(model, Budget(**exact(model)))
    assert [row.name for row in result.rows if not row.passed] == []
    assert len(result.rows) == len(Budget.model_fields)
    assert result.exit_code == 0
    assert github_annotations(result) == ""


@pytest.mark.parametrize(
    ("key", "tighter", "name"),
    [
        ("file_bytes", lambda limit: limit - 1, "file_bytes"),
        ("packed_bytes", lambda limit: limit - 1, "packed_bytes"),
        ("parameters", lambda limit: limit - 1, "parameters"),
        ("macs", lambda limit: limit - 1, "macs"),
        ("accuracy", lambda limit: limit + 0.01, "accuracy"),
        ("accuracy_drop", lambda limit: limit - 0.01, "accuracy_drop"),
        ("latency_ratio", lambda _: {"host": 0.509}, "latency_ratio.host"),
        ("peak_activation_bytes", lambda limit: limit - 1, "peak_activation_bytes"),
        ("operators", lambda known: known[1:], "operators"),
    ],
)
def test_each_line_tightened_by_one_fails_alone_and_is_named(model, key, tighter, name):
    limits = exact(model)
    assert set(limits) == set(Budget.model_fields)
    limits[key] = tighter(limits[key])
    result = check(model, Budget(**limits))
    assert [row.name for row in result.violations] == [name]
    assert result.exit_code == 1
    assert f"%3A {name}::" in github_annotations(result)


@pytest.mark.parametrize(
    ("key", "how"),
    [
        ("accuracy", "compress run, with its recipe"),
        ("accuracy_drop", "compress run, with its recipe"),
        ("latency_ratio", "compress profile ORIGINAL.onnx {model}"),
    ],
)
def test_a_limit_without_its_figure_has_failed(model, key, how):
    model.with_name("metrics.json").unlink()
    (row,) = check(model, Budget(**{key: exact(model)[key]})).rows
    assert not row.passed
    assert row.measured is None
    assert row.note == f"no metrics.json beside the model; next: {how.format(model=model)}"


def test_a_metric_that_is_absent_is_named(model):
    save_metrics(model, accuracy=None)
    result = check(model, Budget(accuracy=1, latency_ratio={"host": 0.6, "arm": 0.6}))
    assert [row.name for row in result.violations] == ["accuracy", "latency_ratio.arm"]
    assert result.violations[0].note == "no accuracy in metrics.json"
    expected = f"no latency on 'arm' in metrics.json; next: compress profile ORIGINAL.onnx {model} --device arm"
    assert result.violations[1].note == expected


def test_metrics_of_another_model_count_for_nothing(model):
    save_metrics(model, model_sha256="0" * 64)
    result = check(model, Budget(accuracy=1, file_bytes=10**6))
    assert [row.name for row in result.violations] == ["metrics.json", "accuracy"]
    assert all("belongs to another model" in row.note for row in result.violations)


@pytest.mark.parametrize(
    "change",
    [
        {"model_sha256": "abc"},
        {"accuracy": {"before": 91}},
        {"accuracy": {"before": 91, "after": float("nan")}},
        {"accuracy": {"before": 91, "after": 1000}},
        {"latency_ratio": {"host": {"ratio": 0.5, "low": 0.4}}},
        {"latency_ratio": {"host": {"ratio": 0.5, "low": 0.4, "high": float("inf")}}},
        {"latency_ratio": [0.5]},
    ],
)
def test_malformed_metrics_are_an_error(model, change):
    save_metrics(model, **change)
    with pytest.raises(ModelFileError, match=next(iter(change))) as error:
        check(model, Budget(accuracy=1))
    assert "metrics.json" in one_line(error)


@pytest.mark.parametrize("name", ["metrics.json", "baseline.json"])
@pytest.mark.parametrize("content", ["{", "[]", "\xff"])
def test_a_file_that_is_no_json_object_is_an_error(model, name, content):
    model.with_name(name).write_text(content, encoding="latin-1")
    with pytest.raises(ModelFileError, match=name) as error:
        check(model, Budget(accuracy=1))
    one_line(error)


@pytest.mark.parametrize("figure", ["file_bytes", "parameters", "macs"])
def test_growing_by_one_against_the_baseline_fails(model, figure):
    baseline = measure(model).baseline()
    model.with_name("baseline.json").write_text(json.dumps(baseline))
    assert check(model, Budget(file_bytes=10**6)).passed
    model.with_name("baseline.json").write_text(json.dumps(baseline | {figure: baseline[figure] - 1}))
    (row,) = check(model, Budget(file_bytes=10**6)).violations
    assert row.name == f"{figure} against baseline"
    assert row.before == baseline[figure] - 1
    assert row.note == "grew by 1; `compress check --accept` takes it as it is"


def test_a_folder_is_walked_for_every_budget(tmp_path, model):
    other = save(tmp_path / "export" / "wide" / "model.onnx", width=5)
    hidden = save(tmp_path / "export" / ".cache" / "model.onnx")
    for file, limit in ((model, PARAMETERS), (other, PARAMETERS), (hidden, 1)):
        file.with_name("budget.toml").write_text(f"parameters = {limit}\n")
    result = check(tmp_path / "export")
    assert [(Path(row.model).parent.name, row.passed) for row in result.rows] == [("tiny", True), ("wide", False)]
    for place in (model, model.parent):
        assert check(place).passed
    assert not check(other.parent).passed


def test_a_model_of_another_name_is_found(model):
    renamed = model.rename(model.with_name("net.onnx"))
    model.with_name("budget.toml").write_text("parameters = 626\n")
    assert check(model.parent).rows[0].model == str(renamed)
    save(model.with_name("second.onnx"))
    with pytest.raises(ModelFileError, match=r"holds several models; got \['net.onnx', 'second.onnx'\]") as error:
        check(model.parent)
    one_line(error)


def test_a_model_that_is_not_committed_asks_for_a_run(model):
    model.with_name("budget.toml").write_text("parameters = 626\n")
    model.with_name("baseline.json").write_text("{}")
    model.unlink()
    for place in (model.parent.parent, model.parent, model):
        with pytest.raises(ModelFileError, match=r"model.onnx does not exist; next: run `compress run`"):
            check(place)


def test_a_budget_that_is_absent_or_limits_nothing_is_an_error(model):
    size, target = model.stat().st_size, model.with_name("budget.toml")
    for place, words in ((model.parent.parent, "in "), (model.parent, "in "), (model, "beside ")):
        with pytest.raises(RecipeError, match="no budget.toml " + words) as error:
            check(place)
        assert f"next: make one, e.g. `echo 'file_bytes = {size}' > {target}`, or name one with --budget" in one_line(
            error
        )
    # It does what it says.
    subprocess.run(["sh", "-c", str(error.value).split("`")[1]], check=True)
    assert check(model).passed
    model.with_name("budget.toml").write_text("")
    with pytest.raises(RecipeError, match="limits nothing; allowed: file_bytes, ") as error:
        check(model)
    one_line(error)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("file_byte = 3", "write 'file_bytes'"), ("file_bytes = 0", "file_bytes"), ("file_bytes = ", "not valid TOML")],
)
def test_a_malformed_budget_is_an_error(model, text, expected):
    model.with_name("budget.toml").write_text(text)
    with pytest.raises(RecipeError, match=expected) as error:
        check(model)
    one_line(error)


def test_a_missing_folder_and_a_damaged_model_are_errors(tmp_path, model):
    with pytest.raises(ModelFileError, match="does not exist") as error:
        check(tmp_path / "no")
    one_line(error)
    model.write_bytes(model.read_bytes()[:-50])
    # The model comes first: it needs no budget to be no model.
    for budget in (Budget(macs=1), None):
        with pytest.raises(ModelFileError, match="cut short") as error:
            check(model, budget)
        one_line(error)
    for name in ("text.onnx", "text"):
        (tmp_path / name).write_text("no model\n")
        with pytest.raises(ModelFileError, match=r"text.* no ONNX file at all") as error:
            check(tmp_path / name)
        one_line(error)
    with pytest.raises(ModelFileError, match=r"no.onnx does not exist; next: .* or check the path"):
        check(tmp_path / "no.onnx")


def test_one_budget_holds_for_every_model_below(tmp_path, model):
    save(tmp_path / "export" / "wide" / "model.onnx", width=5)
    for name in ("a.onnx", "b.onnx"):
        save(tmp_path / "export" / "others" / name)
    # What lies beside the one that is called so are not deployed.
    save(model.with_name("before.onnx"))
    save(tmp_path / "export" / ".cache" / "model.onnx")
    model.with_name("budget.toml").write_text("parameters = 1\n")
    result = check(tmp_path / "export", Budget(parameters=PARAMETERS))
    found = [(str(Path(row.model).relative_to(tmp_path / "export")), row.passed) for row in result.rows]
    assert found == [
        ("others/a.onnx", True),
        ("others/b.onnx", True),
        ("tiny/model.onnx", True),
        ("wide/model.onnx", False),
    ]
    assert "::error file=limits.toml,title" in github_annotations(result, Path("limits.toml"))
    assert [path.parent.name for path in accept(tmp_path / "export" / "wide", every=True)] == ["wide"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelFileError, match="no ONNX file in") as error:
        check(tmp_path / "empty", Budget(parameters=1))
    one_line(error)


def save_profile(path: Path, model: Path, **changes) -> None:
    profile = {
        "model_sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "kind": "measured",
        "ratio": {"ratio": 0.6, "low": 0.59, "high": 0.61, "verdict": "faster"},
        "compared_to": "ab" * 32,
        "p50": 1.0,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(profile | changes))


@pytest.mark.parametrize(
    "place", ["export/tiny/host", "elsewhere/export/tiny/host", "elsewhere/export/tiny-{sha}/host"]
)
def test_a_kept_profile_of_this_very_file_says_its_latency(tmp_path, model, monkeypatch, place):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    model.with_name("metrics.json").unlink()
    kept = tmp_path / place.format(sha=hashlib.sha256(model.read_bytes()).hexdigest()[:8]) / "profile.json"
    save_profile(kept, model)
    (row,) = check(model, Budget(latency_ratio={"host": 0.61})).rows
    assert (row.passed, row.measured) == (True, 0.61)
    assert row.note.startswith("ratio 0.600, 95 % within 0.590…0.610 (")
    assert row.note.endswith("host/profile.json, over SHA-256 abababab…)")
    assert not check(model, Budget(latency_ratio={"host": 0.6})).passed
    # What its run measured comes first.
    save_metrics(model)
    assert check(model, Budget(latency_ratio={"host": 0.6})).rows[0].measured == 0.51


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model_sha256": "0" * 64}, "is of another file"),
        ({"kind": "counted"}, "is counted, not measured"),
        ({"kind": "estimated"}, "is estimated, not measured"),
        ({"ratio": None, "compared_to": None}, "is compared to nothing"),
    ],
)
def test_another_kept_profile_counts_for_nothing(model, changes, why):
    model.with_name("metrics.json").unlink()
    kept = model.parent / "shelf-1" / "profile.json"
    save_profile(kept, model, **changes)
    (row,) = check(model, Budget(latency_ratio={"shelf:1": 0.9})).rows
    assert (row.passed, row.measured) == (False, None)
    how = f"next: compress profile ORIGINAL.onnx {model} --device shelf:1"
    assert row.note == f"no metrics.json beside the model, and {kept} {why}; {how}"
    kept.write_text('{"kind": "measured"}')
    with pytest.raises(ModelFileError, match="model_sha256: Field required; next: profile again") as error:
        check(model, Budget(latency_ratio={"shelf:1": 0.9}))
    one_line(error)


def test_what_profile_keeps_is_what_check_reads(tmp_path, model, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model.with_name("metrics.json").unlink()
    small = Path(shutil.copy(model, tmp_path / "small.onnx"))
    reports = profile([save(tmp_path / "o.onnx", width=5), model, small], ProfileSettings(blocks=2, runs=1, warmup=0))
    keep(reports, Path("export"))
    for file in (model, small):
        (row,) = check(file, Budget(latency_ratio={"host": 1000})).rows
        assert row.passed
        assert "profile.json, over SHA-256 " in row.note


def test_what_cannot_be_counted_fails_its_limit(tmp_path):
    odd = helper.make_node("Twist", ["r"], ["t"], name="odd", domain="my")
    path = save(tmp_path / "model.onnx", [odd])
    result = check(path, Budget(macs=10**9, peak_activation_bytes=10**9, operators=["Conv", "Flatten", "Gemm", "Relu"]))
    assert [row.name for row in result.violations] == ["macs", "operators"]
    assert result.violations[0].note == "uncounted: my.Twist 'odd': no rule"
    assert result.violations[1].note == "not allowed: my.Twist"
    read = save(tmp_path / "read.onnx", [odd, helper.make_node("Relu", ["t"], ["z"])])
    (row,) = check(read, Budget(peak_activation_bytes=10**9)).rows
    assert (row.passed, row.measured, row.note) == (False, None, "the size of an activation is unknown")


def test_outputs_say_the_same(model):
    result = check(model, Budget(**exact(model) | {"macs": MACS - 1, "latency_ratio": {"host": 0.1}}))
    table = markdown(result)
    assert "2 of 9 limits exceeded" in table
    assert "| macs | – | 7,424 | 7,423 | ✗ |" in table
    root = ET.fromstring(junit(result))
    assert (root.get("tests"), root.get("failures")) == ("9", "2")
    failed = [case.get("name") for case in root.iter("testcase") if case.find("failure") is not None]
    assert failed == ["macs", "latency_ratio.host"]
    first, second = github_annotations(result).splitlines()
    assert first == (
        f"::error file={model.with_name('budget.toml')},title=budget%3A macs::{model}: macs, is 7,424, allowed 7,423"
    )
    assert "95 %25 within 0.490…0.510" in second
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert plain["passed"] is False
    assert [row["name"] for row in plain["rows"] if not row["passed"]] == failed
    assert "all limits kept" in markdown(check(model, Budget(macs=MACS)))


def test_facts_of_a_model_in_memory():
    weight = numpy_helper.from_array(np.ones((3, 2), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [weight],
    )
    in_memory = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    facts = measure(in_memory, {"model_sha256": "0" * 64})
    assert (facts.parameters, facts.macs, facts.peak_activation_bytes) == (6, 6, 20)
    assert facts.file_bytes == len(in_memory.SerializeToString())
    assert facts.metrics == Metrics(model_sha256="0" * 64)
    with pytest.raises(ModelFileError, match="model_sha256"):
        measure(in_memory, {})


def test_checking_loads_neither_a_runtime_nor_torch(model):
    model.with_name("budget.toml").write_text("parameters = 626\n")
    code = (
        "import sys, pathlib; from compress.check import check; from compress.check.output import markdown;"
        "markdown(check(pathlib.Path(sys.argv[1])));"
        "print([name for name in ('onnxruntime', 'torch', 'sklearn', 'matplotlib') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code, str(model)], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_accepting_a_model_makes_it_the_baseline_that_later_ones_must_not_exceed(model):
    model.with_name("budget.toml").write_text("file_bytes = 10_000_000")
    (written,) = accept(model.parent)
    assert written == model.with_name("baseline.json")
    assert json.loads(written.read_text()) == measure(model).baseline()
    assert all(row.passed for row in check(model.parent).rows if row.name.endswith("against baseline"))
