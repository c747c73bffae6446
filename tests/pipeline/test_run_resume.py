import errno
import fcntl
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from recorder import Recorder

from compress.artifact import sha256_file
from compress.errors import CompressError, MachineError, NetworkError
from compress.pipeline import run, run_stages
from compress.pipeline.comparing import compare
from compress.pipeline.context import RunContext
from compress.pipeline.manifest import Manifest
from compress.pipeline.run import locked
from compress.pipeline.stages import STAGES
from compress.pipeline.standalone import train_file
from compress.recipe import load_recipe

STAGE_NAMES = [stage.name for stage in STAGES if stage.name not in ("sparsify", "share")]
EVERYTHING = set(STAGE_NAMES)


def test_the_manifest_says_from_what_each_stage_was_made_and_with_what_result(project):
    manifest = json.loads((project.run_folder / "manifest.json").read_text())
    stages = {stage["name"]: stage for stage in manifest["stages"]}
    assert set(stages) == EVERYTHING
    assert manifest["seed"] == 1
    assert {"cpu", "cores", "python", "compress", "torch", "onnxruntime"} <= set(manifest["machine"])
    for stage in stages.values():
        assert stage["seconds"] >= 0
        assert stage["outputs"] == {name: sha256_file(project.run_folder / name) for name in stage["outputs"]}
    assert stages["rewrite"]["inputs"]["exported.onnx"] == stages["export"]["outputs"]["exported.onnx"]
    assert stages["check"]["inputs"][str(project.folder / "budget.toml")] == sha256_file(Path("budget.toml"))
    assert len(stages["train"]["figures"]["history"]) == 3


def test_unchanged_nothing_is_done_and_no_file_is_touched(project):
    before = project.times()
    assert project.run().redone == set()
    assert project.times() == before


def test_what_means_the_same_changes_nothing(project):
    project.change('method = "filter-l1"', 'scope = "layer"  # the default\nmethod = "filter-l1"')
    assert project.run().redone == set()


def test_a_part_of_a_run_is_the_beginning_of_the_whole(project):
    project.change("ratio = 0.5", "ratio = 0.4")
    recorder = Recorder()
    recipe = load_recipe(project.recipe)
    context = RunContext(
        recipe, project.folder, project.run_folder, project.folder.name, project.model.parent, recorder
    )
    records = run_stages(context, until="compact")
    assert [record.name for record in records] == ["train", "prune", "compact"]
    assert recorder.stages == {"train": "reused", "prune": "done", "compact": "done"}
    assert project.run().redone == EVERYTHING - {"train", "prune", "compact"}
    with pytest.raises(CompressError, match=r"no stage 'compactt'.*compact"):
        run_stages(context, until="compactt")


AFTER_TRAINING = EVERYTHING - {"train"}


@pytest.mark.parametrize(
    ("old", "new", "redone"),
    [
        ("seed = 1", "seed = 2", EVERYTHING),
        ("ratio = 0.5", "ratio = 0.7", AFTER_TRAINING),
        ("[retrain]\nepochs = 1", "[retrain]\nepochs = 2", AFTER_TRAINING - {"prune", "compact"}),
        ("samples = 16", "samples = 40", {"quantize", "profile", "check", "report"}),
        ("blocks = 2", "blocks = 3", {"profile", "check", "report"}),
    ],
)
def test_a_changed_recipe_redoes_what_depends_on_it(project, old, new, redone):
    project.change(old, new)
    assert project.run().redone == redone
    assert project.run().redone == set()


def test_a_stage_whose_inputs_came_out_the_same_is_not_redone(project):
    project.change("ratio = 0.5", "ratio = 0.500001")
    assert project.run().redone == {"prune", "check", "report"}


def test_a_changed_budget_redoes_the_check(project):
    project.change("80_000", "79_000", "budget.toml")
    assert project.run().redone == {"check", "report"}
    assert "79_000" in project.model.with_name("budget.toml").read_text()


def test_a_removed_budget_is_withdrawn(project):
    Path("budget.toml").unlink()
    assert project.run().redone == {"check", "report"}
    assert not project.model.with_name("budget.toml").exists()


