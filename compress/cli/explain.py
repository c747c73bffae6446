"""`compress explain`: why an ONNX file does not shrink."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compress.cli.options import Epsilon, Exact, Json, Model, RoundTo, Stripes, Target
from compress.cli.rewriting import rewrite_settings


def explain(
    model: Model,
    epsilon: Epsilon = None,
    exact: Exact = False,
    round_to: RoundTo = "none",
    target: Target = None,
    stripes: Stripes = "auto",
    markdown: Annotated[Path | None, typer.Option(help="Write a Markdown table here.")] = None,
    as_json: Json = False,
) -> None:
    """Tell why an ONNX file does not shrink, by layer.

    With --round-to also what rounding keeps; nothing is measured: auto stands for what is known of the target.
    """
    from compress.artifact import write_text
    from compress.console import print_json, print_line, print_table
    from compress.rewrite import explain as explain_model
    from compress.rewrite.explain import reason

    found = explain_model(model, rewrite_settings(epsilon, exact, round_to, target, stripes))
    if markdown is not None:
        write_text(markdown, found.markdown())
    if as_json:
        print_json(found.to_dict())
        return
    # A terminal is narrow, and names of layers are long: counts that are 0 throughout share one line.
    columns = tuple(name for name in found.columns if name == "channels" or name not in found.empty)
    print_table(str(model), ("layer", "op", *columns), found.rows(columns))
    if len(columns) < len(found.columns):
        print_line(f"in no layer: {', '.join(name for name in found.columns if name not in columns)}")
    for layer in found.layers:
        for row in layer.kept:
            print_line(f"{layer.node}: {reason(row)}")
        if layer.kernel:
            print_line(f"{layer.node}: {layer.kernel}")
    for operator, count in found.unknown.items():
        print_line(f"{operator} × {count}: no rule, all that it touches stays")
