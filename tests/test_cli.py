import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.cli import main
from compress.errors import CompressError, RecipeError, suggestion
from compress.profiling import Ratio
from compress.rewrite.rounding import Latencies

COMMANDS = [
    "run",
    "compare",
    "train",
    "prune",
    "export",
    "rewrite",
    "explain",
    "quantize",
    "pack",
    "unpack",
    "profile",
    "bundle",
    "check",
    "report",
    "methods",
]

HELP = """\
Usage: compress [OPTIONS] COMMAND [ARGS]...

  From a trained network to a budgeted, proven, measured artefact on an
  embedded target.

Options:
  --version  Print the version and exit.
  --help     Show this message and exit.

Commands:
  run       Run a recipe from training to report, or what has changed of it.
  compare   Compare pruning methods at the same budgets.
  train     Train the network of a recipe.
  prune     Prune a checkpoint and cut the pruned channels out.
  export    Export a checkpoint as ONNX, checked against torch.
  rewrite   Remove dead channels from an ONNX file, with proof.
  explain   Tell why an ONNX file does not shrink, by layer.
  quantize  Write an ONNX file in another format.
  pack      Pack an ONNX file with shared weights, for storage and transfer.
  unpack    Unpack a packed ONNX file: the same bytes as before.
  profile   Measure latency, load time and memory of ONNX files.
  bundle    Put a model and all that runs it into a folder for a board.
  check     Hold the models of export/ against their budgets.
  report    Write the report of a run again, or one page of several runs.
  methods   List methods of pruning and formats, and where they come from.
  devices   Boards and emulators that models are measured on.
"""

CHECKED = """\
budget
┏━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━┳━━━━━━━━━━┳━━━━━━━┳━━━━┳━━━━━━┓
┃ model                  ┃ figure     ┃ measured ┃ limit ┃    ┃ note ┃
┡━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━╇━━━━━━━━━━╇━━━━━━━╇━━━━╇━━━━━━┩
│ export/tiny/model.onnx │ parameters │ 20       │ 20    │ ok │      │
│ export/tiny/model.onnx │ macs       │ 16       │ 16    │ ok │      │
│ export/tiny/model.onnx │ operators  │ Gemm     │ Gemm  │ ok │      │
└────────────────────────┴────────────┴──────────┴───────┴────┴──────┘
"""


