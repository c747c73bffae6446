"""Pruning looks at the widths that suit the target, for what the network will be stored as."""

import pytest

from compress.errors import RecipeError
from compress.pipeline.context import RunContext, Silence
from compress.pipeline.learning import as_stored
from compress.pipeline.stages import STAGES
from compress.recipe import PruneSettings, QuantizeSettings, Recipe, validate
from compress.targets.table import WidthTable, write_table


@pytest.mark.parametrize(
    ("given", "form", "expected"),
    [
        ({"round_to": "auto"}, "int8", "int8"),
        ({"round_to": "auto"}, "int8-dynamic", "float32"),
        ({"round_to": "auto"}, "none", "float32"),
        ({"round_to": "auto", "weights": "float32"}, "int8", "float32"),
        ({"round_to": 8}, "int8", None),
    ],
)
def test_weights_are_as_the_format_stores_them(given, form, expected):
    assert as_stored(PruneSettings(**given), QuantizeSettings(format=form)).weights == expected


def test_weights_mean_nothing_without_auto():
    with pytest.raises(RecipeError, match="weights says how auto rounds"):
        validate({"weights": "int8"}, PruneSettings, "options")


def test_another_calibration_is_another_cut(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    recipe = validate(
        {
            "model": {"network": "resnet8"},
            "data": {"source": "digits"},
            "train": {"epochs": 1},
            "prune": {"round_to": "auto", "target": "pi"},
            "rewrite": {"round_to": "auto", "target": "pi"},
        },
        Recipe,
        "recipe",
    )
    context = RunContext(recipe, tmp_path, tmp_path / "run", "run", tmp_path / "export", Silence())

    def keys(factor):
        costs = {"dense out float32": [float(width // factor + 1) for width in range(32)]}
        about = {"architecture": "aarch64", "runtime": "onnxruntime 1", "unit": "us", "protocol": "by hand"}
        write_table(WidthTable(device="pi", costs=costs, **about))
        return {stage.name: stage.settings(context) for stage in STAGES if stage.name in ("prune", "rewrite", "export")}

    first, again, other = keys(4), keys(4), keys(8)
    assert first == again
    assert {name for name in first if first[name] != other[name]} == {"prune", "rewrite"}
