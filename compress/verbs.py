"""Modules that are verbs: `compress.rewrite(model)` calls what `compress.rewrite` is named after.

A package and its one verb share a name. Importing the package puts the module under that name, so the module itself
has to be callable, or the verb would work until somebody imports its package.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def callable_module(name: str, verb: Callable[..., Any]) -> None:
    """Makes the module called `name` callable: it passes everything on to `verb`."""

    class Verb(ModuleType):
        def __call__(self, *arguments: Any, **options: Any) -> Any:
            return verb(*arguments, **options)

    Verb.__doc__ = verb.__doc__
    sys.modules[name].__class__ = Verb
