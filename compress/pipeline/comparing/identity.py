"""What a comparison's folder holds results of: another recipe must not be mixed in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from compress import __version__
from compress.artifact import read_json, write_json
from compress.errors import RecipeError
from compress.pipeline.context import RunContext

SETTINGS_NAME = "settings.json"
_SHOWN = 3
# What the comparison sets itself, for each network.
_OF_THE_BUDGET = ("ratio", "threshold", "of")


def claim(folder: Path, context: RunContext) -> None:
    """Sees to it that a folder holds results of this recipe alone: data, user's code and product included.

    Args:
        folder: of the comparison.
        context: with the comparison's recipe.

    Raises:
        RecipeError: if it holds those of another one, naming what differs.
    """
    now = _settings(context)
    path = folder / SETTINGS_NAME
    if not path.is_file():
        write_json(path, now)
        return
    then = read_json(path)
    if then == now:
        return
    before, after = dict(_flat(then)), dict(_flat(now))
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    words = [f"{key} is {after.get(key)!r}, was {before.get(key)!r}" for key in keys[:_SHOWN]]
    more = f", and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    raise RecipeError(
        f"{folder} holds results of other settings: {'; '.join(words)}{more}",
        next_step="give --out another folder, or delete this one",
    )


def _settings(context: RunContext) -> dict[str, Any]:
    recipe = context.recipe.model_dump(mode="json", exclude={"seed", "budget", "quantize"})
    if context.recipe.rewrite.round_to != "auto":
        del recipe["profile"]
    for key in _OF_THE_BUDGET:
        del recipe["prune"][key]
    networks = [context.recipe.model.network]
    if context.recipe.retrain.distill is not None and context.recipe.retrain.distill.network is not None:
        networks.append(context.recipe.retrain.distill.network)
    return {
        **recipe,
        "code": {network: context.code_fingerprint(network) for network in networks},
        "data content": context.data_fingerprint(),
        "version": __version__,
    }


def _flat(table: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value
