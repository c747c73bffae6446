"""One network of a comparison: cut by one method to one budget, from weights that all methods of its seed share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compress.artifact import read_json, sha256_json, write_json
from compress.data.base import Dataset
from compress.errors import NetworkError
from compress.pipeline.context import Reporter, RunContext
from compress.pipeline.manifest import Manifest, StageRecord
from compress.pipeline.reporting import layer_channels
from compress.pipeline.run import run_stages
from compress.prune.driver import method_of, problem_of
from compress.prune.problem import PruningProblem
from compress.recipe import PruneSettings, Recipe
from compress.train.checkpoint import load_checkpoint

_RESULT = "result.json"
# What a finished network leaves: of big networks, the rest would fill a disk.
_STAYS = {"manifest.json", _RESULT, "plan.json", "retrained.safetensors", "shared.safetensors", "rewritten.onnx"}
# A share of the cost: rounding to whole weights is no breach of a budget.
_SLACK = 1e-3
# The stages that follow are about the format of the deployable file, whatever method made the network.
_LAST = "rewrite"


@dataclass
class _Within:
    """Tells the stages of one network as the text of one bar."""

    reporter: Reporter
    now: str = field(default="", init=False)

    def stage(self, name: str, status: str) -> None:
        """Remembers what is at work."""
        self.now = name
        if status == "running":
            self.reporter.progress(0.0, name)

    def progress(self, done: float, text: str) -> None:
        """Passes it on, with the stage's name."""
        self.reporter.progress(done, f"{self.now}: {text}")

    def note(self, text: str) -> None:
        """Passes it on."""
        self.reporter.note(text)


@dataclass(frozen=True)
class Bench:
    """What all networks of one seed share.

    Attributes:
        base: the recipe's folder.
        folder: of the shared trainings.
        dataset: the data.
        reporter: who is told.
    """

    base: Path
    folder: Path
    dataset: Dataset
    reporter: Reporter

    def context(self, recipe: Recipe, folder: Path, name: str) -> RunContext:
        """Returns a run of some recipe in some folder; it publishes nothing."""
        return RunContext(recipe, self.base, folder, name, folder, _Within(self.reporter), self.dataset)

    def train(self, recipe: Recipe) -> None:
        """Trains the network that all methods start from, if that has not been done."""
        # Nothing of the cut counts here: a method's mistake must not end the comparison.
        plain = recipe.model_copy(update={"prune": PruneSettings(), "sparsify": None})
        run_stages(self.context(plain, self.folder, "baseline"), until="train")

    def shared(self, recipe: Recipe) -> tuple[Path, list[StageRecord]]:
        """Returns where the weights before the cut are, made if they are missing, and how they came about."""
        records = [Manifest(self.folder, {}).records["train"]]
        if recipe.sparsify is None:
            return self.folder, records
        settings = recipe.sparsify
        word = settings.regularizer.name if settings.regularizer is not None else "none"
        folder = self.folder / f"{word}-{sha256_json(settings.model_dump(mode='json'))[:8]}"
        _adopt(self.folder, folder, records)
        return folder, run_stages(self.context(recipe, folder, f"baseline, {word}"), until="sparsify")


def finished(folder: Path) -> dict[str, Any] | None:
    """Returns what a finished network's folder says, or None."""
    path = folder / _RESULT
    if not path.is_file():
        return None
    found: dict[str, Any] = read_json(path)
    return found


def run_trial(bench: Bench, recipe: Recipe, folder: Path, name: str) -> dict[str, Any]:
    """Cuts, trains and exports one network; interrupted, the same call goes on.

    Args:
        bench: what it shares with others; trained.
        recipe: its own, with a ratio of parameters or MACs.
        folder: of its files.
        name: for progress and manifest.

    Returns:
        `pruned` and `unpruned`, as `compress.report.comparison` takes trials.

    Raises:
        CompressError: as the stages do.
        NetworkError: if the method does not keep to the budget.
    """
    source, shared = bench.shared(recipe)
    share, recipe = recipe.prune.ratio, _with_unit_ratio(recipe, source / "trained.safetensors")
    context = bench.context(recipe, folder, name)
    _adopt(source, folder, shared)
    _hold_to_budget(share, recipe.prune, run_stages(context, until="prune")[-1])
    result = _result(context, run_stages(context, until=_LAST))
    write_json(folder / _RESULT, result)
    tidy(folder)
    return result


def tidy(folder: Path) -> None:
    """Removes from a finished network's folder what nobody needs any more."""
    for path in folder.iterdir():
        if path.name not in _STAYS:
            path.unlink()


def _adopt(source: Path, folder: Path, records: Sequence[StageRecord]) -> None:
    """Lets a folder have what was made in another one, without a second copy where the file system can."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = Manifest(folder, {})
    for record in records:
        if manifest.records.get(record.name) == record and record.intact(folder):
            continue
        for name in record.outputs:
            (folder / name).unlink(missing_ok=True)
            try:
                os.link(source / name, folder / name)
            except OSError:
                shutil.copyfile(source / name, folder / name)
        manifest.add(record)


def _with_unit_ratio(recipe: Recipe, weights: Path) -> Recipe:
    """Returns the recipe with the ratio by which its method reaches the share of the cost that is to go."""
    prune = recipe.prune

    def problem() -> PruningProblem:
        loaded = load_checkpoint(weights)
        return problem_of(loaded.model, loaded.spec.input_shape, prune, None, recipe.seed)

    ratio = method_of(prune).unit_ratio(prune, problem)
    return recipe.model_copy(update={"prune": prune.model_copy(update={"ratio": ratio})})


def _hold_to_budget(share: float, settings: PruneSettings, cut: StageRecord) -> None:
    before, after = (cut.figures[f"cost_{when}"][settings.of] for when in ("before", "after"))
    if after > (1 - share + _SLACK) * before:
        raise NetworkError(
            f"method {settings.method!r} keeps {after / before:.1%} of the {settings.of}, {1 - share:.1%} are allowed",
            next_step="see whether its knobs let it reach a ratio",
        )


def _result(context: RunContext, records: Sequence[StageRecord]) -> dict[str, Any]:
    from safetensors.numpy import load_file

    figures = {record.name: record.figures for record in records}
    cut, rewritten = figures["prune"], figures["rewrite"]
    last, name = ("share", "shared") if "share" in figures else ("retrain", "retrained")
    channels = layer_channels(*(load_file(context.path(f"{part}.safetensors")) for part in ("trained", name)))
    seconds = {record.name: record.seconds for record in records if record.name != "train"}
    return {
        "unpruned": {
            "seed": context.recipe.seed,
            "accuracy": rewritten["before"]["test_accuracy"],
            "validation_accuracy": figures["train"]["validation_accuracy"],
            **cut["cost_before"],
            "file_bytes": context.path("before.onnx").stat().st_size,
            "channels": [{**layer, "kept": layer["before"]} for layer in channels],
        },
        "pruned": {
            "seed": context.recipe.seed,
            "accuracy": rewritten["rewritten"]["test_accuracy"],
            "validation_accuracy": figures[last]["validation_accuracy"],
            **cut["cost_after"],
            "file_bytes": context.path("rewritten.onnx").stat().st_size,
            "seconds": round(sum(seconds.values()), 3),
            "cut_seconds": seconds["prune"],
            "channels": channels,
        },
    }
