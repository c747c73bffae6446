"""Searches: which units stay, found by trying. One paper a file."""

from __future__ import annotations

from compress.prune.method import Choice, Method, Progress
from compress.registry import Registry

__all__ = ["Choice", "Progress", "Search", "searches"]


class Search(Method):
    """Looks for what remains by trying; `choose` is all of it. The scope of the settings has no meaning for it.

    A search that removes units one after the other tells `order`, the units in the order in which they went, and
    `losses`, the mean loss on the samples after each of these steps; every search tells `evaluations`, how many
    candidates were tried, wholly or in part.
    """


searches: Registry[type[Search]] = Registry("search", "compress.prune.search")
