"""Comparisons: the same budgets from the same weights, gone on with after interruptions, never mixed up."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from recorder import Recorder
from tiny_project import Project, write_project

import compress
from compress.artifact import read_json
from compress.cli import main
from compress.errors import CompressError, RecipeError
from compress.report.comparison import ComparisonFigures

METHODS = "random,filter-l1"
FOLDER = Path("runs/made-comparison")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A finished comparison where it was made, and a copy that stays as it is."""
    place = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(write_project(place / "made"))
        patch.delenv("COMPRESS_DATA", raising=False)
        result = compress.compare(Path("recipe.toml"), METHODS, [0.5], budget_by="params")
    shutil.copytree(place / "made", place / "saved")
    return place, result.figures


@pytest.fixture
def bench(compared, monkeypatch):
    place, _ = compared
    shutil.rmtree(place / "made")
    shutil.copytree(place / "saved", place / "made")
    monkeypatch.chdir(place / "made")
    monkeypatch.delenv("COMPRESS_DATA", raising=False)
    return Project(place / "made")


def compare(methods=METHODS, ratios=(0.5,), seeds=(1,), reporter=None, **options):
    options = {"budget_by": "params", **options}
    return compress.compare(Path("recipe.toml"), methods, ratios, seeds, reporter=reporter, **options).figures


def measured(figures):
    """All that does not depend on the clock."""
    table = figures.to_dict()
    for entry in table["entries"]:
        for trial in entry["trials"]:
            del trial["seconds"], trial["cut_seconds"]
    return table["entries"], table["unpruned"]


def made(recorder):
    return {name for name, status in recorder.stages.items() if status == "done"}


def test_all_methods_start_from_the_same_weights_and_end_at_the_same_budget(compared):
    place, figures = compared
    assert [(entry.method, entry.ratio) for entry in figures.entries] == [("random", 0.5), ("filter-l1", 0.5)]
    before = figures.unpruned[0].parameters
    for entry in figures.entries:
        assert [trial.seed for trial in entry.trials] == [1]
        assert not entry.failures
        for trial in entry.trials:
            assert 0.35 * before <= trial.parameters <= 0.5 * before
            assert trial.macs < figures.unpruned[0].macs
            assert trial.file_bytes < figures.unpruned[0].file_bytes
            assert sum(layer.kept for layer in trial.channels) < sum(layer.before for layer in trial.channels)
    # Criteria of one kind keep the same numbers of channels: only which ones differs.
    assert len({trial.parameters for entry in figures.entries for trial in entry.trials}) == 1
    folder = place / "saved" / FOLDER
    manifests = [read_json(path) for path in folder.glob("networks/*/*/seed-1/manifest.json")]
    assert len(manifests) == 2
    assert len({manifest["stages"][0]["outputs"]["trained.safetensors"] for manifest in manifests}) == 1
    assert not list(folder.rglob("*.partial"))
    assert ComparisonFigures.from_dict(read_json(folder / "comparison.json")) == figures
    assert "random" in (folder / "comparison.html").read_text()


def test_the_same_again_does_nothing(bench, compared):
    before = {path: path.stat().st_mtime_ns for path in (FOLDER / "networks").rglob("*.*")}
    recorder = Recorder()
    assert measured(compare(reporter=recorder)) == measured(compared[1])
    assert set(recorder.stages.values()) == {"reused"}
    assert {path: path.stat().st_mtime_ns for path in (FOLDER / "networks").rglob("*.*")} == before


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


class Killer(Recorder):
    """Ends a comparison in the retraining of the network after the first."""

    def progress(self, done, text):
        super().progress(done, text)
        if len(made(self)) == 2 and text.startswith("retrain: epoch"):
            raise Killed


def test_killed_and_started_again_it_ends_with_the_same_figures(fresh, compared):
    killer = Killer()
    with pytest.raises(Killed):
        compare(reporter=killer, folder=Path("out"))
    assert made(killer) == {"baseline, seed 1", "random, 0.5 of parameters gone, seed 1"}
    again = Recorder()
    figures = compare(reporter=again, folder=Path("out"))
    assert made(again) == {"baseline, seed 1", "filter-l1, 0.5 of parameters gone, seed 1"}
    assert again.stages["random, 0.5 of parameters gone, seed 1"] == "reused"
    # Elsewhere, in one go.
    assert measured(figures) == measured(compared[1])


