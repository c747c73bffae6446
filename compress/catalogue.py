"""Methods as they describe themselves: their docstrings are the catalogue."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_SECTION = re.compile(r"^(\w+):(.*)$")


@dataclass(frozen=True)
class Knob:
    """One option of a method.

    Attributes:
        name: as it stands in a recipe's `options`.
        kind: its type and range.
        default: the value where it is not given.
        description: what it does.
    """

    name: str
    kind: str
    default: Any
    description: str


@dataclass(frozen=True)
class MethodInfo:
    """What a method says of itself.

    Attributes:
        id: as it stands in a recipe.
        kind: `criterion`, `search`, `regularizer`, `schedule`, `treatment of weights` or `format`.
        summary: one line.
        source: the paper, its equation, and where this product departs from it.
        knobs: its options.
    """

    id: str
    kind: str
    summary: str
    source: str
    knobs: tuple[Knob, ...]


def describe(name: str, kind: str, method: type[Any]) -> MethodInfo:
    """Returns what a method's class says of itself.

    Args:
        name: its id.
        kind: what it is registered as.
        method: a frozen dataclass; its docstring has one line, then sections Source and Args.
    """
    sections = _sections(method)
    # Methods of one family share their base's words.
    family = [_sections(base) for base in method.__mro__ if dataclasses.is_dataclass(base)]
    described = {name: text for base in reversed(family) for name, text in _arguments(base.get("Args", [])).items()}
    source = next((base["Source"] for base in family if "Source" in base), [])
    return MethodInfo(
        name,
        kind,
        sections[""][0],
        _joined(source),
        tuple(
            Knob(field.name, str(field.type), field.default, described.get(field.name, ""))
            for field in dataclasses.fields(method)
        ),
    )


def describe_function(name: str, kind: str, function: Callable[..., Any], knobs: tuple[Knob, ...]) -> MethodInfo:
    """Returns what a method that is a function says of itself.

    Args:
        name: its id.
        kind: what it is.
        function: its docstring has one line, then a section Source.
        knobs: its options.
    """
    sections = _sections(function)
    return MethodInfo(name, kind, sections[""][0], _joined(sections.get("Source", [])), knobs)


def _joined(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines).strip()


def _sections(method: Callable[..., Any]) -> dict[str, list[str]]:
    """Cuts a docstring at the lines that name a section ("Args:", "Source: …"); the first has no name."""
    sections: dict[str, list[str]] = {"": []}
    current = ""
    for line in inspect.cleandoc(method.__doc__ or "").splitlines():
        match = _SECTION.match(line)
        if match and match[1] in ("Args", "Source", "Deviation", "Raises"):
            current = match[1]
            sections[current] = [match[2]]
        else:
            sections[current].append(line)
    return sections


def _arguments(lines: list[str]) -> dict[str, str]:
    """Reads ``name: description`` entries, which may run over several lines."""
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        match = re.match(r"^    (\w+): (.*)$", line)
        if match:
            name = match[1]
            found[name] = match[2]
        elif name and line.strip():
            found[name] += f" {line.strip()}"
    return found
