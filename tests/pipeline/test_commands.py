"""Each command alone, on files, as a user calls it."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compress.artifact import sha256_file
from compress.cli import main

RUN = Path("runs/made")


@pytest.fixture
def command(capsys, monkeypatch):
    """Calls the command line in this process; returns exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["compress", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        code, (out, err) = ended.value.code, capsys.readouterr()
        assert "\x1b" not in out + err
        return code, out, err

    return call


@pytest.fixture
def as_json(command):
    def call(*arguments):
        code, out, err = command(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    return call


def test_files_go_through_all_commands_one_after_the_other(project, command, as_json):
    trained = as_json("train", "recipe.toml", "-o", "out/net.safetensors")
    assert trained["path"] == "out/net.safetensors"
    assert len(trained["history"]) == 3
    pruned = as_json("prune", "out/net.safetensors", "-o", "out/cut.safetensors", "--recipe", "recipe.toml")
    assert pruned["cost_after"]["macs"] < 0.6 * pruned["cost_before"]["macs"]
    less = as_json(
        "prune", "out/net.safetensors", "-o", "out/less.safetensors", "--recipe", "recipe.toml", "--ratio", 0.2
    )
    assert less["cost_after"]["macs"] > pruned["cost_after"]["macs"]
    exported = as_json("export", "out/cut.safetensors", "-o", "out/cut.onnx")
    assert exported["max_abs_diff"] < 1e-4
    rewritten = as_json("rewrite", "out/cut.onnx", "-o", "out/small.onnx")
    assert rewritten["proven"]
    quantized = as_json("quantize", "out/small.onnx", "-o", "out/int8.onnx", "--recipe", "recipe.toml")
    assert 0 <= quantized["test_accuracy_after"] <= 100
    quick = ("--runs", 1, "--blocks", 2, "--warmup", 0)
    profiled = as_json("profile", "out/small.onnx", "out/int8.onnx", *quick)
    assert [row["ratio"] is None for row in profiled] == [True, False]
    checked = as_json("check", "out/int8.onnx", "--budget", write("b.toml", "file_bytes = 100_000\n"))
    assert checked["passed"]
    report = as_json("report", RUN, "-o", "out/report")
    assert all(Path(path).is_file() for path in report.values())
    assert not [path for path in Path("out").rglob("*") if path.name.endswith((".partial", ".state"))]


def test_several_runs_are_one_page(project, command, as_json):
    shutil.copytree(RUN, "runs/other")
    table = json.loads(Path("runs/other/report.json").read_text())
    table["recipe"]["prune"]["method"] = "fpgm"
    Path("runs/other/report.json").write_text(json.dumps(table))
    paths = as_json("report", RUN, "runs/other", "-o", "page")
    assert "comparison-accuracy-by-cost.svg" in {Path(path).name for path in paths["plots"]}
    entries = json.loads(Path(paths["json"]).read_text())["entries"]
    assert [entry["method"] for entry in entries] == ["filter-l1", "fpgm"]
    # Its JSON is enough to draw the page again.
    again = as_json("report", "page", "-o", "again")
    assert Path(again["html"]).read_text() == Path(paths["html"]).read_text()
    code, out, err = command("report", RUN, "runs/other")
    assert (code, out, err) == (2, "", "error: a page of several runs needs a folder; next: give it with --output\n")


def write(name, text):
    Path(name).write_text(text)
    return name


def test_results_go_to_stdout_and_progress_to_stderr(project, command):
    code, out, err = command("run", "recipe.toml")
    assert code == 0
    assert "Within budget" in out
    assert [line.split()[1] for line in err.splitlines()] == ["unchanged"] * 10
    code, out, err = command("run", "recipe.toml", "--json")
    assert json.loads(out)["name"] == "made"
    code, out, err = command("prune", RUN / "trained.safetensors", "-o", "cut.safetensors", "--method", "filter-l2")
    assert (code, re.sub(r"[\d.]+ s", "T", err)) == (0, "    prune  done, T\n")
    assert "macs" in out


def test_an_exceeded_budget_is_exit_1_every_time(project, command):
    project.change("file_bytes = 80_000", "file_bytes = 800", "budget.toml")
    for _ in range(2):
        code, out, _ = command("run", "recipe.toml")
        assert code == 1
        assert "≤ 800" in out
    code, out, _ = command("check")
    assert code == 1
    assert "over budget: export/made/model.onnx: file_bytes, is " in out


def test_a_network_that_grew_is_told_how_to_be_accepted(project, command):
    baseline = project.model.with_name("baseline.json")
    baseline.write_text(json.dumps({"parameters": 10}))
    code, out, _ = command("check", "--json")
    assert code == 1
    assert json.loads(out)["rows"][-1]["note"].endswith("; `compress check --accept` takes it as it is")


def content_errors():
    return {
        "cut.onnx": (lambda data: data[:2000], "cannot be parsed: cut short, damaged"),
        "text.onnx": (lambda data: b"hello\n", "cannot be parsed"),
        "empty.onnx": (lambda data: b"", "is empty"),
        "folder.onnx": (None, "is a folder"),
        "missing.onnx": (lambda data: None, "does not exist"),
    }


@pytest.mark.parametrize("name", content_errors())
def test_a_wrong_model_file(project, command, name):
    change, message = content_errors()[name]
    data = change(project.model.read_bytes()) if change else None
    if data is not None:
        Path(name).write_bytes(data)
    elif change is None:
        Path(name).mkdir()
    for arguments in (
        ["rewrite", name, "-o", "o.onnx"],
        ["quantize", name, "-o", "o.onnx", "--recipe", "recipe.toml"],
        ["profile", name, "--runs", 1, "--blocks", 1],
        ["check", name, "--budget", "budget.toml"],
    ):
        code, out, err = command(*arguments)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert err.startswith("error: ")
        assert message in err or (arguments[0] == "check" and "does not exist" in err)
    assert not Path("o.onnx").exists()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("model.onnx", ["rewrite", "model.onnx"]),
        ("model.onnx", ["rewrite", "model.onnx", "--round-to", "auto"]),
        ("model.onnx", ["quantize", "model.onnx", "--format", "fp16"]),
        ("model.onnx", ["quantize", "model.onnx", "--recipe", "recipe.toml"]),
        ("model.onnx", ["pack", "model.onnx"]),
        ("model.packed", ["unpack", "model.packed"]),
        ("net.safetensors", ["export", "net.safetensors"]),
        ("net.safetensors", ["prune", "net.safetensors", "--method", "filter-l1"]),
        ("recipe.toml", ["train", "recipe.toml"]),
    ],
)
def test_what_is_read_is_never_written_over(project, command, name, arguments):
    shutil.copy(RUN / "exported.onnx", "model.onnx")
    shutil.copy(RUN / "retrained.safetensors", "net.safetensors")
    assert command("pack", "model.onnx", "-o", "model.packed")[0] == 0
    before = sha256_file(Path(name))
    code, out, err = command(*arguments, "-o", name)
    assert (code, out) == (2, "")
    assert f"cannot write {name}: it is the file that is read, and would be lost; next: write to another name" in err
    assert sha256_file(Path(name)) == before


