"""Names for implementations: one registry a kind, filled by one decorator line in each implementation's own file.

A registry imports the modules of its package the first time it is asked, so a new file is found without being listed
anywhere, and asking for help imports nothing.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from compress.errors import CompressError, suggestion

T = TypeVar("T")


class Registry(Generic[T]):
    """A mapping from a name to an implementation of one kind.

    Args:
        kind: what is registered, in the singular, for error messages ("criterion").
        package: dotted name of the package whose modules register themselves when imported.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._entries: dict[str, T] = {}
        self._loaded = False

    def register(self, *names: str) -> Callable[[T], T]:
        """Returns a decorator that stores its argument under each of `names`.

        Raises:
            ValueError: if a name is taken; two implementations of one name are a programming error.
        """

        def store(entry: T) -> T:
            for name in names:
                if name in self._entries:
                    raise ValueError(f"{self.kind} {name!r} is registered twice: {self._entries[name]} and {entry}")
                self._entries[name] = entry
            return entry

        return store

    def find(self, name: str) -> T | None:
        """Returns the entry called `name`, or None."""
        if not self._loaded:
            self._load()
        return self._entries.get(name)

    def get(self, name: str) -> T:
        """Returns the entry called `name`.

        Raises:
            CompressError: if there is none; the message names the nearest.
        """
        entry = self.find(name)
        if entry is None:
            raise CompressError(f"unknown {self.kind} {name!r}", next_step=suggestion(name, self._entries))
        return entry

    def names(self) -> list[str]:
        """Returns every name, sorted."""
        self._load()
        return sorted(self._entries)

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def _load(self) -> None:
        if self._loaded:
            return
        # Set only afterwards: a module that fails to import must fail again, not leave a registry half full.
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        self._loaded = True
