import tomllib

import pytest

from compress.report.toml_text import toml_text
from compress.report.wording import fixed, shorten, shorten_all, show, show_apart, times


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (-1234567, "−1,234,567"),
        (40813184, "40,813,184"),
        (0.9372, "0.9372"),
        (91.0, "91"),
        (12345.678, "12,346"),
        (4.77e-07, "4.77e−07"),
        (True, "yes"),
        ((), "none"),
        (("Conv", "Relu"), "Conv, Relu"),
    ],
)
def test_show(value, text):
    assert show(value) == text


def test_two_figures_that_differ_look_different():
    assert show_apart(2.50004, 2.5) == ("2.50004", "2.5")
    assert show_apart(2.5, 2.5) == ("2.5", "2.5")


def test_fixed_has_no_negative_zero():
    assert fixed(-0.001, 2, sign=True) == "0.00"
    assert fixed(-0.57, 2, sign=True) == "−0.57"
    assert fixed(0.5, 1, sign=True) == "+0.5"


def test_times():
    assert times(0.25, "smaller", "larger") == "4.0× smaller"
    assert times(1.5, "smaller", "larger") == "1.50× larger"
    assert times(1.0, "smaller", "larger") == "unchanged"


def test_shortened_names_stay_apart_and_hold_no_control_signs():
    names = [f"backbone.blocks.{index}.attention.projection" for index in range(60)]
    short = shorten_all(names, 20)
    assert len(set(short)) == 60
    assert max(map(len, short)) <= 20
    assert shorten("a\x00b\nc", 20) == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"


def test_a_recipe_reads_back_as_toml(figures):
    def without_none(table):
        return {
            key: without_none(value) if isinstance(value, dict) else value
            for key, value in table.items()
            if value is not None
        }

    recipe = figures["recipe"] | {'odd "key"': {"text": 'quote " \\ tab\t\x7f line\nend', "list": [1, 2.5, True, "x"]}}
    assert tomllib.loads(toml_text(recipe)) == without_none(recipe)
