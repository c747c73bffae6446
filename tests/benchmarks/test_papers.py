"""The scripts of the papers: their plans are recipes, they resume, and the README says what the results say."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from compress.pipeline.context import Silence
from compress.pipeline.preflight import preflight

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "papers"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if "PAPER = " in path.read_text(encoding="utf-8"))


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))

    def load(name):
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return load


def finished(unit, accuracy):
    return {"unit": unit.name, "setting": unit.setting, "seed": unit.seed, "validation_accuracy": accuracy}


@pytest.mark.parametrize("schedule", ["short", "full"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_every_unit_is_a_recipe_that_could_start(load, script, schedule, tmp_path, monkeypatch):
    bench, paper = load("bench"), load(script).PAPER
    monkeypatch.setattr("compress.pipeline.context.RunContext.find", lambda *_: tmp_path)
    units = paper.plan(schedule, [])
    while len(later := paper.plan(schedule, [finished(unit, 50.0 - i) for i, unit in enumerate(units)])) > len(units):
        units = later
    names = [unit.name for unit in units]
    assert len(set(names)) == len(names)
    for unit in units:
        assert unit.after is None or unit.after in names
        context = bench.BlindRun(unit.parsed(), FOLDER, tmp_path, unit.name, tmp_path / "export", Silence())
        preflight(context, training=False)
    per_setting = {unit.setting: set() for unit in units}
    for unit in units:
        assert unit.seed not in per_setting[unit.setting]
        per_setting[unit.setting].add(unit.seed)


def test_a_unit_stops_between_epochs_and_goes_on_as_if_it_had_not(load, tmp_path, monkeypatch):
    bench = load("bench")
    recipe = {
        "seed": 2,
        "model": {"network": "resnet8", "arguments": {"width": 4}},
        "data": {"source": "digits", "validation": 0.2},
        "train": {"epochs": 3, "batch_size": 256},
    }
    unit = bench.Unit("tiny-2", "tiny", recipe, until="train")
    paper = bench.Paper("tiny", "nobody", lambda _schedule, _rows: [unit])
    assert bench.work(paper, "short", tmp_path / "whole.json", tmp_path / "whole")
    (whole,) = bench.read_rows(tmp_path / "whole.json")

    stopped, turns = 0, []

    def first_time_in_an_epoch(clock, _seconds):
        turns.append(clock.epoch)
        if clock.epoch in ("2", "3") and turns.count(clock.epoch) == 1:
            raise bench.OutOfTimeError

    monkeypatch.setattr(bench.Clock, "stop_unless", first_time_in_an_epoch)
    while not bench.work(paper, "short", tmp_path / "pieces.json", tmp_path / "pieces"):
        stopped += 1
    assert stopped == 2
    (pieces,) = bench.read_rows(tmp_path / "pieces.json")
    for key in ("test_accuracy", "validation_accuracy", "epochs", "data"):
        assert pieces[key] == whole[key]
    assert whole["epochs"] == {"train": 3}
    assert whole["data"]["training_images"] + whole["data"]["validation_images"] < 1797


def test_the_test_images_are_seen_once(load, tmp_path, monkeypatch):
    bench = load("bench")
    recipe = {"model": {"network": "resnet8"}, "data": {"source": "digits"}, "train": {"epochs": 1}}
    unit = bench.Unit("tiny-0", "tiny", {"seed": 0, **recipe})
    context = bench.BlindRun(unit.parsed(), FOLDER, tmp_path, unit.name, tmp_path, Silence())
    assert context.dataset.test is context.dataset.validation
    assert context.dataset.test is not context.whole.test


def test_minutes_are_kept(load):
    bench = load("bench")
    clock = bench.Clock(minutes=9)
    clock.stop_unless(9 * 60 - 1)
    with pytest.raises(bench.OutOfTimeError):
        clock.stop_unless(9 * 60 + 1)
    clock.progress(0.0, "epoch 1/3, loss 1")
    clock.longest = 600
    clock.progress(0.3, "epoch 1/3, loss 1")
    for done, text in ((0.4, "epoch 2/3, loss 1"), (0.1, "epoch 1/3, loss 1")):
        with pytest.raises(bench.OutOfTimeError):
            clock.progress(done, text)
        clock.epoch, clock.share = "1", 0.3


def test_readme_says_what_the_results_say(load):
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert load("table").renewed(readme) == readme, "run python benchmarks/papers/table.py"


def test_results_name_no_place_of_the_machine_they_were_made_on():
    for path in sorted((FOLDER / "results").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        for row in content["rows"]:
            assert {"seed", "schedule", "machine", "data", "recipe", "test_accuracy"} <= row.keys()
        assert '"/' not in path.read_text(encoding="utf-8")
