"""Recipes and budgets from TOML files, with one-line errors."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from compress.errors import CompressError, RecipeError, suggestion
from compress.recipe.base import Settings
from compress.recipe.budget import Budget
from compress.recipe.whole import Recipe

# Where settings stand that came from the command line.
OPTIONS = "options"
SettingsType = TypeVar("SettingsType", bound=Settings)


def load_recipe(path: Path) -> Recipe:
    """Reads and validates a recipe.

    Raises:
        RecipeError: if the file is missing, not TOML, or says something it may not.
    """
    return load_settings(path, Recipe)


def load_budget(path: Path) -> Budget:
    """Reads and validates a budget file. Raises like `load_recipe`."""
    return load_settings(path, Budget)


def load_settings(path: Path, kind: type[SettingsType]) -> SettingsType:
    """Reads a TOML file into `kind`.

    Raises:
        RecipeError: if the file is missing, not TOML, or does not fit.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror})", next_step="check the path") from error
    except ValueError as error:
        raise RecipeError(f"{path}: not valid TOML ({error})", next_step="mend that line") from error
    return validate(table, kind, str(path))


def validate(table: dict[str, Any], kind: type[SettingsType], where: str) -> SettingsType:
    """Validates a table, with one-line errors.

    Args:
        table: what the file says.
        kind: the settings it must fit.
        where: the file's name, for messages.

    Raises:
        RecipeError: naming the first key that does not fit.
    """
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        raise _explain(error, kind, where) from None


def _explain(error: ValidationError, kind: type[Settings], where: str) -> CompressError:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        known = _known_keys(kind, path[:-1])
        place = f" in [{'.'.join(path[:-1])}]" if path[:-1] else ""
        near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
        return RecipeError(
            f"{where}: unknown key {path[-1]!r}{place}",
            next_step=f"write {near[0]!r}" if near else suggestion(path[-1], known),
        )
    key = ".".join(path)
    message = first["msg"].removeprefix("Value error, ")
    got = first["input"] if not isinstance(first["input"], dict) else None
    if where == OPTIONS:
        place = f"--{key.replace('_', '-')}" if key else where
        return RecipeError(f"{place}: {message}", got=got, next_step="see --help")
    return RecipeError(
        f"{where}: {key or 'the file'}: {message}", got=got, next_step="see docs/recipe.md for every key"
    )


def _known_keys(kind: type[Settings], path: list[str]) -> list[str]:
    settings: Any = kind
    for part in path:
        field = settings.model_fields.get(part)
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())] if field else []
        settings = next((c for c in candidates if isinstance(c, type) and issubclass(c, Settings)), settings)
    return list(settings.model_fields)
