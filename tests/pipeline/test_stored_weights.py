"""Pruning looks at the widths of what the network will be stored as."""

import pytest

from compress.errors import RecipeError
from compress.pipeline.learning import as_stored
from compress.recipe import PruneSettings, QuantizeSettings, validate


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
