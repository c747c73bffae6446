"""The stages of a run, in order: what each reads, what each writes, and which settings decide it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compress.check import CheckResult
from compress.pipeline import deploying, learning, reporting
from compress.pipeline.context import RunContext
from compress.pipeline.manifest import StageRecord
from compress.prune.driver import method_of
from compress.prune.schedules import schedules
from compress.recipe import Recipe
from compress.targets.choose import target_named

Work = Callable[[RunContext, Sequence[StageRecord]], dict[str, Any]]


def _nothing(_: RunContext) -> list[Path]:
    return []


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: as the manifest and the progress show it.
        work: does it; gets the records of the stages before it, returns its figures.
        settings: everything of the recipe that decides the result, as a JSON value.
        inputs: files of earlier stages that it reads, where they exist.
        outputs: files that it writes.
        external: files from elsewhere that it reads.
        applies: whether a recipe asks for it.
        states: patterns of files from which it goes on after an interruption; removed once it is done.
        after_all: whether it depends on everything that earlier stages measured.
        still_published: tells whether what it wrote outside the run folder is still there, unchanged.
    """

    name: str
    work: Work
    settings: Callable[[RunContext], Any]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    external: Callable[[RunContext], list[Path]] = field(default=_nothing)
    applies: Callable[[Recipe], bool] = field(default=lambda _: True)
    states: tuple[str, ...] = ()
    after_all: bool = False
    still_published: Callable[[RunContext], bool] = field(default=lambda _: True)


def _section(*names: str, data: bool = False, code: bool = False) -> Callable[[RunContext], Any]:
    """Returns what reads tables of the recipe, with fingerprints of the data and the user's code where they count.

    The seed counts where the data do: it chooses their splits.
    """

    def read(context: RunContext) -> Any:
        recipe = context.recipe.model_dump(mode="json")
        found = {name: recipe[name] for name in names}
        if data:
            found |= {"seed": recipe["seed"], "data_fingerprint": context.data_fingerprint()}
        if code:
            found["code_fingerprint"] = context.code_fingerprint(context.recipe.model.network)
        return found

    return read


def _retrain(context: RunContext) -> Any:
    distill = context.recipe.retrain.distill
    teacher = context.code_fingerprint(distill.network) if distill and distill.network else None
    return {**_section("data", "retrain", data=True, code=True)(context), "teacher_fingerprint": teacher}


def _check(context: RunContext) -> Any:
    # The rows of a check name the published file.
    return {**_section("budget")(context), "export": str(context.export_folder)}


def _prune_settings(context: RunContext) -> Any:
    """Returns what decides the cut: the retraining too, where the schedule or the method trains."""
    found = _section("data", data=True, code=True)(context)
    settings = learning.as_stored(context.recipe.prune, context.recipe.quantize)
    found |= {"prune": settings.model_dump(mode="json")}
    if settings.round_to == "auto":
        found["widths"] = repr(target_named(settings.target).widths)
    return {**found, "between": _retrain(context)} if _trains(context) else found


def _trains(context: RunContext) -> bool:
    settings = context.recipe.prune
    return schedules.get(settings.schedule.name).trains or method_of(settings).trains


def _train_settings(context: RunContext) -> Any:
    found = _section("model", "data", "train", data=True, code=True)(context)
    return {**found, "rewind_epochs": context.recipe.retrain.rewind_epochs}


def _rewrite(context: RunContext) -> Any:
    """Returns what decides the rewriting: how latency is measured too, where that decides how to round."""
    names = ("rewrite", "profile") if context.recipe.rewrite.round_to == "auto" else ("rewrite",)
    found = _section(*names, "data", data=True)(context)
    settings = context.recipe.rewriting
    if settings.target is not None:
        found["widths"] = repr(target_named(settings.target).widths)
    return found | {"rewrite": settings.model_dump(mode="json")}


def _weights(context: RunContext) -> list[Path]:
    name = context.recipe.model.checkpoint
    return [context.find(name, "checkpoint")] if name else []


def _teacher(context: RunContext) -> list[Path]:
    distill = context.recipe.retrain.distill
    return [context.find(distill.checkpoint, "teacher's checkpoint")] if distill and distill.checkpoint else []


def _budget(context: RunContext) -> list[Path]:
    path = deploying.budget_path(context)
    return [path] if path is not None else []


_ONNX = ("before.onnx", "rewritten.onnx", "deploy.onnx")

STAGES: tuple[Stage, ...] = (
    Stage(
        "train",
        learning.train,
        _train_settings,
        outputs=("trained.safetensors", learning.INITIAL),
        external=_weights,
        states=("train.state",),
    ),
    Stage(
        "sparsify",
        learning.sparsify,
        _section("data", "sparsify", data=True, code=True),
        inputs=("trained.safetensors",),
        outputs=("sparse.safetensors",),
        applies=lambda recipe: recipe.sparsify is not None,
        states=("sparsify.state",),
    ),
    Stage(
        "prune",
        learning.prune_channels,
        _prune_settings,
        inputs=("trained.safetensors", learning.INITIAL, "sparse.safetensors"),
        outputs=("pruned.safetensors", "plan.json", learning.HELD),
        external=lambda context: _teacher(context) if _trains(context) else [],
        states=("prune.*.state",),
    ),
    Stage(
        "compact",
        learning.compact_network,
        _section("data", data=True, code=True),
        inputs=("pruned.safetensors", "plan.json", learning.HELD),
        outputs=("compact.safetensors", learning.HELD_COMPACT),
    ),
    Stage(
        "retrain",
        learning.retrain,
        _retrain,
        inputs=("trained.safetensors", learning.INITIAL, "plan.json", "compact.safetensors", learning.HELD_COMPACT),
        outputs=("retrained.safetensors",),
        external=_teacher,
        states=("retrain.state",),
    ),
    Stage(
        "share",
        learning.share,
        _section("data", "share", data=True, code=True),
        inputs=("retrained.safetensors",),
        outputs=("shared.safetensors",),
        applies=lambda recipe: recipe.share is not None,
        states=("share.state",),
    ),
    Stage(
        "export",
        deploying.export_networks,
        _section("export", code=True),
        inputs=("trained.safetensors", "retrained.safetensors", "shared.safetensors"),
        outputs=("exported_before.onnx", "exported.onnx"),
    ),
    Stage(
        "rewrite",
        deploying.rewrite_models,
        _rewrite,
        inputs=("exported_before.onnx", "exported.onnx"),
        outputs=("before.onnx", "rewritten.onnx"),
    ),
    Stage(
        "quantize",
        deploying.quantize_model,
        _section("quantize", "data", data=True),
        inputs=("rewritten.onnx",),
        outputs=("deploy.onnx",),
    ),
    Stage("profile", deploying.profile_models, _section("profile"), inputs=_ONNX, outputs=("profile.json",)),
    Stage(
        "check",
        deploying.check_budget,
        _check,
        inputs=(*_ONNX, "profile.json"),
        outputs=("check.json", "metrics.json"),
        external=_budget,
        after_all=True,
        still_published=deploying.is_published,
    ),
    Stage(
        "report",
        reporting.report,
        _section("model"),
        outputs=("report.json", "report.md", "report.html"),
        after_all=True,
    ),
)


def last_check(folder: Path) -> CheckResult | None:
    """Returns the budget's rows as the check stage of a run folder left them, or None without a budget."""
    return deploying.read_check(folder)
