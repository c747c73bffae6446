"""The list of all methods of pruning, as they describe themselves."""

from __future__ import annotations

from typing import Any

from compress.catalogue import MethodInfo, describe
from compress.prune.criteria import criteria
from compress.prune.regularizers import regularizers
from compress.prune.schedules import schedules
from compress.prune.search import searches
from compress.prune.treatments import treatments


def methods() -> list[MethodInfo]:
    """Returns every registered method, by kind, then by id."""
    kinds: tuple[Any, ...] = (criteria, searches, regularizers, schedules, treatments)
    return [describe(name, registry.kind, registry.get(name)) for registry in kinds for name in registry]