def test_changed_user_code_redoes_what_runs_it(project):
    with Path("net.py").open("a") as file:
        file.write("# a remark\n")
    assert project.run().redone == {"train", "prune", "compact", "retrain", "export", "check", "report"}


def test_changed_data_redo_everything(project):
    with np.load("small.npz") as archive:
        arrays = dict(archive)
    arrays["x_train"][0, 0, 0, 0] += 0.5
    np.savez("small.npz", **arrays)
    assert project.run().redone == EVERYTHING


def test_a_damaged_output_is_made_again_and_nothing_else(project):
    before = project.hashes()
    (project.run_folder / "rewritten.onnx").write_bytes(b"damaged")
    assert project.run().redone == {"rewrite"}
    assert project.hashes() == before


def test_a_deleted_artefact_is_published_again(project):
    before = sha256_file(project.model)
    project.model.unlink()
    assert project.run().redone == {"check"}
    assert sha256_file(project.model) == before


def test_another_export_folder_gets_the_artefact(project):
    result = run(Path("recipe.toml"), export=Path("elsewhere"))
    assert result.model == project.folder / "elsewhere/made/model.onnx"
    assert sha256_file(result.model) == sha256_file(project.model)


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


class Killer(Recorder):
    """A reporter that ends a run at one point of a stage, with no chance to tidy up."""

    def __init__(self, patch, stage, point):
        super().__init__()
        self.patch, self.where, self.now = patch, (stage, point), ""
        add, replace = Manifest.add, Path.replace

        def adding(manifest, record):
            self.reached("between outputs and manifest")
            add(manifest, record)

        def replacing(path, target):
            self.reached("while publishing" if "export" in path.parts else "amid a write")
            return replace(path, target)

        patch.setattr(Manifest, "add", adding)
        patch.setattr(Path, "replace", replacing)

    def stage(self, name, status):
        super().stage(name, status)
        self.now = name if status == "running" else ""

    def progress(self, done, text):
        super().progress(done, text)
        if text.startswith("epoch 2/"):
            self.reached("in epoch 2")

    def reached(self, point):
        if (self.now, point) == self.where:
            self.patch.setattr(Path, "unlink", lambda path, missing_ok=False: None)
            raise Killed


KILLS = [("train", "amid a write"), ("train", "in epoch 2")]
KILLS += [(stage, "between outputs and manifest") for stage in STAGE_NAMES]
KILLS += [("check", "while publishing"), ("report", "amid a write")]


def test_killed_in_each_stage_it_ends_with_the_same_artefact(project, fresh):
    left = set()
    for stage, point in sorted(KILLS, key=lambda kill: STAGE_NAMES.index(kill[0])):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            run(Path("recipe.toml"), reporter=Killer(patch, stage, point))
        left |= {path.parent.parent.name for path in fresh.folder.rglob("*.partial")}
    ended = fresh.run()
    assert left == {"runs", "export"}
    assert ended.stages["report"] == "done"
    assert ended.stages["check"] == "reused"
    assert sha256_file(fresh.model) == sha256_file(project.model)
    assert not [path for path in fresh.folder.rglob("*") if path.name.endswith((".partial", ".state"))]


@pytest.mark.parametrize("deadly", [signal.SIGKILL, signal.SIGINT])
def test_a_training_ended_from_outside_goes_on_from_its_last_epoch(fresh, deadly):
    fresh.change("epochs = 3", "epochs = 100_000")
    command = [sys.executable, "-m", "compress", "run", "recipe.toml"]
    # A shell's background jobs ignore SIGINT, and so would what they start.
    heeding = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **heeding)
    try:
        deadline = time.monotonic() + 60
        while not (fresh.run_folder / "train.state").exists() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(deadly)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert out == ""
    if deadly == signal.SIGINT:
        assert process.returncode == 130
        end = "error: interrupted; next: give the same command again; run and compare go on where they were\n"
        assert err.endswith(end)
        assert not list(fresh.folder.rglob("*.partial"))
    else:
        assert process.returncode == -signal.SIGKILL
        assert "error" not in err

    class FirstText(Recorder):
        def progress(self, done, text):
            super().progress(done, text)
            raise Killed

    again = FirstText()
    with pytest.raises(Killed):
        run(Path("recipe.toml"), reporter=again)
    assert int(again.texts[0].split("/")[0].removeprefix("epoch ")) >= 2
    assert not list(fresh.folder.rglob("*.partial"))