def test_what_is_added_leaves_the_rest_as_it_is(bench, compared):
    recorder = Recorder()
    figures = compare("random,fpgm", reporter=recorder)
    assert made(recorder) == {"baseline, seed 1", "fpgm, 0.5 of parameters gone, seed 1"}
    assert figures.entries[0] == compared[1].entries[0]
    recorder = Recorder()
    figures = compare("random", ratios=(0.5, 0.2), reporter=recorder)
    assert made(recorder) == {"baseline, seed 1", "random, 0.2 of parameters gone, seed 1"}
    harsh, mild = figures.entries
    assert harsh == compared[1].entries[0]
    assert harsh.trials[0].parameters < mild.trials[0].parameters
    recorder = Recorder()
    figures = compare("random", seeds=(1, 2), reporter=recorder)
    assert made(recorder) == {"baseline, seed 2", "random, 0.5 of parameters gone, seed 2"}
    first, second = figures.entries[0].trials
    assert (first.seed, second.seed) == (1, 2)
    assert first == compared[1].entries[0].trials[0]
    assert " ± " in (FOLDER / "comparison.md").read_text()


@pytest.mark.parametrize(
    ("old", "new", "file", "message"),
    [
        (
            "[retrain]\nepochs = 1",
            "[retrain]\nepochs = 2",
            "recipe.toml",
            "retrain.epochs is 2, was 1; next: give --out",
        ),
        ("width=6", "width=8", "net.py", "code.net.py:build is '"),
    ],
)
def test_results_of_another_recipe_are_not_mixed_in(bench, old, new, file, message):
    bench.change(old, new, file)
    before = {path: path.stat().st_mtime_ns for path in FOLDER.rglob("*.*")}
    with pytest.raises(RecipeError) as error:
        compare()
    assert "holds results of other settings: " in str(error.value)
    assert message in str(error.value)
    assert {path: path.stat().st_mtime_ns for path in FOLDER.rglob("*.*")} == before


def test_what_says_nothing_of_the_networks_may_change(bench):
    bench.change("[profile]\nblocks = 2", "[profile]\nblocks = 3")
    bench.change("ratio = 0.5", "ratio = 0.7")
    bench.change("seed = 1", "seed = 5")
    bench.change("samples = 16", "samples = 24")
    recorder = Recorder()
    compare(reporter=recorder)
    assert set(recorder.stages.values()) == {"reused"}


@pytest.fixture
def command(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["compress", "compare", "recipe.toml", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return call


def test_a_method_that_fails_is_told_and_stops_no_other(bench, command):
    wrong = 'filter-l2:exclude=["nothing"]'
    options = ("--methods", f"{wrong},filter-l1", "--ratios", 0.5, "--budget-by", "params")
    code, out, err = command(*options)
    assert code == 1
    assert "failed" in out
    assert "1 network could not be made" in out
    reason = "[prune] exclude: no parameter is called or starts with 'nothing'"
    assert f"{wrong}, seed 1: {reason}" in out
    assert f"{wrong}, 0.5 of parameters gone, seed 1 failed, " in " ".join(err.split())
    code, out, _ = command(*options, "--json")
    assert code == 1
    entries = json.loads(out)["entries"]
    assert [len(entry["trials"]) for entry in entries] == [0, 1]
    assert reason in entries[0]["failures"][0]["reason"]
    for kind in ("md", "html"):
        assert "no parameter is called or starts with" in (FOLDER / f"comparison.{kind}").read_text()


def test_the_table_as_text_and_markdown(bench, command):
    code, out, err = command("--methods", METHODS, "--seeds", 1, "--budget-by", "params")
    assert code == 0, err
    assert "filter-l1" in out
    assert "2 methods at the same share of the parameters, one seed each" in out
    assert "report: " in out
    code, out, _ = command("--methods", METHODS, "--seeds", 1, "--budget-by", "params", "--markdown")
    assert out.startswith("| method | to go | accuracy (%) | difference | kept parameters |")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--methods", "fpgn"), "unknown method 'fpgn'"),
        (("--methods", "fpgm", "--ratios", "1.5"), "a ratio is the share that goes; got 1.5; allowed: above 0 and"),
        (("--methods", "fpgm", "--ratios", "half"), "--ratios is not a list of numbers; got half"),
        (("--methods", "fpgm", "--ratios", "0.5,0.5"), "ratio 0.5 is given twice"),
        (("--methods", "fpgm", "--seeds", "-1"), "seed: Input should be greater than or equal to 0"),
        (
            ("--methods", "fpgm", "--budget-by", "bytes"),
            "no cost to compare by; got bytes; allowed: --budget-by params",
        ),
    ],
)
def test_mistakes_are_one_line_before_anything_is_trained(fresh, command, options, message):
    code, out, err = command(*options)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert message in err
    assert not Path("runs").exists()


def test_a_baseline_that_cannot_be_trained_is_no_methods_fault(fresh):
    fresh.change("small.npz", "smal.npz")
    with pytest.raises(CompressError, match=r"\[data\] source 'smal.npz' is neither"):
        compare()
