"""The last stage: everything that was measured, as one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compress.artifact import read_json, sha256_file
from compress.check import measure
from compress.pipeline.context import RunContext
from compress.pipeline.deploying import read_check
from compress.pipeline.machine import machine_facts
from compress.pipeline.manifest import StageRecord
from compress.report import RunFigures, write_report

_BINS = 41
# Figures that have sections of their own, or that are too long for a row of the stage table.
_ELSEWHERE = {"history", "groups", "blocked", "notes", "order", "losses", "phases", "energies", "advice"}


def report(context: RunContext, before: Sequence[StageRecord]) -> dict[str, Any]:
    """Collects the figures of all stages → report.json, report.md, report.html."""
    run = RunFigures.from_dict(_figures(context, before))
    write_report(run, context.folder)
    return {}


def _figures(context: RunContext, before: Sequence[StageRecord]) -> dict[str, Any]:
    figures = {record.name: record.figures for record in before}
    check = read_check(context.folder)
    rewritten = figures["rewrite"]["rewritten"]
    return {
        "name": context.name,
        "recipe": context.recipe.model_dump(mode="json", exclude_none=True),
        "machine": machine_facts(),
        "seed": context.recipe.seed,
        "stages": [
            {"name": record.name, "seconds": record.seconds, "status": "done", "figures": _short(record.figures)}
            for record in before
        ],
        "accuracies": _accuracies(figures),
        "sizes": {"before": _size(context, "before.onnx"), "after": _size(context, "deploy.onnx")},
        "deployable": {
            "path": str(context.export_folder / "model.onnx"),
            "sha256": sha256_file(context.path("deploy.onnx")),
            "format": figures["quantize"]["format"],
        },
        **_weights(context),
        **{name: _section(figures, name) for name in ("phases", "energies")},
        "training": [
            {"stage": name, "history": stage["history"]} for name, stage in figures.items() if stage.get("history")
        ],
        "latency": _latency(context),
        "budget": [
            {
                "name": row.name,
                "measured": row.measured,
                "limit": row.limit,
                "passed": row.passed,
                "note": row.note or None,
            }
            for row in (check.rows if check else ())
        ],
        "rewrite": {key: value for key, value in rewritten.items() if key in _REWRITE},
        "notes": [
            *figures["profile"]["advice"],
            *rewritten["notes"],
            *_device_notes(context, figures["profile"]["skipped"]),
        ],
    }


_REWRITE = {
    "params_before", "params_after", "macs_before", "macs_after", "file_bytes_before", "file_bytes_after",
    "channels_removed", "max_abs_diff", "seconds", "blocked",
}  # fmt: skip


def _short(figures: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _short(value) if isinstance(value, dict) else value
        for key, value in figures.items()
        if key not in _ELSEWHERE
    }


def _section(figures: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Returns what some stage's method has to tell for a section of the report; nothing if none has."""
    return next((list(stage[name]) for stage in figures.values() if name in stage), [])


def _accuracies(figures: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for name, label in (
        ("train", "trained"),
        ("sparsify", "sparsified"),
        ("compact", "pruned"),
        ("retrain", "retrained"),
        ("share", "shared"),
    ):
        for split in ("validation", "test"):
            value = figures.get(name, {}).get(f"{split}_accuracy")
            if value is not None:
                found.append({"stage": label, "split": split, "accuracy": value})
    found.append({"stage": "rewritten", "split": "test", "accuracy": figures["rewrite"]["rewritten"]["test_accuracy"]})
    quantized = figures["quantize"]
    if quantized["format"] != "none":
        found.append({"stage": quantized["format"], "split": "test", "accuracy": quantized["test_accuracy"]})
    return found


def _size(context: RunContext, name: str) -> dict[str, Any]:
    facts = measure(context.path(name))
    return {key: getattr(facts, key) for key in ("file_bytes", "parameters", "macs", "peak_activation_bytes")}


def _weights(context: RunContext) -> dict[str, Any]:
    """Returns channels and weight histograms of each weight with rows, before and after."""
    from safetensors.numpy import load_file

    last = "retrained" if context.recipe.share is None else "shared"
    before, after = (load_file(context.path(f"{name}.safetensors")) for name in ("trained", last))
    histograms = []
    for name, weight in before.items():
        if not _has_channels(name, before, after):
            continue
        layer = name.removesuffix(".weight")
        limit = float(max(np.abs(weight).max(), np.abs(after[name]).max())) or 1.0
        edges = np.linspace(-limit, limit, _BINS + 1)
        counts = [np.histogram(np.clip(w, -limit, limit), edges)[0].tolist() for w in (weight, after[name])]
        histograms.append({"layer": layer, "edges": edges.tolist(), "before": counts[0], "after": counts[1]})
    return {"channels": layer_channels(before, after), "weights": histograms}


def layer_channels(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Returns how many output channels each weight with rows had, and has.

    Args:
        before: weights by name.
        after: of the same network, cut.
    """
    return [
        {"layer": name.removesuffix(".weight"), "before": weight.shape[0], "kept": after[name].shape[0]}
        for name, weight in before.items()
        if _has_channels(name, before, after)
    ]


def _has_channels(name: str, before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> bool:
    return before[name].ndim > 1 and name in after


def _device_notes(context: RunContext, skipped: dict[str, str]) -> list[str]:
    """Returns what a reader must know of the devices."""
    rows = read_json(context.path("profile.json"))
    notes = [f"device {row['asked']}: {note}" for row in rows for note in row["notes"]]
    notes += [f"device {row['asked']} is {row['device']}" for row in rows if row["asked"] == "arm"]
    return list(dict.fromkeys([*notes, *(f"without device {name}: {why}" for name, why in skipped.items())]))


def _latency(context: RunContext) -> list[dict[str, Any]]:
    rows = []
    for row in read_json(context.path("profile.json")):
        ratio = row["ratio"]
        rows.append(
            {
                "model": row["name"],
                "device": row["asked"],
                "kind": row["kind"],
                **(
                    {"instructions": row["minimum"]}
                    if row["unit"] == "instructions"
                    else {"p50_ms": row["p50"] / 1000, "p90_ms": row["p90"] / 1000}
                ),
                "load_ms": row["load_ms"],
                "peak_rss_bytes": row["peak_rss_bytes"],
                "file_bytes": row["file_bytes"],
                "operators": [
                    {"operator": o["operator"], "node": o["node"], "cost": o["cost"], "share": o["share"]}
                    for o in row["operators"]
                ],
                **(
                    {f"ratio{k}": ratio[v] for k, v in (("", "ratio"), ("_low", "low"), ("_high", "high"))}
                    if ratio
                    else {}
                ),
                **({"verdict": ratio["verdict"]} if ratio else {}),
            }
        )
    return rows
