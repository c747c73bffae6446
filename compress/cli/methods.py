"""`compress methods`: what pruning, distillation and quantization know."""

from __future__ import annotations

from compress.cli.options import Json
from compress.cli.requirements import require_torch


def methods(as_json: Json = False) -> None:
    """List methods of pruning and formats, and where they come from.

    With --json: id, kind, what it does, source, knobs.
    """
    require_torch()
    from dataclasses import asdict

    from compress.console import print_json, print_table
    from compress.prune import methods as pruning
    from compress.quantize import list_formats
    from compress.train.distill import list_distillations

    found = [*pruning(), *list_distillations(), *list_formats()]
    if as_json:
        print_json([asdict(method) for method in found])
    else:
        print_table("methods", ("id", "kind", "what it does"), ((m.id, m.kind, m.summary) for m in found))
