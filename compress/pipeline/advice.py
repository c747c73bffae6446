"""What to try where less work takes no less time: said beside the figures, not left to the reader."""

from __future__ import annotations

from collections.abc import Mapping

from compress.profiling import ProfileReport
from compress.profiling.compare import ratio_of
from compress.profiling.statistics import Ratio
from compress.recipe import Recipe

_DEARER = {"slower": "takes longer", "more instructions": "takes more instructions"}


def advice(device: str, reports: Mapping[str, ProfileReport], recipe: Recipe) -> list[str]:
    """Returns what a run's figures on one device call for, a line each; nothing where all is well.

    Args:
        device: as the recipe calls it.
        reports: of ``before``, ``deploy`` and, where the two differ, ``rewritten``: pruned, not yet quantized.
        recipe: of the run.
    """
    found = []
    pruned = reports.get("rewritten", reports["deploy"])
    cut, stored = ratio_of(pruned, reports["before"]), ratio_of(reports["deploy"], pruned)
    if cut.verdict in _DEARER:
        found.append(f"{device}: pruned, the network {_worse(cut)}, {_widths(device, recipe)}")
    if stored.verdict in _DEARER:
        found.append(
            f"{device}: as {recipe.quantize.format}, the pruned network {_worse(stored)}; "
            'next: [quantize] format = "none" there, unless it is for the size'
        )
    return found


def _worse(ratio: Ratio) -> str:
    return f"{_DEARER[ratio.verdict]} ({ratio.ratio:.2f}×)"


def _widths(device: str, recipe: Recipe) -> str:
    if recipe.prune.round_to == "auto":
        return "though its widths suit the device; next: prune more"
    target = "" if device == "host" else f', target = "{device}"'
    return f'as some widths are computed badly there; next: [prune] round_to = "auto"{target} keeps to those that pay'
