"""What some commands need before they import anything that takes long."""

from __future__ import annotations

from pathlib import Path

from compress.errors import MachineError


def require_torch() -> None:
    """Says what to install where torch is missing.

    Raises:
        MachineError: if it is.
    """
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise MachineError(
            "this command needs torch, which is not installed", next_step="pip install 'compress[train]'"
        )


def require_recipe(path: Path) -> None:
    """Tells a mistake in a recipe at once: torch takes seconds to import.

    Raises:
        RecipeError: like `load_recipe`.
    """
    from compress.recipe import load_recipe

    load_recipe(path)
