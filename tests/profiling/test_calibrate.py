"""A device's table of widths, and what becomes of networks that are cut by it."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from compress.channels.trace import trace
from compress.channels.widths import sites
from compress.cli.app import app
from compress.errors import CompressError
from compress.onnx_io.graph import channel_graph
from compress.profiling.calibrate import calibrate
from compress.profiling.probes import SITES, probe_model
from compress.prune import prune
from compress.recipe import PruneSettings
from compress.targets.known_steps import kind
from compress.targets.table import WidthTable, table_file, write_table


@pytest.mark.parametrize("element", ["float32", "int8"])
@pytest.mark.parametrize(("convolution", "role"), SITES)
def test_a_probe_has_the_site_that_its_row_is_about(convolution, role, element):
    model = probe_model(convolution, role, 5, element)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.ones((1, 32, 28, 28), np.float32)})
    assert np.isfinite(found).all()
    traced = trace(channel_graph(model))
    seen = {
        (kind(site), site.role, site.element, site.shape[site.axis])
        for site in sites(traced)
        if site.node.operator == "Conv"
    }
    assert (convolution, role, element, 5) in seen


def test_this_machine_is_measured_and_the_table_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["devices", "calibrate", "host", "--widths", "16", "--element", "int8", "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert {len(costs) for costs in told["costs"].values()} == {16}
    assert {name.rpartition(" ")[2] for name in told["costs"]} == {"int8"}
    assert told["unit"] == "us"
    assert table_file("host").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"), [(["--widths", "3"], "16 or more"), (["--element", "float16"], "float32, int8")]
)
def test_what_cannot_be_measured(arguments, message):
    result = CliRunner().invoke(app, ["devices", "calibrate", "host", *arguments])
    assert isinstance(result.exception, CompressError)
    assert message in str(result.exception)


def test_too_few_widths():
    with pytest.raises(CompressError, match="too few widths"):
        calibrate("host", widths=15)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 30, 3, padding=1), nn.ReLU(), nn.Conv2d(30, 30, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(30, 10),
    )  # fmt: skip


def cut(**settings) -> list[int]:
    found = prune(network(), (3, 8, 8), PruneSettings(ratio=0.5, **settings), None, seed=0)
    return [len(kept) for kept in (found.keep[:30].nonzero()[0], found.keep[30:].nonzero()[0])]


def test_pruning_keeps_widths_that_the_target_computes_well(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    # Only 6, 12, 18, … channels are cheap where a 3×3 convolution reads them.
    costs = [width * (1.0 if width % 6 == 0 else 2.0) for width in range(1, 31)]
    about = {"architecture": "a", "runtime": "r", "unit": "us", "protocol": "by hand"}
    write_table(WidthTable(device="pi", costs={"dense in float32": costs}, **about))
    plain = cut()
    first, second = cut(round_to="auto", target="pi")
    assert plain[0] % 6
    assert first % 6 == 0
    # The classifier reads the others: the table says nothing of it.
    assert second not in (0, 30)


def test_a_target_serves_auto_alone():
    with pytest.raises(ValueError, match="set round_to to auto"):
        PruneSettings(round_to=4, target="arm")


def test_an_unknown_target_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(CompressError, match="nothing is known of target 'moon'"):
        cut(round_to="auto", target="moon")
