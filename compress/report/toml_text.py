"""A recipe as text: TOML where the values are TOML's; keys without a value are left out, for TOML has no null."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any


def toml_text(table: Mapping[str, Any]) -> str:
    """Returns a nested table as TOML text: plain keys first, then one section a table."""
    return "\n\n".join(_sections(table, ())).strip()


def _sections(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    known = {key: value for key, value in table.items() if value is not None}
    plain = [f"{_key(key)} = {_value(value)}" for key, value in known.items() if not _is_table(value)]
    parts = []
    if plain:
        head = [f"[{'.'.join(map(_key, path))}]"] if path else []
        parts.append("\n".join([*head, *plain]))
    for key, value in known.items():
        if _is_table(value):
            parts += _sections(value, (*path, key))
    return parts


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping) and bool(value)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _string(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items() if item is not None)
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item) for item in value if item is not None)}]"
    return repr(value)


def _string(text: str) -> str:
    # JSON's escapes of a string are TOML's; only DEL must be escaped in TOML and is not in JSON.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
