"""From a recipe's `options` to a method: a frozen dataclass whose fields are its knobs."""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from compress.errors import RecipeError, suggestion
from compress.registry import Registry

Method = TypeVar("Method")


def build(registry: Registry[type[Method]], name: str, options: Mapping[str, Any]) -> Method:
    """Returns the method called `name` with its knobs set.

    Args:
        registry: of the method's kind.
        name: its id.
        options: knob → value; the others keep their defaults.

    Raises:
        CompressError: if there is no such method.
        RecipeError: if it has no such knob, or a value does not fit.
    """
    method = registry.get(name)
    kinds = knobs(method)
    values = {}
    for knob, value in options.items():
        if knob not in kinds:
            raise RecipeError(
                f"{registry.kind} {name!r} has no option {knob!r}",
                next_step=suggestion(knob, kinds) if kinds else "leave it out: it has none",
            )
        try:
            values[knob] = TypeAdapter(kinds[knob]).validate_python(value, strict=True)
        except ValidationError as error:
            raise RecipeError(
                f"{registry.kind} {name!r}, option {knob!r}: {error.errors()[0]['msg']}", got=repr(value)
            ) from None
    return method(**values)


def toml_value(text: str) -> Any:
    """Returns a knob's value as a recipe would hold it: TOML; a bare word is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def knobs(method: type[Any]) -> dict[str, Any]:
    """Returns the type of each knob of a method, constraints included."""
    hints = typing.get_type_hints(method, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(method)}