def test_a_wrong_checkpoint(project, command):
    weights = (RUN / "trained.safetensors").read_bytes()
    files = {
        "cut.safetensors": (weights[:3000], "is damaged"),
        "w.pt": (b"\x80\x04}\x94.", "is a pickle, which can run any code"),
        "zip.pt": (b"PK\x03\x04" + bytes(100), "pickle"),
        "empty.safetensors": (b"", "is empty"),
    }
    for name, (data, message) in files.items():
        Path(name).write_bytes(data)
        for arguments in (["prune", name, "-o", "o", "--method", "filter-l1"], ["export", name, "-o", "o"]):
            code, out, err = command(*arguments)
            assert (code, out, err.count("\n")) == (2, "", 1), err
            assert err.startswith("error: ")
            assert message in err
    code, _, err = command(
        "export", RUN / "trained.safetensors", "-o", "o", "--network", "resnet8", "--input-shape", "1,8,8"
    )
    assert (code, err.count("\n")) == (2, 1)
    assert "trained.safetensors as resnet8" in err
    assert not Path("o").exists()


def test_a_checkpoint_of_another_architecture_in_a_recipe(project, command):
    project.change('network = "net.py:build"', 'network = "resnet8"\ncheckpoint = "runs/made/trained.safetensors"')
    code, out, err = command("run", "recipe.toml", "--folder", "other")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "as resnet8" in err


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("recipe.toml", "epochs = 3", "epochs = 3\nlearning_rate = 1e6", "error: the loss is "),
        ("recipe.toml", "small.npz", "smal.npz", "error: [data] source 'smal.npz' is neither"),
        ("recipe.toml", "net.py:build", "net.py:bild", "has no 'bild'; next: did you mean 'build'"),
        ("recipe.toml", "net.py:build", "resnet9", "error: unknown network 'resnet9'; next: did you mean 'resnet8'"),
        ("recipe.toml", "small.npz", "data.py:loaders", "data.py does not exist"),
        ("recipe.toml", "epochs = 3", "epochs = ", "error: recipe.toml: not valid TOML"),
        ("net.py", "from torch import nn", "from torch import nm", "net.py:2: ImportError: cannot import name 'nm'"),
        ("net.py", "    pooled = ", "    return 3\n    pooled = ", "must return a torch.nn.Module; got a int"),
        ("net.py", "    pooled = ", "    raise OSError('gone')\n    pooled = ", "cannot be built: OSError: gone"),
        ("net.py", "nn.Linear(width, classes)", "nn.Linear(3, classes)", "cannot take images of shape [1, 8, 8]"),
        ("net.py", "nn.Linear(width, classes)", "nn.Linear(width, 7)", "gives 7 classes, the data have 10"),
    ],
)
def test_a_mistake_in_a_run_is_one_line(fresh, command, file, old, new, message):
    fresh.change(old, new, file)
    code, out, err = command("run", "recipe.toml")
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("error: ")
    assert message in err
    left = [path for path in fresh.folder.rglob("*") if path.suffix in {".partial", ".safetensors", ".onnx"}]
    assert [path for path in left if path.name != "initial.safetensors"] == []


