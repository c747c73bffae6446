"""The rule table: how channels travel through each operator, one operator family a file.

A new operator is one registration line; a new family is one file. An operator without a rule is opaque: everything it
touches stays, and it is named in the report.
"""

from collections.abc import Callable
from typing import TypeVar

from compress.channels.rules.base import Rule
from compress.registry import Registry

RuleType = TypeVar("RuleType", bound=Rule)

rules: Registry[Rule] = Registry("operator rule", "compress.channels.rules")


def rule(*operators: str) -> Callable[[type[RuleType]], type[RuleType]]:
    """Returns a class decorator that registers an instance of a rule for `operators`."""

    def store(kind: type[RuleType]) -> type[RuleType]:
        rules.register(*operators)(kind())
        return kind

    return store
