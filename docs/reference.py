"""Prints docs/recipe.md: every key of a recipe and of a budget, from the models that validate them.

Run it as `python -m docs.reference`, or `make docs`.
"""

from __future__ import annotations

import sys
import types
import typing
from typing import Any

from pydantic.fields import FieldInfo

from compress.recipe import Budget, Recipe, Settings

_HEAD = """\
# Recipes and budgets

*Made by `make docs` from `compress/recipe/`; edit that.*

A recipe is a TOML file that says everything about a run; relative paths in it count from its folder. Unknown keys are
refused. What is not given has its default.
"""
_BUDGET = """\
A file of its own, `budget.toml` beside the recipe; `compress check` exits with 1 where a limit is exceeded. Whatever is
not given is not limited.
"""
_LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def reference() -> str:
    """Returns the page."""
    return "\n".join([_HEAD, *_tables("recipe.toml", Recipe, {}), *_tables("budget.toml", Budget, {}, _BUDGET)])


def _tables(title: str, kind: type[Settings], titles: dict[type[Settings], str], text: str = "") -> list[str]:
    """Returns a table of `kind`, then one of each table in it; a kind met before is referred to by its title alone.

    Args:
        title: of the table.
        kind: the settings.
        titles: kind → title of those met before; grows.
        text: what to say above the table, beside the docstring.
    """
    titles[kind] = title
    rows, below = [], []
    inherited = next((base for base in kind.__bases__ if base in titles), None)
    for name, field in kind.model_fields.items():
        if inherited is not None and name in inherited.model_fields:
            continue
        table = _table_of(field)
        meaning = (field.description or "").replace("|", "\\|")
        if table is not None and table not in titles:
            below += _tables(_title(title, name), table, titles)
        elif table is not None:
            meaning += f"; keys as in `{titles[table]}`"
        rows.append(f"| `{name}` | {_type(field)} | {_default(field)} | {meaning} |")
    lines = [f"## {title}", "", " ".join((kind.__doc__ or "").split()), ""]
    lines += [text] if text else []
    lines += [f"All keys of `{titles[inherited]}`, and:", ""] if inherited is not None else []
    return ["\n".join([*lines, "| key | type | default | meaning |", "|---|---|---|---|", *rows, ""]), *below]


def _title(parent: str, name: str) -> str:
    inside = parent.strip("[]")
    return f"[{name}]" if inside.endswith(".toml") else f"[{inside}.{name}]"


def _table_of(field: FieldInfo) -> type[Settings] | None:
    kinds = [field.annotation, *typing.get_args(field.annotation)]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Settings)), None)


def _type(field: FieldInfo) -> str:
    limits = [
        f"{sign} {_number(getattr(item, key))}"
        for item in _metadata(field)
        for key, sign in _LIMITS.items()
        if getattr(item, key, None) is not None
    ]
    return ", ".join([_name(field.annotation), *limits])


def _metadata(field: FieldInfo) -> list[Any]:
    inside = [getattr(kind, "__metadata__", ()) for kind in typing.get_args(field.annotation)]
    found = [*field.metadata, *(item for items in inside for item in items)]
    return [part for item in found for part in (item.metadata if isinstance(item, FieldInfo) else [item])]


def _name(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _name(arguments[0])
    if origin is typing.Literal:
        return " or ".join(f'`"{value}"`' for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_name(part) for part in arguments if part is not type(None))
    if origin is list:
        return f"list of {_name(arguments[0])}"
    if origin is dict or (isinstance(kind, type) and issubclass(kind, Settings)):
        return "table"
    return {str: "text", int: "integer", float: "number", bool: "true or false"}[kind]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "*needed*"
    value = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, Settings):
        return "–"
    if isinstance(value, bool):
        return f"`{value}`".lower()
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, list):
        return f"`[{', '.join(_number(item) for item in value)}]`"
    return "`{}`" if isinstance(value, dict) else f"`{_number(value)}`"


def _number(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    text = f"{value:.4g}"
    return text if set(text) & set(".en") else f"{text}.0"


if __name__ == "__main__":
    sys.stdout.write(reference())
