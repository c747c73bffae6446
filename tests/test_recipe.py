import re
import sys
from pathlib import Path

import pytest

from compress.errors import RecipeError
from compress.recipe import Budget, Recipe, Settings, load_budget, load_recipe, validate

ROOT = Path(__file__).parents[1]
WHOLE = {"model": {"network": "resnet8"}, "data": {"source": "digits"}, "train": {}}


def all_settings(kind=Settings):
    for child in kind.__subclasses__():
        if child.__module__.startswith("compress.recipe."):
            yield child
            yield from all_settings(child)


@pytest.mark.parametrize("kind", [*all_settings()], ids=lambda kind: kind.__name__)
def test_every_key_is_described(kind):
    assert kind.__doc__
    assert [name for name, field in kind.model_fields.items() if not field.description] == []


def test_the_committed_reference_is_current(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from docs.reference import reference

    assert (ROOT / "docs/recipe.md").read_text() == reference(), "run `make docs`"
    for kind in all_settings():
        for name in kind.model_fields:
            assert f"| `{name}` |" in reference()
    sys.modules.pop("docs.reference")


@pytest.mark.parametrize("path", sorted(ROOT.glob("models/*/recipe.toml")), ids=lambda path: path.parent.name)
def test_the_recipes_that_ship_are_valid(path):
    load_recipe(path)
    assert any(limit for limit in load_budget(path.with_name("budget.toml")).model_dump().values())


def test_a_recipe_comes_back_from_what_it_writes():
    recipe = validate(WHOLE, Recipe, "r")
    assert validate(recipe.model_dump(mode="json"), Recipe, "r") == recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modle": {}}, "r.toml: unknown key 'modle'; next: write 'model'"),
        ({"train": {"epoch": 3}}, "r.toml: unknown key 'epoch' in [train]; next: write 'epochs'"),
        (
            {"train": {"distill": {"temprature": 3}}},
            "r.toml: unknown key 'temprature' in [train.distill]; next: write 'temperature'",
        ),
        ({"train": {"zzz": 3}}, "r.toml: unknown key 'zzz' in [train]; next: known: batch_size, "),
        ({"train": {"epochs": "3"}}, "r.toml: train.epochs: Input should be a valid integer; got 3; next: see docs/"),
        ({"train": {"epochs": True}}, "r.toml: train.epochs: Input should be a valid integer; got True"),
        ({"train": {"epochs": -1}}, "r.toml: train.epochs: Input should be greater than or equal to 0; got -1"),
        ({"train": {"learning_rate": float("inf")}}, "train.learning_rate: Input should be a finite number; got inf"),
        ({"train": 3}, "r.toml: train: Input should be a valid dictionary"),
        ({"prune": {"ratio": 1.0}}, "r.toml: prune.ratio: Input should be less than 1; got 1.0"),
        ({"quantize": {"format": 8}}, "r.toml: quantize.format: Input should be a valid string; got 8"),
        ({"train": None}, "r.toml: the file: give [train], or a trained checkpoint in [model]"),
        (
            {"retrain": {"distill": {"network": "resnet8"}}},
            "r.toml: retrain.distill: network and checkpoint of a teacher are given together or not at all",
        ),
    ],
)
def test_a_wrong_recipe_is_told_in_one_line(change, message):
    with pytest.raises(RecipeError, match=re.escape(message)) as error:
        validate({**WHOLE, **change}, Recipe, "r.toml")
    assert "\n" not in str(error.value)


def test_a_missing_table_is_named():
    with pytest.raises(RecipeError, match=r"r\.toml: data: Field required"):
        validate({"model": {"network": "a"}, "train": {}}, Recipe, "r.toml")


@pytest.mark.parametrize(
    "limit", [{"macs": -1}, {"macs": 0}, {"accuracy": 101}, {"latency_ratio": {"host": -0.5}}, {"accuracy_drop": "1"}]
)
def test_a_wrong_limit_is_refused(limit):
    with pytest.raises(RecipeError, match=f"budget.toml: {next(iter(limit))}"):
        validate(limit, Budget, "budget.toml")


@pytest.mark.parametrize("content", [b"seed = ", b"seed = 1\nseed = 2\n", b"\xff"])
def test_what_is_not_toml(tmp_path, content):
    (tmp_path / "r.toml").write_bytes(content)
    with pytest.raises(RecipeError, match=r"not valid TOML .*; next: mend that line"):
        load_recipe(tmp_path / "r.toml")


def test_a_recipe_that_is_not_there_or_a_folder(tmp_path):
    for path in (tmp_path, tmp_path / "r.toml"):
        with pytest.raises(RecipeError, match="cannot be read"):
            load_recipe(path)
