"""How a method is written on one line, and what it makes of a recipe.

    [REGULARIZER+]METHOD[/SCHEDULE]        each with knobs: NAME:KNOB=VALUE:KNOB=VALUE

`fpgm`, `filter-l1:scope=global`, `hsq-gl12:strength=1e-5+backward-selection`, `filter-l1/iterative:rounds=3`.
Values are TOML; a bare word is text. What is not said is the recipe's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from compress.errors import RecipeError, suggestion
from compress.options import build, knobs, toml_value
from compress.prune.criteria import criteria
from compress.prune.driver import method_of
from compress.prune.regularizers import regularizers
from compress.prune.schedules import schedules
from compress.prune.search import searches
from compress.recipe import PruneSettings, Recipe, validate

NO_PENALTY = "none"  # in place of a regularizer: [sparsify] trains without one
_SYNTAX = "[REGULARIZER+]METHOD[/SCHEDULE], each with :KNOB=VALUE"
# Of [prune]; the others are the comparison's, or have a place of their own in the line.
_TABLE_KNOBS = frozenset(PruneSettings.model_fields) - {"method", "ratio", "threshold", "of", "options", "schedule"}


@dataclass(frozen=True)
class Part:
    """A name with its knobs."""

    name: str
    knobs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MethodSpec:
    """A method as it takes part in a comparison.

    Attributes:
        text: as it was written.
        regularizer: of [sparsify]; `NO_PENALTY`: none; None: the recipe's.
        method: criterion or search; None: the recipe's.
        schedule: None: the recipe's.
    """

    text: str
    regularizer: Part | None
    method: Part | None
    schedule: Part | None

    def applied(self, recipe: Recipe, *, ratio: float, of: str, seed: int) -> Recipe:
        """Returns the recipe with this method at one budget.

        A part that names what the recipe names starts from the recipe's knobs, else from the method's defaults.

        Args:
            recipe: of the comparison.
            ratio: share of the cost that is to go.
            of: the cost, `parameters` or `macs`.
            seed: of everything.

        Raises:
            RecipeError: if a knob is unknown or does not fit, or there is no [sparsify] for a regularizer.
        """
        table = recipe.model_dump(exclude_unset=True)
        prune = {k: v for k, v in table.get("prune", {}).items() if k not in ("ratio", "threshold")}
        prune |= {"ratio": ratio, "of": of}
        if self.method is not None:
            prune |= self._prune(recipe.prune, self.method)
        if self.schedule is not None:
            known = recipe.prune.schedule
            base = known.options if known.name == self.schedule.name else {}
            prune["schedule"] = {"name": self.schedule.name, "options": {**base, **self.schedule.knobs}}
        table |= {"seed": seed, "budget": None, "prune": prune}
        if self.regularizer is not None:
            table["sparsify"] = self._sparsify(recipe, self.regularizer)
        found = validate(table, Recipe, f"method {self.text!r}")
        self._check(found)
        return found

    def _prune(self, known: PruneSettings, part: Part) -> dict[str, Any]:
        registry = criteria if part.name in criteria else searches
        own = knobs(registry.get(part.name))
        options = dict(known.options) if known.method == part.name else {}
        found: dict[str, Any] = {"method": part.name, "options": options}
        for name, value in part.knobs.items():
            if name in own:
                options[name] = value
            elif name in _TABLE_KNOBS:
                found[name] = value
            else:
                raise RecipeError(
                    f"method {self.text!r}: {part.name!r} has no knob {name!r}",
                    next_step=suggestion(name, {*own, *_TABLE_KNOBS}),
                )
        return found

    def _sparsify(self, recipe: Recipe, part: Part) -> dict[str, Any] | None:
        if recipe.sparsify is None:
            if part.name == NO_PENALTY:
                return None
            raise RecipeError(
                f"method {self.text!r}: regularizer {part.name!r} has no training to take part in",
                next_step="give the recipe a [sparsify] with its epochs: all methods then train as long, those without "
                "a regularizer without a penalty",
            )
        table = recipe.sparsify.model_dump(exclude_unset=True)
        known = table.pop("regularizer", None)
        if part.name == NO_PENALTY:
            return table
        base = known if known is not None and known["name"] == part.name else {}
        options = {**base.get("options", {}), **part.knobs}
        strength = {"strength": float(base["strength"])} if "strength" in base else {}
        if "strength" in options:
            strength = {"strength": options.pop("strength")}
        return {**table, "regularizer": {"name": part.name, **strength, "options": options}}

    def _check(self, recipe: Recipe) -> None:
        """Builds every method, so that a mistake is told before anything is trained."""
        method_of(recipe.prune)
        build(schedules, recipe.prune.schedule.name, recipe.prune.schedule.options)
        if recipe.sparsify is not None and recipe.sparsify.regularizer is not None:
            build(regularizers, recipe.sparsify.regularizer.name, recipe.sparsify.regularizer.options)


def read_specs(texts: str | Sequence[str]) -> tuple[MethodSpec, ...]:
    """Reads methods, given as a list or separated by commas.

    Raises:
        RecipeError: if a name is unknown, a line is not of the syntax, or a method is given twice.
    """
    lines = _split(texts, ",") if isinstance(texts, str) else [text.strip() for text in texts]
    specs = tuple(read_spec(line) for line in lines if line)
    if not specs:
        raise RecipeError("no method to compare", allowed=_SYNTAX, next_step="see `compress methods`")
    for spec in specs:
        if [other.text for other in specs].count(spec.text) > 1:
            raise RecipeError(f"method {spec.text!r} is given twice", next_step="leave one out")
    return specs


def read_spec(text: str) -> MethodSpec:
    """Reads one method; raises like `read_specs`."""
    front, *schedule = _split(text, "/")
    parts = _split(front, "+")
    if len(schedule) > 1 or len(parts) > 2:
        raise RecipeError(f"method {text!r} is not of this form", allowed=_SYNTAX)
    first, *second = [_part(part, text) for part in parts]
    if first.name == NO_PENALTY and first.knobs:
        raise RecipeError(f"method {text!r}: 'none' has no knobs", next_step="leave them out")
    regularizer: Part | None = first
    method: Part | None = None
    if second:
        _known(first, [NO_PENALTY, *regularizers], "regularizer", text)
        method = second[0]
        _known(method, [*criteria, *searches], "criterion or search", text)
    else:
        _known(first, [*criteria, *searches, *regularizers], "method", text)
        if first.name not in regularizers:
            regularizer, method = None, first
    found = _part(schedule[0], text) if schedule else None
    if found is not None:
        _known(found, list(schedules), "schedule", text)
    return MethodSpec(text, regularizer, method, found)


def _known(part: Part, names: Sequence[str], kind: str, text: str) -> None:
    if part.name not in names:
        where = "" if part.name == text else f" in {text!r}"
        raise RecipeError(f"unknown {kind} {part.name!r}{where}", next_step=suggestion(part.name, names))


def _part(text: str, whole: str) -> Part:
    name, *options = _split(text, ":")
    found = {}
    for option in options:
        knob, separator, value = option.partition("=")
        if not separator or not knob:
            raise RecipeError(f"method {whole!r}: {option!r} has no value", allowed="KNOB=VALUE")
        found[knob] = toml_value(value)
    return Part(name, found)


def _split(text: str, sign: str) -> list[str]:
    """Splits at a sign that a name follows, outside of brackets and quotes: 1e+4 stays whole, and so does a list."""
    pieces, start, depth, quote = [], 0, 0, ""
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "[{":
            depth += 1
        elif letter in "]}":
            depth -= 1
        elif letter == sign and not depth and re.match(r"\s*[A-Za-z]", text[place + 1 :]):
            pieces.append(text[start:place].strip())
            start = place + 1
    return [*pieces, text[start:].strip()]
