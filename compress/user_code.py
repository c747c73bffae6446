"""The user's own Python: a reference such as ``net.py:build`` becomes the object that it names."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import sys
import traceback
from pathlib import Path
from typing import Any

from compress.errors import CompressError, suggestion


def is_reference(text: str) -> bool:
    """Tells whether `text` names something in a Python file, e.g. ``net.py:build``."""
    return ".py:" in text


def reference_path(text: str, base: Path) -> Path:
    """Returns the file of a reference; relative paths count from `base`."""
    return (base / text.rpartition(":")[0]).resolve()


def load_reference(text: str, base: Path) -> Any:
    """Imports the file of a reference and returns what it names.

    Args:
        text: ``path.py:name``; a relative path counts from `base`.
        base: the recipe's folder.

    Raises:
        CompressError: if the file is missing, fails on import, or lacks the name; a failing line is named.
    """
    path, name = reference_path(text, base), text.rpartition(":")[2]
    if not path.is_file():
        raise CompressError(f"{text}: {path} does not exist", next_step="give a path from the recipe's folder")
    # The name holds the path's hash: two files called net.py are two modules.
    module_name = f"compress_user_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise CompressError(f"{text}: {path} is not a Python file", next_step="give a file ending in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    # A module may import its neighbours, as a script in that folder could.
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(module_name, None)
        raise CompressError(
            f"{path}:{_line(error, path)}: {type(error).__name__}: {error}",
            next_step="mend the file; `python` it to see the rest",
        ) from error
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(path.parent))
    if not hasattr(module, name):
        names = [key for key in vars(module) if not key.startswith("_")]
        raise CompressError(f"{path} has no {name!r}", next_step=suggestion(name, names))
    return getattr(module, name)


def _line(error: BaseException, path: Path) -> int:
    """Returns the line of `path` where `error` arose; the deepest, if several calls of it are under way."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno or 1
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return (lines[-1] if lines else None) or 1
