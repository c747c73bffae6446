import dataclasses
import json
from pathlib import Path

import pytest
from recorder import Recorder

from compress.errors import MachineError
from compress.pipeline import deploying, reporting
from compress.pipeline.advice import advice
from compress.pipeline.context import RunContext
from compress.pipeline.manifest import StageRecord
from compress.profiling import Device, Measurement, profile, read_kept
from compress.profiling.device import OperatorRow, devices
from compress.profiling.trial_model import small_model
from compress.recipe import Recipe, validate


class Counter(Device):
    """Counts half as many instructions for each further model."""

    def facts(self):
        return {"architecture": "aarch64"}

    def measure(self, models, settings):
        return [
            Measurement(
                unit="instructions",
                kind="counted",
                blocks=((1000.0 / 2**place,),),
                processes=1,
                warmup=1,
                operators=(OperatorRow("a", "Conv", 1000.0 / 2**place, 1.0),),
                load_ms=None,
                runtime_rss_bytes=None,
                peak_rss_bytes=None,
                arena_bytes=None,
                input_shapes={},
                machine={},
                runtime="r 1",
                notes=("no time",),
            )
            for place, _ in enumerate(models)
        ]


class Absent(Counter):
    """Is never there."""

    def measure(self, models, settings):
        raise MachineError("the board does not answer", next_step="switch it on")


@pytest.fixture
def context(tmp_path, monkeypatch):
    monkeypatch.setitem(devices._entries, "counter", Counter)
    monkeypatch.setitem(devices._entries, "absent", Absent)
    (tmp_path / "run").mkdir()
    for index, name in enumerate(("before", "rewritten", "deploy")):
        model = small_model()
        model.producer_version = str(min(index, 1))
        (tmp_path / f"run/{name}.onnx").write_bytes(model.SerializeToString())

    def of(**profile):
        table = {
            "model": {"network": "resnet8"},
            "data": {"source": "digits"},
            "train": {},
            "profile": {"runs": 1, "blocks": 1, "warmup": 0, **profile},
        }
        recipe = validate(table, Recipe, "recipe")
        return RunContext(recipe, tmp_path, tmp_path / "run", "tiny", tmp_path / "export/tiny", Recorder())

    return of


def profiled(context):
    figures = deploying.profile_models(context, [])
    known = {"rewrite": {"before": {"test_accuracy": 99.0}}, "quantize": {"test_accuracy": 98.0}}
    records = [StageRecord(name, "", 0.0, {}, {}, found) for name, found in known.items()]
    checked = deploying.check_budget(context, records)
    return figures, checked["metrics"]


def test_each_device_has_its_ratio_and_its_kept_result(context):
    run = context(device="counter", also=["estimate"])
    figures, metrics = profiled(run)
    assert figures["skipped"] == {}
    assert set(metrics["latency_ratio"]) == {"counter", "estimate"}
    assert metrics["latency_ratio"]["counter"]["ratio"] == 0.5
    kept = read_kept(run.export_folder / "counter/profile.json")
    assert (kept.minimum, kept.model, kept.ratio.verdict) == (
        500,
        str(run.export_folder / "model.onnx"),
        "fewer instructions",
    )
    assert read_kept(run.export_folder / "estimate-cortex-a72/profile.json").kind == "estimated"
    assert deploying.is_published(run)
    (run.export_folder / "counter/profile.json").unlink()
    assert not deploying.is_published(run)


def test_the_report_has_a_column_a_device(context):
    run = context(device="host", also=["counter"])
    profiled(run)
    rows = reporting._latency(run)
    assert [(row["device"], row["model"], row["kind"]) for row in rows] == [
        ("host", "before", "measured"),
        ("host", "deploy", "measured"),
        ("counter", "before", "counted"),
        ("counter", "deploy", "counted"),
    ]
    assert "p50_ms" not in rows[2]
    assert [row.get("instructions") for row in rows] == [None, None, 1000, 500]
    assert rows[3]["operators"] == [{"operator": "Conv", "node": "a", "cost": 500.0, "share": 1.0}]
    assert "device counter: no time" in reporting._device_notes(run, {})


def test_a_further_device_that_cannot_be_had_is_told_and_left_out(context):
    run = context(device="counter", also=["absent", "counter"])
    figures, metrics = profiled(run)
    assert list(metrics["latency_ratio"]) == ["counter"]
    assert figures["skipped"] == {"absent": "the board does not answer; next: switch it on"}
    assert any("without device 'absent': the board does not answer" in note for note in run.reporter.notes)
    assert any("without device absent" in note for note in reporting._device_notes(run, figures["skipped"]))
    assert len(json.loads(Path(run.path("profile.json")).read_text())) == 2


def test_the_device_itself_has_to_be_there(context):
    with pytest.raises(MachineError, match="does not answer"):
        deploying.profile_models(context(device="absent", also=["counter"]), [])


@pytest.mark.parametrize(
    ("pruned", "stored", "expected"),
    [
        (
            1.2,
            1.5,
            ["pi: pruned, the network takes more instructions (1.20×), as some", "takes more instructions (1.25×)"],
        ),
        (0.8, 0.9, ['as int8, the pruned network takes more instructions (1.12×); next: [quantize] format = "none"']),
        (1.2, 1.0, ['next: [prune] round_to = "auto", target = "pi" keeps to those that pay']),
        (0.8, 0.8, []),
        (None, 1.2, ["pruned, the network takes more instructions (1.20×)"]),
        (None, 0.9, []),
    ],
)
def test_what_is_no_better_comes_with_advice(context, pruned, stored, expected):
    run = context(device="counter")
    (base,) = profile([run.path("before.onnx")], run.recipe.profile)
    shares = {"before": 1.0, "rewritten": pruned, "deploy": stored}
    reports = {n: dataclasses.replace(base, minimum=1000 * share) for n, share in shares.items() if share is not None}
    found = advice("pi", reports, run.recipe)
    assert len(found) == len(expected)
    for line, part in zip(found, expected, strict=True):
        assert part in line


def test_advice_is_told_and_stands_in_the_report(context, monkeypatch):
    monkeypatch.setattr("compress.pipeline.deploying.advice", lambda *_: ["try this"])
    run = context(device="counter")
    assert deploying.profile_models(run, [])["advice"] == ["try this"]
    assert run.reporter.notes[-1] == "try this"
