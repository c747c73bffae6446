"""Single stages on files from anywhere: what `compress train`, `prune`, `export` and `quantize` do."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from compress.artifact import require_file, require_target, write_json
from compress.errors import CompressError, DataError
from compress.pipeline.context import Reporter, RunContext, Silence
from compress.recipe import OPTIONS, ExportSettings, PruneSettings, QuantizeSettings, load_recipe, validate


def train_file(recipe_path: Path, target: Path, *, reporter: Reporter | None = None) -> dict[str, Any]:
    """Trains the network of a recipe; interrupted, the same call goes on.

    Args:
        recipe_path: the recipe.
        target: the checkpoint to write.
        reporter: who is told how it goes on.

    Returns:
        training history, accuracies in per cent, parameters.
    """
    from compress.pipeline.learning import train_to

    require_target(target, recipe_path)
    state = target.with_name(target.name + ".state")
    figures = train_to(_context(recipe_path, reporter), target, state)
    state.unlink(missing_ok=True)
    return figures


def prune_file(
    source: Path,
    target: Path,
    settings: dict[str, Any] | None = None,
    *,
    recipe_path: Path | None = None,
    plan_path: Path | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Prunes and compacts a checkpoint.

    Args:
        source: a checkpoint that `compress train` or a run wrote.
        target: the compacted checkpoint to write.
        settings: keys of [prune]; the others are the recipe's, or have their defaults.
        recipe_path: where samples come from, for methods that look at data.
        plan_path: where to write the plan, if wanted.
        reporter: who is told how it goes on.

    Returns:
        what was kept, costs before and after.

    Raises:
        CompressError: if neither settings nor a recipe are given, or the method needs data and there is no recipe.
        ModelFileError: if the checkpoint is missing or damaged, or is the target.
    """
    from compress.channels.plan import Plan
    from compress.compact import compact
    from compress.pipeline.learning import as_stored, trainer_of, training_samples
    from compress.prune import Procedure, run_schedule
    from compress.train.checkpoint import load_checkpoint, save_checkpoint

    context = _context(recipe_path, reporter) if recipe_path is not None else None
    if not settings and context is None:
        raise CompressError("nothing says what to prune", next_step="give --method and --ratio, or --recipe")
    given = context.recipe.prune.model_dump(exclude_unset=True) if context else {}
    chosen = validate({**given, **(settings or {})}, PruneSettings, OPTIONS)
    chosen = as_stored(chosen, context.recipe.quantize) if context else chosen
    require_target(target, source)
    loaded = load_checkpoint(require_file(source, "checkpoint"))
    result = run_schedule(
        Procedure(
            loaded.model,
            loaded.spec.input_shape,
            chosen,
            training_samples(context) if context else None,
            context.recipe.seed if context else 0,
            trainer_of(context, folder=None) if context else None,
            (reporter or Silence()).progress,
        )
    )
    compact(loaded.model, result.plan, loaded.spec.input_shape)
    whole = Plan.from_dict(loaded.plan).then(result.plan) if loaded.plan else result.plan
    if plan_path is not None:
        write_json(plan_path, result.plan.to_dict())
    save_checkpoint(target, loaded.model, loaded.spec, plan=whole.to_dict())
    return result.summary()


def export_file(
    source: Path,
    target: Path,
    settings: ExportSettings | None = None,
    *,
    network: str | None = None,
    arguments: dict[str, Any] | None = None,
    input_shape: tuple[int, ...] | None = None,
) -> dict[str, Any]:
    """Exports a checkpoint as ONNX.

    Args:
        source: a checkpoint; one from elsewhere (plain safetensors) needs `network` and `input_shape`.
        target: the ONNX file to write.
        settings: see `ExportSettings`.
        network: a registered name or ``path.py:factory``.
        arguments: keyword arguments of the factory.
        input_shape: (C, H, W) of one image.

    Raises:
        CompressError: if a network is named without its input shape.
        ModelFileError: if the checkpoint is missing or damaged, or is the target.
    """
    from compress.architectures import NetworkSpec
    from compress.export import export
    from compress.train.checkpoint import load_checkpoint

    require_target(target, source)
    spec = None
    if network is not None:
        if input_shape is None:
            raise CompressError("--network needs --input-shape", next_step="e.g. --input-shape 3,32,32")
        spec = NetworkSpec(network, {"in_channels": input_shape[0], **(arguments or {})}, input_shape, Path.cwd())
    loaded = load_checkpoint(require_file(source, "checkpoint"), spec=spec)
    result = export(loaded.model, loaded.spec.input_shape, target, settings)
    return {"path": str(result.path), "file_bytes": result.file_bytes, "max_abs_diff": result.max_abs_diff}


def quantize_file(
    source: Path,
    target: Path,
    settings: QuantizeSettings,
    *,
    recipe_path: Path | None = None,
    inputs: Path | None = None,
) -> dict[str, Any]:
    """Quantizes an ONNX file, calibrated on a recipe's training images or on the arrays of an `.npz` or `.npy`.

    Args:
        source: a float32 ONNX file.
        target: the file to write.
        settings: format and number of samples.
        recipe_path: a recipe whose training images calibrate; the accuracy on its test images is reported too.
        inputs: an `.npz` whose first array [N, …] calibrates, as the network takes it.

    Raises:
        DataError: if there is nothing to calibrate on.
        ModelFileError: if the target is the source.
    """
    from compress.quantize import quantize
    from compress.quantize.evaluate import onnx_accuracy

    # At once: reading and calibrating take a while.
    require_target(target, source)
    context = _context(recipe_path, None) if recipe_path is not None else None
    if context is not None:
        generator = np.random.default_rng([context.recipe.seed, 2])
        samples = context.dataset.train.take(settings.samples, generator)
        result = quantize(source, target, settings, (images for images, _ in samples.batches(settings.samples)))
    else:
        result = quantize(source, target, settings, _arrays(inputs) if inputs is not None else ())
    figures = vars(result) | {"contractions_float": list(result.contractions_float)}
    if context is not None:
        for label, path in (("before", source), ("after", target)):
            figures[f"test_accuracy_{label}"] = onnx_accuracy(path, context.dataset.test)
    return figures


def _arrays(path: Path) -> Iterator[np.ndarray]:
    require_file(path, "calibration inputs")
    try:
        content = np.load(path, allow_pickle=False)
        first = content if isinstance(content, np.ndarray) else content[content.files[0]]
        yield np.asarray(first, dtype=np.float32)
    except (OSError, ValueError, IndexError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} holds no array ({error})", next_step="write it with numpy.savez(path, inputs=…)"
        ) from error


def _context(recipe_path: Path, reporter: Reporter | None) -> RunContext:
    recipe = load_recipe(recipe_path)
    base = recipe_path.resolve().parent
    return RunContext(recipe, base, base, base.name, base, reporter or Silence())