def test_two_runs_in_one_folder(project):
    before = project.times()
    with (project.run_folder / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(MachineError, match="another run is at work in ") as error:
            project.run()
    assert error.value.exit_code == 3
    assert project.times() == before


def test_a_full_disk_leaves_what_was_finished_before(project, monkeypatch):
    def full(path, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    project.change("samples = 16", "samples = 24")
    before = project.hashes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(MachineError, match=r"no space left to write .*deploy.onnx; next: free some") as error:
            project.run()
    assert error.value.exit_code == 3
    assert project.hashes() == before
    assert not list(project.folder.rglob("*.partial"))
    assert "quantize" in project.run().redone


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("filter-l1", "filter-l3", "unknown method 'filter-l3'; next: did you mean 'filter-l"),
        ("[retrain]", '[retrain]\nregularizer = { name = "slimmin" }', "did you mean 'slimming'"),
        ("[profile]", '[profile]\ndevice = "hots"', "unknown device 'hots'; next: did you mean 'host'"),
        ("ratio = 0.5", "options = { p = 1 }", "criterion 'filter-l1' has no option 'p'"),
        ("net.py:build", "net.py", "name its function too, e.g. 'net.py:build'"),
        ("seed = 1", 'seed = 1\nbudget = "other.toml"', "other.toml does not exist"),
        (
            "[retrain]",
            '[retrain]\ndistill = { network = "resnet8", checkpoint = "t.safetensors" }',
            "teacher's checkpoint t.safetensors is in none of ",
        ),
    ],
)
def test_a_mistake_that_a_late_stage_would_meet_is_told_before_training(fresh, old, new, message):
    fresh.change(old, new)
    with pytest.raises(CompressError, match=message.replace("(", r"\(")):
        fresh.run()
    assert not list(fresh.run_folder.glob("*.safetensors"))


@pytest.mark.parametrize(
    ("old", "new"),
    [("small.npz", "none.npz"), ("small.npz", "cifar-10"), ("filter-l1", "filter-l3"), ("net.py:build", "net.py:none")],
)
def test_a_run_that_never_began_leaves_nothing(fresh, old, new):
    fresh.change(old, new)
    before = set(Path().iterdir())
    with pytest.raises(CompressError):
        fresh.run()
    if new != "filter-l3":  # neither asks for the recipe's method
        with pytest.raises(CompressError):
            train_file(fresh.recipe, Path("out/net.safetensors"))
        with pytest.raises(CompressError):
            compare(fresh.recipe, "filter-l1", [0.5])
    assert {path for path in Path().iterdir() if path.name != "__pycache__"} == before


def test_a_lock_that_its_holder_has_just_removed_locks_nothing(tmp_path, monkeypatch):
    def removing(file, operation):
        (tmp_path / "run" / ".lock").unlink()

    monkeypatch.setattr(fcntl, "flock", removing)
    with pytest.raises(MachineError, match="another run is at work"), locked(tmp_path / "run"):
        pass


def test_a_network_that_cannot_be_exported_is_told_before_training(fresh, capfd):
    fresh.change("return x + self", "return x * 2 if x.sum() > 1e9 else x + self", "net.py")
    with pytest.raises(NetworkError, match="data-dependent"):
        fresh.run()
    assert not list(fresh.run_folder.glob("*.safetensors"))
    assert capfd.readouterr() == ("", "")


def test_a_wrong_budget_is_told_before_training(fresh):
    fresh.change("file_bytes", "file_byte", "budget.toml")
    with pytest.raises(CompressError, match=r"budget.toml: unknown key 'file_byte'; next: write 'file_bytes'"):
        fresh.run()
    assert not list(fresh.run_folder.glob("*.safetensors"))


def test_a_place_that_cannot_be_written_is_told_before_training(fresh):
    Path("export").write_text("a file where a folder should be")
    with pytest.raises(MachineError, match="export/fresh"):
        fresh.run()
    assert not list(fresh.run_folder.glob("*.safetensors"))
    Path("runs").mkdir()
    Path("runs/fresh").write_text("")
    with pytest.raises(MachineError, match="next: choose another with --folder"):
        fresh.run()
