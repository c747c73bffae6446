"""`compress explain`: why an ONNX file does not shrink."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compress.cli.options import Epsilon, Exact, Json, Model


def explain(
    model: Model,
    epsilon: Epsilon = None,
    exact: Exact = False,
    markdown: Annotated[Path | None, typer.Option(help="Write a Markdown table here.")] = None,
    as_json: Json = False,
) -> None:
    """Tell why an ONNX file does not shrink, by layer."""
    from compress.artifact import write_text
    from compress.console import print_json, print_line, print_table
    from compress.recipe import RewriteSettings, validate
    from compress.rewrite import explain as explain_model
    from compress.rewrite.explain import reason

    given = {} if epsilon is None and not exact else {"epsilon": 0.0 if exact else epsilon}
    found = explain_model(model, validate(given, RewriteSettings, "options"))
    if markdown is not None:
        write_text(markdown, found.markdown())
    if as_json:
        print_json(found.to_dict())
        return
    rows = ((one.node, one.op, one.channels, one.dead, one.constant, one.duplicate) for one in found.layers)
    print_table(str(model), ("layer", "op", "channels", "dead", "constant", "duplicate"), rows)
    for layer in found.layers:
        for row in layer.kept:
            print_line(f"{layer.node}: {reason(row)}")
    for operator, count in found.unknown.items():
        print_line(f"{operator} × {count}: no rule, all that it touches stays")