LOADERS = """
import numpy as np

def loaders():
    with np.load("small.npz") as archive:
        parts = {name: (archive[f"x_{name}"], archive[f"y_{name}"]) for name in ("train", "test")}
    return {**parts, "classes": 10}
"""


def test_the_users_own_loaders_run_to_the_end(fresh, command):
    Path("data.py").write_text(LOADERS)
    fresh.change("small.npz", "data.py:loaders")
    assert command("run", "recipe.toml")[0] == 0
    redone = fresh.run().redone
    assert redone == set()
    Path("data.py").write_text(LOADERS.replace("import numpy", "raise ValueError('gone')\nimport numpy"))
    code, out, err = command("run", "recipe.toml")
    assert (code, out) == (2, "")
    assert err.endswith("mend the file; `python` it to see the rest\n")
    assert "data.py:2: ValueError: gone" in err


def test_a_folder_of_images_runs_to_the_end(fresh, command):
    with np.load("small.npz") as archive:
        images, labels = archive["x_train"][:, 0], archive["y_train"]
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = Path(f"pictures/class {label}")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255).astype(np.uint8)).save(place / f"{index}.png")
    fresh.change("small.npz", "pictures")
    code, _, err = command("run", "recipe.toml", "--json")
    assert code == 0, err
    first = sha256_file(fresh.model)
    assert fresh.run().redone == set()
    shutil.rmtree("pictures/class 3")
    Path("pictures/class 3").mkdir()
    code, _, err = command("run", "recipe.toml")
    assert (code, err.count("\n")) == (2, 1)
    assert "class 3" in err
    assert sha256_file(fresh.model) == first


HARD_CODED = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.linear = nn.Linear(6 * 8 * 8, 10)

    def forward(self, x):
        return self.linear(self.conv(x).relu().view(-1, 6 * 8 * 8))


def build():
    return Net()
"""


def test_a_network_with_channel_numbers_in_its_forward_is_told_the_way_over_onnx(fresh, command, tmp_path):
    (fresh.folder / "net.py").write_text(HARD_CODED)
    code, _, error = command("run", "recipe.toml")
    assert code == 2
    assert "channels_last = false" in error
    fresh.change("[train]", "[train]\nchannels_last = false")
    code, _, error = command("run", "recipe.toml")
    assert code == 2
    assert "its forward() has channel numbers of its own" in error
    assert "compress export" in error
    masked, small = tmp_path / "masked.onnx", tmp_path / "small.onnx"
    assert command("export", str(fresh.run_folder / "pruned.safetensors"), "-o", str(masked))[0] == 0
    code, out, _ = command("rewrite", str(masked), "-o", str(small), "--json")
    figures = json.loads(out)
    assert code == 0
    assert figures["proven"]
    assert figures["params_after"] < 0.6 * figures["params_before"]