@pytest.fixture
def command(capsys, monkeypatch):
    """Calls the command line in this process; returns exit code, stdout, stderr."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["compress", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return call


EXPLAINED = """\
shrinks.onnx
┏━━━━━━━━┳━━━━━━┳━━━━━━━━━━┳━━━━━━┳━━━━━━━━━━┳━━━━━━━━━┓
┃ layer  ┃ op   ┃ channels ┃ dead ┃ constant ┃ rounded ┃
┡━━━━━━━━╇━━━━━━╇━━━━━━━━━━╇━━━━━━╇━━━━━━━━━━╇━━━━━━━━━┩
│ first  │ Gemm │        8 │    2 │        1 │       1 │
│ second │ Gemm │        2 │    0 │        0 │       0 │
└────────┴──────┴──────────┴──────┴──────────┴─────────┘
in no layer: unread, duplicate, merged
first: 1 of its channels stay: rounding keeps them (first)
"""


@pytest.fixture
def shrinks(tmp_path, monkeypatch):
    """A model of two Gemms; 3 of the 8 channels between them are dead."""
    first, second = np.random.default_rng(0).standard_normal((2, 8, 8)).astype(np.float32)
    first[[1, 4, 5]] = 0
    nodes = [
        helper.make_node("Gemm", ["x", "a"], ["h"], name="first", transB=1),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("Gemm", ["r", "b"], ["y"], name="second", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(array, name) for name, array in (("a", first), ("b", second[:2]))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (tmp_path / "shrinks.onnx").write_bytes(model.SerializeToString())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def published(tmp_path, monkeypatch):
    """An export folder with a model of one Gemm: 20 parameters, 16 MACs."""
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="gemm")]
    arrays = {"w": np.ones((4, 4), np.float32), "b": np.ones(4, np.float32)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    folder = tmp_path / "export/tiny"
    folder.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "budget.toml").write_text('parameters = 20\nmacs = 16\noperators = ["Gemm"]\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return folder


def test_help(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert command("--help") == (0, HELP, "")
    assert command() == (0, HELP, "")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself_and_its_options(command, name):
    code, out, err = command(name, "--help")
    assert (code, err) == (0, "")
    assert f"Usage: compress {name}" in out
    assert "--json" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rum"], "No such command 'rum'. Did you mean 'run'?; next: see compress --help"),
        (["run"], "Missing argument 'recipe'; next: see compress run --help"),
        (["run", "r.toml", "--nope"], "No such option: --nope; next: see compress run --help"),
        (["run", "r.toml"], "r.toml: cannot be read (No such file or directory); next: check the path"),
        (["train", ".", "-o", "x"], ".: cannot be read (Is a directory); next: check the path"),
        (["report", "nothing"], "report nothing does not exist; next: check the path"),
        (["check", "nothing"], "nothing does not exist; next: name a model file, or a folder such as export/"),
        (["prune", "w", "-o", "x"], "nothing says what to prune; next: give --method and --ratio, or --recipe"),
        (["export", "w", "-o", "x", "--input-shape", "3x32"], "--input-shape is not a list of sizes; got 3x32; "),
        (
            ["rewrite", "m.onnx", "-o", "x", "--round-to", "most"],
            "--round-to: it is none, auto, all, or a number from 1 on; got most; ",
        ),
        (
            ["explain", "m.onnx", "--target", "arm"],
            "--target: it says how auto rounds; set round_to to auto too",
        ),
        (
            ["rewrite", "m.onnx", "-o", "x", "--stripes", "some"],
            "--stripes: Input should be 'auto', 'int8', 'always' or 'never'; got some; ",
        ),
        (["profile", "m.onnx", "--runs", "0"], "--runs: Input should be greater than or equal to 1; got 0; "),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(command, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_ctrl_c_is_one_line_and_exit_130(command, published, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("compress.check.check", interrupted)
    code, out, err = command("check")
    assert (code, out) == (130, "")
    assert err.startswith("error: interrupted; ")
    assert err.count("\n") == 1


def test_what_the_system_refuses_is_one_line_and_exit_3(command, published, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied", "model.onnx")

    monkeypatch.setattr("compress.check.check", refused)
    assert command("check") == (3, "", "error: model.onnx: Permission denied\n")


def test_without_torch_training_commands_say_what_to_install(command, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    next_step = "pip install 'compress[train]'"
    assert command("run", "r.toml") == (
        3,
        "",
        f"error: this command needs torch, which is not installed; next: {next_step}\n",
    )


def test_check_as_a_table(command, published):
    code, out, err = command("check")
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert [line.rstrip() for line in out.splitlines()] == CHECKED.splitlines()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("parameters = 20", "parameters = 19", "parameters, is 20, allowed 19"),
        ("macs = 16", "macs = 15", "macs, is 16, allowed 15"),
        ('["Gemm"]', '["Conv"]', "operators, is Gemm, allowed Conv, not allowed: Gemm"),
        (
            '["Gemm"]',
            '["Gemm"]\naccuracy = 90',
            "accuracy, wanted at least 90, no metrics.json beside the model; next: compress run, with its recipe",
        ),
    ],
)
def test_each_tightened_line_of_a_budget_is_named(command, published, old, new, message):
    budget = published / "budget.toml"
    budget.write_text(budget.read_text().replace(old, new))
    code, out, err = command("check")
    assert (code, err) == (1, "")
    assert out.splitlines()[-1] == f"over budget: export/tiny/model.onnx: {message}"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("parameter = 3", "unknown key 'parameter'; next: write 'parameters'"),
        ("macs = -3", "macs: Input should be greater than or equal to 1; got -3"),
        ('macs = "many"', "macs: Input should be a valid integer"),
        ("macs = ", "not valid TOML"),
    ],
)
def test_a_wrong_budget(command, published, line, message):
    (published / "budget.toml").write_text(line)
    code, out, err = command("check")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: export/tiny/budget.toml: {message}")
    assert err.count("\n") == 1


def test_check_as_json_leaves_stdout_to_json(command, published):
    (published / "budget.toml").write_text("macs = 1\n")
    code, out, err = command("check", "--json", "--github")
    assert code == 1
    assert json.loads(out)["rows"][0]["measured"] == 16
    assert err.startswith("::error file=export/tiny/budget.toml")
    code, out, err = command("check", "--github")
    assert "::error file=export/tiny/budget.toml" in out
    assert err == ""


def test_rewrite_as_json(command, shrinks):
    code, out, err = command("rewrite", "shrinks.onnx", "-o", "out.onnx", "--round-to", "3", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    before = {"params_before": 80, "macs_before": 80}
    after = {"params_after": 60, "macs_after": 60, "channels_removed": 2, "proven": True}
    assert {name: found[name] for name in before | after} == before | after
    assert found["file_bytes_after"] == Path("out.onnx").stat().st_size < Path("shrinks.onnx").stat().st_size
    assert found["file_bytes_before"] == Path("shrinks.onnx").stat().st_size
    assert 0 <= found["max_abs_diff"] < 1e-5
    assert found["seconds"] > 0
    rounding = {"asked": "3", "used": "3", "target": None, "why": "as asked for"}
    assert found["rounding"] == rounding | {"tried": [], "reference": None, "uncertain": []}
    (row,) = found["blocked"]
    expected = {"tensor": "h", "node": "first", "op": "Gemm", "reason": "rounding keeps them"}
    assert row == expected | {"channels": 1, "kind": "idle"}


def test_rewrite_says_how_it_rounds(command, shrinks):
    code, out, err = command("rewrite", "shrinks.onnx", "-o", "out.onnx", "--round-to", "auto", "--target", "arm")
    assert (code, err) == (0, "")
    assert (
        "rounded to arm for arm: what is known of the target that was named; the model itself was not measured" in out
    )
    assert "3 channels removed" in out
    assert "rounded" not in command("rewrite", "shrinks.onnx", "-o", "out.onnx")[1]


def test_rewrite_measures_on_this_machine(command, shrinks, monkeypatch):
    def equal(settings):
        row = Ratio(1.0, 0.9, 1.1, "no difference measured")
        return lambda models, effort: Latencies(f"{settings.device} (board)", lambda one, other: row)

    monkeypatch.setattr("compress.pipeline.measuring.latencies", equal)
    code, out, err = command("rewrite", "shrinks.onnx", "-o", "out.onnx", "--round-to", "auto")
    assert (code, err) == (0, "")
    assert "rounded to none for host (board): the smallest of 2 candidates is the fastest, as far as measured" in out
    assert "latency over that of none (95 %)" in out
    assert "1.000 (0.900–1.100)" in out
    assert "not settled by measuring: whether 4 is faster than none: within 0.900–1.100" in out


def test_explain_as_a_table(command, shrinks):
    code, out, err = command("explain", "shrinks.onnx", "--round-to", "3", "--markdown", "why.md")
    assert (code, err) == (0, "")
    assert [line.rstrip() for line in out.splitlines()] == EXPLAINED.splitlines()
    columns = "| layer | op | channels | dead | constant | unread | duplicate | merged | rounded |"
    assert columns in Path("why.md").read_text()
    code, out, err = command("explain", "shrinks.onnx", "--json")
    assert [(one["dead"], one["rounded"]) for one in json.loads(out)["layers"]] == [(3, 0), (0, 0)]
    assert "rounded" not in command("explain", "shrinks.onnx")[1]


def test_check_writes_its_files(command, published):
    assert command("check", "--markdown", "out/summary.md", "--junit", "out/junit.xml")[0] == 0
    assert "all limits kept" in (published.parents[1] / "out/summary.md").read_text()
    assert "<testsuite " in (published.parents[1] / "out/junit.xml").read_text()
    assert command("check", "--markdown", "export")[0] == 3


def imported(*arguments, folder):
    """Runs a command in a process of its own; returns the top-level packages that it imported."""
    code = (
        "import sys\nfrom compress.cli import main\n"
        "try:\n    main()\nfinally:\n"
        "    print('IMPORTED', *{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "FORCE_COLOR"}
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(ended.stderr.partition("IMPORTED")[2].split())


def test_help_imports_nothing_heavy(tmp_path):
    heavy = {"torch", "numpy", "onnx", "onnxruntime", "pydantic", "rich", "matplotlib", "sklearn", "jinja2"}
    assert not imported("--help", folder=tmp_path) & heavy


def test_check_imports_neither_torch_nor_a_runtime(published):
    found = imported("check", folder=published.parents[1])
    assert "onnx" in found
    assert not found & {"torch", "onnxruntime", "matplotlib", "sklearn", "onnx_graphsurgeon", "PIL", "jinja2"}


def test_errors_are_one_line_whatever_they_are_made_of():
    error = RecipeError("a\nb", got=["x"], allowed="1\n2", next_step="do\tthis")
    assert str(error) == "a b; got ['x']; allowed: 1 2; next: do this"
    assert error.exit_code == CompressError.exit_code == 2
    assert suggestion("filter", ["filters", "random"]) == "did you mean 'filters'? known: filters, random"
    assert suggestion("zzz", ["filters"]) == "known: filters"
