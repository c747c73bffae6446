"""Which models a check is of, and what to do where one has no budget."""

from __future__ import annotations

import shlex
from pathlib import Path

from compress.errors import ModelFileError, RecipeError
from compress.recipe import Budget, load_budget

MODEL_NAME = "model.onnx"
BUDGET_NAME = "budget.toml"


def models_of(path: Path, *, every: bool) -> list[Path]:
    """Returns the model files that a check is of, which may be absent or damaged.

    Args:
        path: a model file, or a folder.
        every: each model in the folder and below; else those in folders that hold a budget.

    Raises:
        RecipeError: if there is no budget in the folder or below.
        ModelFileError: if there is no such folder, no one model where a budget is, or no sound one where none is.
    """
    if path.suffix == ".onnx" or path.is_file():
        return [path]
    if not path.is_dir():
        raise ModelFileError(f"{path} does not exist", next_step="name a model file, or a folder such as export/")
    present = _models_below(path)
    if every:
        if not present:
            raise ModelFileError(f"no ONNX file in {path} or below", next_step="name a model file, or its folder")
        return present
    budgets = _below(path, BUDGET_NAME)
    if not budgets:
        how = how_to_budget(present[0]) if present else f"put one beside each {MODEL_NAME}, or run `compress run`"
        raise RecipeError(f"no {BUDGET_NAME} in {path} or below", next_step=how)
    return [_model_in(budget.parent) for budget in budgets]


def budget_beside(model: Path) -> Budget:
    """Reads the budget of a model, which is known to be sound.

    Raises:
        RecipeError: if there is none, with how to make one, or it is malformed.
    """
    path = model.with_name(BUDGET_NAME)
    if not path.exists():
        raise RecipeError(f"no {BUDGET_NAME} beside {model}", next_step=how_to_budget(model))
    return load_budget(path)


def how_to_budget(model: Path) -> str:
    """Returns how to make the smallest budget of use: the file may not grow. Raises like `total_bytes`."""
    from compress.onnx_io.file import total_bytes

    target = shlex.quote(str(model.with_name(BUDGET_NAME)))
    return f"make one, e.g. `echo 'file_bytes = {total_bytes(model)}' > {target}`, or name one with --budget"


def _models_below(folder: Path) -> list[Path]:
    """Returns each folder's model, or all of them where none is called so."""
    files = _below(folder, "*.onnx")
    named = {file.parent for file in files if file.name == MODEL_NAME}
    return [file for file in files if file.name == MODEL_NAME or file.parent not in named]


def _below(folder: Path, pattern: str) -> list[Path]:
    files = sorted(file for file in folder.rglob(pattern) if file.is_file())
    return [file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts)]


def _model_in(folder: Path) -> Path:
    if (folder / MODEL_NAME).is_file():
        return folder / MODEL_NAME
    others = sorted(folder.glob("*.onnx"))
    if len(others) > 1:
        raise ModelFileError(
            f"{folder} holds several models", got=[file.name for file in others], next_step=f"call one {MODEL_NAME}"
        )
    return others[0] if others else folder / MODEL_NAME
