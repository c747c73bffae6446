"""compress: from a trained network to a budgeted, proven, measured artefact on an embedded target.

The verbs, each imported when it is first used: `run`, `compare`, `prune`, `export`, `rewrite`, `quantize`, `profile`,
`check`.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from compress.version import __version__

# ONNX Runtime would keep a log of the models that it runs, and send it; it asks when it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["__version__", "check", "compare", "export", "profile", "prune", "quantize", "rewrite", "run"]

if TYPE_CHECKING:
    from compress.check import check as check
    from compress.export import export as export
    from compress.pipeline import run as run
    from compress.pipeline.comparing import compare as compare
    from compress.profiling import profile as profile
    from compress.prune import prune as prune
    from compress.quantize import quantize as quantize
    from compress.rewrite import rewrite as rewrite

_HOMES = {"run": "compress.pipeline", "compare": "compress.pipeline", "profile": "compress.profiling"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'compress' has no attribute {name!r}")
    module = importlib.import_module(_HOMES.get(name, f"compress.{name}"))
    return getattr(module, name) if name in _HOMES else module
