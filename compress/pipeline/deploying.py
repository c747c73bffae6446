"""The stages without torch: export's files are rewritten, quantized, profiled and checked."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compress.artifact import PROFILE_NAME, atomic_path, device_folder, read_json, sha256_file, write_json
from compress.check import BUDGET_NAME, MODEL_NAME, CheckResult, Row, check
from compress.check.metrics import METRICS_NAME
from compress.errors import MachineError, RecipeError
from compress.pipeline.advice import advice
from compress.pipeline.context import RunContext
from compress.pipeline.manifest import StageRecord
from compress.pipeline.measuring import latencies
from compress.profiling import profile
from compress.quantize import quantize
from compress.quantize.evaluate import onnx_accuracy
from compress.rewrite import rewrite_file


def export_networks(context: RunContext, _: Sequence[StageRecord]) -> dict[str, Any]:
    """Exports the network before and after → exported_before.onnx, exported.onnx."""
    from compress.export import export
    from compress.train.checkpoint import load_checkpoint

    figures = {}
    last = "retrained" if context.recipe.share is None else "shared"
    for source, target in (("trained", "exported_before"), (last, "exported")):
        loaded = load_checkpoint(context.path(f"{source}.safetensors"))
        result = export(loaded.model, loaded.spec.input_shape, context.path(f"{target}.onnx"), context.recipe.export)
        figures[target] = {"file_bytes": result.file_bytes, "max_abs_diff": result.max_abs_diff}
    return figures


def rewrite_models(context: RunContext, _: Sequence[StageRecord]) -> dict[str, Any]:
    """Rewrites both, so that they differ by the pruning alone → before.onnx, rewritten.onnx."""
    settings, measure = context.recipe.rewriting, latencies(context.recipe.profile)
    figures = {}
    for source, target in (("exported_before", "before"), ("exported", "rewritten")):
        files = context.path(f"{source}.onnx"), context.path(f"{target}.onnx")
        result = rewrite_file(*files, settings, measure=measure)
        figures[target] = result.to_dict() | {
            "test_accuracy": onnx_accuracy(context.path(f"{target}.onnx"), context.dataset.test)
        }
    return figures


def quantize_model(context: RunContext, _: Sequence[StageRecord]) -> dict[str, Any]:
    """Quantizes, calibrated on training images → deploy.onnx."""
    settings, dataset = context.recipe.quantize, context.dataset
    samples = dataset.train.take(settings.samples, np.random.default_rng([context.recipe.seed, 2]))
    target = context.path("deploy.onnx")
    images = (batch for batch, _ in samples.batches(settings.samples))
    result = quantize(context.path("rewritten.onnx"), target, settings, images)
    return {**vars(result), "contractions_float": list(result.contractions_float)} | {
        "test_accuracy": onnx_accuracy(target, dataset.test)
    }


def profile_models(context: RunContext, _: Sequence[StageRecord]) -> dict[str, Any]:
    """Measures latency, load time and memory, before and after, on each device → profile.json.

    A device that is only to be shown besides and cannot be had here is left out, and that is told.
    """
    names = ["before", "rewritten", "deploy"]
    if sha256_file(context.path("rewritten.onnx")) == sha256_file(context.path("deploy.onnx")):
        names.remove("rewritten")
    settings = context.recipe.profile
    rows, skipped, told = [], {}, []
    for device in dict.fromkeys([settings.device, *settings.also]):
        there = settings.model_copy(update={"device": device})
        try:
            reports = profile([context.path(f"{name}.onnx") for name in names], there, tell=context.reporter.note)
        except MachineError as error:
            if device == settings.device:
                raise
            skipped[device] = str(error)
            context.reporter.note(f"without device {device!r}: {error}")
            continue
        told += advice(device, dict(zip(names, reports, strict=True)), context.recipe)
        rows += [r.to_dict() | {"name": name, "asked": device} for name, r in zip(names, reports, strict=True)]
    for line in told:
        context.reporter.note(line)
    write_json(context.path("profile.json"), rows)
    return {"device": settings.device, "models": names, "skipped": skipped, "advice": told}


def check_budget(context: RunContext, before: Sequence[StageRecord]) -> dict[str, Any]:
    """Publishes the artefact and holds it against its budget → metrics.json, check.json, the export folder."""
    figures = {record.name: record.figures for record in before}
    accuracy = {
        "before": figures["rewrite"]["before"]["test_accuracy"],
        "after": figures["quantize"]["test_accuracy"],
    }
    deployed = [row for row in read_json(context.path("profile.json")) if row["name"] == "deploy"]
    for row in deployed:
        kept = {key: value for key, value in row.items() if key not in ("name", "asked")}
        write_json(context.path(_kept_name(row)), kept | {"model": str(context.export_folder / MODEL_NAME)})
    metrics = {
        "model_sha256": sha256_file(context.path("deploy.onnx")),
        "accuracy": accuracy,
        "latency_ratio": {row["asked"]: {k: row["ratio"][k] for k in ("ratio", "low", "high")} for row in deployed},
    }
    write_json(context.path(METRICS_NAME), metrics)
    folder = context.export_folder
    published = _published(context)
    if BUDGET_NAME not in published:
        (folder / BUDGET_NAME).unlink(missing_ok=True)
    for name, source in published.items():
        _copy(source, folder / name)
    result = check(folder / MODEL_NAME) if BUDGET_NAME in published else None
    write_json(context.path("check.json"), result.to_dict() if result else None)
    return {"passed": result.passed if result else None, "metrics": metrics}


def is_published(context: RunContext) -> bool:
    """Tells whether the export folder holds what this run published there, unchanged."""
    targets = {context.export_folder / name: source for name, source in _published(context).items()}
    if not all(path.is_file() for pair in targets.items() for path in pair):
        return False
    return all(sha256_file(target) == sha256_file(source) for target, source in targets.items())


def _published(context: RunContext) -> dict[str, Path]:
    budget = budget_path(context)
    files = {MODEL_NAME: context.path("deploy.onnx"), METRICS_NAME: context.path(METRICS_NAME)}
    for row in read_json(context.path("profile.json")):
        files[f"{device_folder(row['device'])}/{PROFILE_NAME}"] = context.path(_kept_name(row))
    return files if budget is None else {**files, BUDGET_NAME: budget}


def _kept_name(row: dict[str, Any]) -> str:
    return f"profile-{device_folder(row['device'])}.json"


def budget_path(context: RunContext) -> Path | None:
    """Returns the budget's file; None if the recipe wants none, or names the default one and it is absent.

    Raises:
        RecipeError: if the recipe names a file of its own that is absent.
    """
    name = context.recipe.budget
    if name is None:
        return None
    path = context.base / name
    if not path.is_file():
        if "budget" in context.recipe.model_fields_set:
            raise RecipeError(f"budget {path} does not exist", next_step="write it, or remove the key from the recipe")
        return None
    return path


def read_check(folder: Path) -> CheckResult | None:
    """Reads what the check stage wrote."""
    content = read_json(folder / "check.json")
    return CheckResult(tuple(Row(**row) for row in content["rows"])) if content else None


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
