"""Running the stages: each is done once, and again only if what it depends on has changed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress import __version__
from compress.artifact import cleanup_partial, folder_for, sha256_file, sha256_json
from compress.check import CheckResult
from compress.errors import CompressError, MachineError, suggestion
from compress.pipeline.context import Reporter, RunContext, Silence
from compress.pipeline.machine import machine_facts
from compress.pipeline.manifest import Manifest, StageRecord, timed
from compress.pipeline.preflight import preflight
from compress.pipeline.stages import STAGES, Stage, last_check
from compress.recipe import load_recipe
from compress.report import RunFigures

_LOCK = ".lock"


@dataclass(frozen=True)
class RunResult:
    """What a run ends with.

    Attributes:
        folder: the run folder.
        figures: everything that was measured.
        check: the budget's rows, or None without a budget.
        model: the deployable file.
        report: the HTML report.
    """

    folder: Path
    figures: RunFigures
    check: CheckResult | None
    model: Path
    report: Path


def run(
    recipe_path: Path,
    folder: Path | None = None,
    *,
    export: Path = Path("export"),
    reporter: Reporter | None = None,
) -> RunResult:
    """Runs a recipe, from where the last run of its folder ended.

    Args:
        recipe_path: the recipe.
        folder: the run folder; default: ``runs/<name of the recipe>``.
        export: where artefacts are published, each in a folder of the run's name.
        reporter: who is told how it goes on.

    Raises:
        CompressError: as the stages do. What was finished before stays finished.
    """
    recipe = load_recipe(recipe_path)
    name = run_name(recipe_path)
    folder = (folder or Path("runs") / name).absolute()
    published = (export / name).absolute()
    context = RunContext(recipe, recipe_path.resolve().parent, folder, name, published, reporter or Silence())
    run_stages(context)
    figures = RunFigures.from_dict(_read_report(folder))
    return RunResult(folder, figures, last_check(folder), published / "model.onnx", folder / "report.html")


def run_stages(context: RunContext, *, until: str | None = None) -> list[StageRecord]:
    """Does the stages of a run, from where the last run of its folder ended.

    Args:
        context: the run.
        until: name of the last stage to do; default: all.

    Returns:
        What each stage measured, in order.

    Raises:
        CompressError: as the stages do, or if there is no such stage. What was finished before stays finished.
    """
    names = [stage.name for stage in STAGES]
    if until is not None and until not in names:
        raise CompressError(f"a run has no stage {until!r}", next_step=suggestion(until, names))
    wanted = STAGES if until is None else STAGES[: names.index(until) + 1]
    with locked(context.folder):
        cleanup_partial(context.folder)
        cleanup_partial(context.export_folder)
        facts = {
            "name": context.name,
            "recipe": context.recipe.model_dump(mode="json"),
            "seed": context.recipe.seed,
            "machine": machine_facts(),
        }
        manifest = Manifest(context.folder, facts)
        done: list[tuple[StageRecord, bool]] = []
        for stage in wanted:
            if stage.applies(context.recipe):
                done.append(_run_stage(stage, context, manifest, done))
    return [record for record, _ in done]


def run_name(recipe_path: Path) -> str:
    """Returns the name of a run: the recipe's folder if the file is called recipe.toml, else the file's stem."""
    return recipe_path.resolve().parent.name if recipe_path.name == "recipe.toml" else recipe_path.stem


def _run_stage(
    stage: Stage, context: RunContext, manifest: Manifest, done: list[tuple[StageRecord, bool]]
) -> tuple[StageRecord, bool]:
    made = {file: sha for record, _ in done for file, sha in record.outputs.items()}
    inputs = {file: made[file] for file in stage.inputs if file in made}
    inputs |= {str(path): sha256_file(path) for path in stage.external(context)}
    parts: dict[str, Any] = {
        "version": __version__,
        "stage": stage.name,
        "settings": stage.settings(context),
        "inputs": sorted(inputs.values()),
    }
    if stage.after_all:
        parts["before"] = [[record.name, record.key, record.outputs] for record, _ in done]
    key = sha256_json(parts)
    earlier = manifest.records.get(stage.name)
    if earlier is not None and earlier.key == key and earlier.intact(context.folder) and stage.still_published(context):
        context.reporter.stage(stage.name, "reused")
        return earlier, True
    if all(reused for _, reused in done):
        preflight(context, training=not done)
    context.reporter.stage(stage.name, "running")
    records = [record for record, _ in done]
    figures, seconds = timed(lambda: stage.work(context, records))
    outputs = {file: sha256_file(context.path(file)) for file in stage.outputs if context.path(file).is_file()}
    record = StageRecord(stage.name, key, seconds, inputs, outputs, figures)
    manifest.add(record)
    # Only now: until the stage is in the manifest, an interruption must find the training state again.
    for pattern in stage.states:
        for state in context.folder.glob(pattern):
            state.unlink()
    context.reporter.stage(stage.name, "done")
    return record, False


@contextmanager
def locked(folder: Path, *marks: str) -> Iterator[None]:
    """Keeps a second run out of the folder, which is made if it is missing, and goes again if nothing came of it.

    Args:
        folder: of the run.
        marks: names of files there that only say whose it is.

    Raises:
        MachineError: if another one is at work there, or it cannot be written.
    """
    lock = folder / _LOCK
    with ExitStack() as stack:
        try:
            stack.enter_context(folder_for(folder))
            # Opened for appending: truncating would change its time.
            file = stack.enter_context(lock.open("a"))
        except OSError as error:
            raise MachineError(
                f"cannot write to {folder} ({error.strerror})", next_step="choose another with --folder"
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_nlink == 0:
                raise BlockingIOError("whoever held it has just removed it")
        except OSError as error:
            raise MachineError(
                f"another run is at work in {folder}", next_step="wait for it, or use --folder"
            ) from error
        try:
            yield
        finally:
            with suppress(FileNotFoundError):
                present = list(folder.iterdir())
                if {one.name for one in present} <= {_LOCK, *marks}:
                    for one in present:
                        one.unlink()


def _read_report(folder: Path) -> dict[str, object]:
    from compress.artifact import read_json

    content: dict[str, object] = read_json(folder / "report.json")
    return content
