"""How methods are written, and what they make of a recipe."""

import pytest

from compress.errors import CompressError, RecipeError
from compress.pipeline.comparing.spec import read_spec, read_specs
from compress.recipe import Recipe

TABLE = {
    "model": {"network": "resnet8"},
    "data": {"source": "digits"},
    "train": {"epochs": 1},
    "sparsify": {"epochs": 3, "regularizer": {"name": "hsq-gl12", "strength": 1e-5}},
    "prune": {"method": "backward-selection", "ratio": 0.1, "options": {"last": True}},
}
PLAIN = {**TABLE, "sparsify": {"epochs": 3}}


def applied(text, table=TABLE):
    return read_spec(text).applied(Recipe.model_validate(table), ratio=0.4, of="parameters", seed=7)


def test_what_is_not_said_is_the_recipes():
    recipe = applied("fpgm")
    assert (recipe.prune.method, recipe.prune.options, recipe.prune.ratio, recipe.prune.of) == (
        "fpgm",
        {},
        0.4,
        "parameters",
    )
    assert recipe.seed == 7
    assert recipe.sparsify.regularizer.strength == 1e-5
    assert recipe.prune.schedule.name == "one-shot"
    # A regularizer alone leaves the cut to the recipe.
    alone = applied("slimming:strength=1e-4")
    assert (alone.prune.method, alone.prune.options) == ("backward-selection", {"last": True})
    assert (alone.sparsify.regularizer.name, alone.sparsify.regularizer.strength) == ("slimming", 1e-4)
    assert alone.sparsify.epochs == 3


def test_every_part_has_knobs_of_its_own():
    recipe = applied("hsq-gl12:strength=1e+2+magnitude:part=stripe:scope=global/iterative:rounds=4:epochs=2", PLAIN)
    assert recipe.sparsify.regularizer.strength == 100
    assert (recipe.prune.method, recipe.prune.scope, recipe.prune.options) == (
        "magnitude",
        "global",
        {"part": "stripe"},
    )
    assert recipe.prune.schedule.model_dump() == {"name": "iterative", "options": {"rounds": 4, "epochs": 2}}


def test_the_same_name_starts_from_the_recipes_knobs():
    assert applied("backward-selection").prune.options == {"last": True}
    assert applied("backward-selection:last=false").prune.options == {"last": False}
    assert applied("hsq-gl12+fpgm").sparsify.regularizer.strength == 1e-5
    assert applied("hsq-gl+fpgm").sparsify.regularizer.strength == 1e-4


def test_no_penalty_is_a_training_of_the_same_length():
    recipe = applied("none+fpgm")
    assert (recipe.sparsify.regularizer, recipe.sparsify.epochs) == (None, 3)


def test_a_threshold_gives_way_to_the_ratio():
    table = {**TABLE, "prune": {"method": "bn-scale", "threshold": 0.1}}
    recipe = applied("bn-scale", table)
    assert (recipe.prune.threshold, recipe.prune.ratio) == (None, 0.4)


def test_commas_separate_methods_but_not_what_is_in_brackets():
    specs = read_specs('fpgm, filter-l1:exclude=["conv1", "linear"],random')
    assert [spec.text for spec in specs] == ["fpgm", 'filter-l1:exclude=["conv1", "linear"]', "random"]
    assert specs[1].method.knobs == {"exclude": ["conv1", "linear"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fpgn", "unknown method 'fpgn'; next: did you mean 'fpgm'?"),
        ("fpgm/iteratve", "unknown schedule 'iteratve' in 'fpgm/iteratve'; next: did you mean 'iterative'"),
        ("hsq-gl13+fpgm", "unknown regularizer 'hsq-gl13' in 'hsq-gl13+fpgm'; next: did you mean 'hsq-gl12'"),
        ("slimming+slimming", "unknown criterion or search 'slimming'"),
        ("fpgm:lasts=1", "'fpgm' has no knob 'lasts'; next: known: "),
        ("fpgm:scope=globl", "method 'fpgm:scope=globl': prune.scope: "),
        ("fpgm:scope", "'scope' has no value; allowed: KNOB=VALUE"),
        ("fpgm/iterative:round=2", "schedule 'iterative' has no option 'round'; next: did you mean 'rounds'"),
        ("slimming:rate=2+fpgm", "regularizer 'slimming' has no option 'rate'"),
        ("fpgm/iterative/soft", "is not of this form; allowed: [REGULARIZER+]METHOD[/SCHEDULE]"),
        ("none:strength=1+fpgm", "'none' has no knobs"),
        ("", "unknown method ''"),
    ],
)
def test_mistakes_name_what_is_allowed(text, message):
    with pytest.raises(CompressError) as error:
        applied(text)
    assert message in str(error.value)


def test_a_regularizer_needs_a_training():
    table = {key: value for key, value in TABLE.items() if key != "sparsify"}
    with pytest.raises(RecipeError, match=r"no training to take part in; next: give the recipe a \[sparsify\]"):
        applied("slimming+fpgm", table)
    assert applied("none+fpgm", table).sparsify is None


@pytest.mark.parametrize(("texts", "message"), [("", "no method to compare"), ("fpgm,random,fpgm", "given twice")])
def test_lists_that_cannot_be(texts, message):
    with pytest.raises(RecipeError, match=message):
        read_specs(texts)
