"""The stages in torch: train, sparsify, prune, compact, retrain, share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from compress.architectures import NetworkSpec, build_network
from compress.artifact import read_json, write_json
from compress.channels.plan import Plan
from compress.compact import compact
from compress.data.base import Augment
from compress.errors import NetworkError
from compress.pipeline.context import RunContext
from compress.pipeline.manifest import StageRecord
from compress.prune import (
    Procedure,
    Survivors,
    Trainer,
    WeightMask,
    bind_regularizer,
    run_schedule,
    treatment_of,
)
from compress.prune.regularizers.weight_sharing import share_weights
from compress.prune.schedules import schedules
from compress.quantize.format import formats
from compress.recipe import PruneSettings, QuantizeSettings, Recipe, TrainSettings
from compress.train.checkpoint import load_checkpoint, save_checkpoint
from compress.train.evaluate import accuracy
from compress.train.hooks import Hook, Masks
from compress.train.loop import Progress, fit

INITIAL = "initial.safetensors"
HELD, HELD_COMPACT = "held.safetensors", "compact_held.safetensors"


def train(context: RunContext, _: Sequence[StageRecord]) -> dict[str, Any]:
    """Builds the network → initial.safetensors, loads or trains its weights → trained.safetensors."""
    initial = context.path(INITIAL) if context.recipe.train is not None else None
    return train_to(context, context.path("trained.safetensors"), context.path("train.state"), initial=initial)


def needs_initial(recipe: Recipe) -> bool:
    """Tells whether a later stage reads the weights from before the training."""
    return (
        schedules.get(recipe.prune.schedule.name).start == "initial"
        or treatment_of(recipe.retrain.weights).needs_initial
    )


def train_to(context: RunContext, target: Path, state: Path, *, initial: Path | None = None) -> dict[str, Any]:
    """Builds the recipe's network, loads or trains its weights, and saves it.

    Args:
        context: the recipe and its data.
        target: the checkpoint to write.
        state: from where an interrupted training goes on.
        initial: where to keep the weights from before the training, or after `retrain.rewind_epochs` of it.

    Returns:
        training history, accuracies in per cent, parameters.
    """
    recipe = context.recipe
    spec = network_spec(context, recipe.model.network, recipe.model.arguments)
    plan = None
    if recipe.model.checkpoint is not None:
        loaded = load_checkpoint(context.find(recipe.model.checkpoint, "checkpoint"), spec=spec)
        network, plan = loaded.model, loaded.plan
    else:
        torch.manual_seed(recipe.seed)
        network = build_network(spec)
    hooks: tuple[Hook, ...] = ()
    if initial is not None:
        keeper = _KeepsEarly(initial, spec, plan, recipe.retrain.rewind_epochs)
        keeper.after_epoch(network, 0)
        hooks = (keeper,)
    history = _fit(context, network, recipe.train, state, hooks=hooks) if recipe.train is not None else []
    save_checkpoint(target, network, spec, plan=plan)
    return {"history": history, **_accuracies(context, network), "parameters": _parameters(network)}


@dataclass(frozen=True)
class _KeepsEarly(Hook):
    """Saves the network after some epoch of its training; epoch 0 is before it."""

    path: Path
    spec: NetworkSpec
    plan: dict[str, Any] | None
    epoch: int

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        if epoch == self.epoch:
            save_checkpoint(self.path, model, self.spec, plan=self.plan)


def network_spec(context: RunContext, network: str, arguments: dict[str, Any]) -> NetworkSpec:
    """Returns what decides a network of this run: its name, the recipe's arguments, and what the data bring."""
    dataset = context.dataset
    shape = dataset.input_shape
    return NetworkSpec(network, {"classes": dataset.classes, "in_channels": shape[0], **arguments}, shape, context.base)


def sparsify(context: RunContext, _: Sequence[StageRecord]) -> dict[str, Any]:
    """Trains on, with a regularizer that makes channels small → sparse.safetensors."""
    loaded = load_checkpoint(context.path("trained.safetensors"))
    settings = context.recipe.sparsify
    if settings is None:
        raise NetworkError("the recipe has no [sparsify]")
    history = _fit(context, loaded.model, settings, context.path("sparsify.state"))
    save_checkpoint(context.path("sparse.safetensors"), loaded.model, loaded.spec, plan=loaded.plan)
    return {"history": history, **_accuracies(context, loaded.model)}


def prune_channels(context: RunContext, _: Sequence[StageRecord]) -> dict[str, Any]:
    """Chooses what goes, and zeroes it → pruned.safetensors, plan.json, held.safetensors where single weights go."""
    recipe = context.recipe
    schedule = schedules.get(recipe.prune.schedule.name)
    source = "sparse.safetensors" if recipe.sparsify is not None else "trained.safetensors"
    loaded = load_checkpoint(context.path(INITIAL if schedule.start == "initial" else source))
    trainer = trainer_of(context, folder=context.folder)
    result = run_schedule(
        Procedure(
            loaded.model,
            loaded.spec.input_shape,
            as_stored(recipe.prune, recipe.quantize),
            training_samples(context),
            recipe.seed,
            trainer,
            context.reporter.progress,
        )
    )
    save_checkpoint(context.path("pruned.safetensors"), loaded.model, loaded.spec, plan=loaded.plan)
    write_json(context.path("plan.json"), result.plan.to_dict())
    held = context.path(HELD)
    held.unlink(missing_ok=True)
    if result.weights is not None:
        result.weights.save(held)
    return {**result.summary(), "history": trainer.history}


def as_stored(settings: PruneSettings, quantize: QuantizeSettings) -> PruneSettings:
    """Returns a recipe's [prune] for weights as its format will store them."""
    if settings.round_to != "auto" or settings.weights is not None:
        return settings
    return settings.model_copy(update={"weights": formats.get(quantize.format).CONVOLUTIONS})


def trainer_of(context: RunContext, *, folder: Path | None) -> Trainer:
    """Returns what trains networks within the prune stage: as [retrain] says."""
    recipe = context.recipe
    return Trainer(
        context.dataset,
        recipe.retrain,
        recipe.seed,
        Augment.from_settings(recipe.data),
        _load_teacher(context) if recipe.retrain.distill is not None else None,
        folder,
        _progress(context),
    )


def training_samples(context: RunContext) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the fixed training images that methods may look at: ([N, C, H, W] as the network takes them, [N])."""
    recipe = context.recipe
    chosen = context.dataset.train.take(recipe.prune.samples, np.random.default_rng([recipe.seed, 1]))
    images, labels = next(iter(chosen.batches(recipe.prune.samples)))
    return torch.from_numpy(images), torch.from_numpy(labels)


def compact_network(context: RunContext, _: Sequence[StageRecord]) -> dict[str, Any]:
    """Cuts the zeroed channels out, and checks that the function is the same → compact.safetensors.

    A mask of single weights is cut with them → compact_held.safetensors.
    """
    loaded = load_checkpoint(context.path("pruned.safetensors"))
    plan = Plan.from_dict(read_json(context.path("plan.json")))
    difference = compact(loaded.model, plan, loaded.spec.input_shape, seed=context.recipe.seed)
    whole = Plan.from_dict(loaded.plan).then(plan) if loaded.plan else plan
    save_checkpoint(context.path("compact.safetensors"), loaded.model, loaded.spec, plan=whole.to_dict())
    remaining = context.path(HELD_COMPACT)
    remaining.unlink(missing_ok=True)
    if context.path(HELD).exists():
        WeightMask.load(context.path(HELD)).cut(plan).save(remaining)
    return {"max_abs_diff": difference, "parameters": _parameters(loaded.model), **_accuracies(context, loaded.model)}


def retrain(context: RunContext, _: Sequence[StageRecord]) -> dict[str, Any]:
    """Trains what is left, single weights that have gone held at zero → retrained.safetensors."""
    settings = context.recipe.retrain
    loaded = load_checkpoint(context.path("compact.safetensors"))
    treatment = treatment_of(settings.weights)
    initial = load_checkpoint(context.path(INITIAL)) if treatment.needs_initial else None
    cut = Plan.from_dict(read_json(context.path("plan.json")))
    treatment.prepare(Survivors(loaded.model, cut, initial, context.recipe.seed))
    teacher = _load_teacher(context) if settings.distill is not None else None
    held = context.path(HELD_COMPACT)
    masks = WeightMask.load(held) if held.exists() else None
    history = _fit(context, loaded.model, settings, context.path("retrain.state"), teacher, masks)
    save_checkpoint(context.path("retrained.safetensors"), loaded.model, loaded.spec, plan=loaded.plan)
    return {"history": history, **_accuracies(context, loaded.model)}


def share(context: RunContext, _: Sequence[StageRecord]) -> dict[str, Any]:
    """Lets each layer's weights share few values, and trains these; zeros stay zero → shared.safetensors."""
    settings = context.recipe.share
    if settings is None:
        raise NetworkError("the recipe has no [share]")
    loaded = load_checkpoint(context.path("retrained.safetensors"))
    sharing = share_weights(loaded.model, settings.conv_bits, settings.linear_bits)
    history = _fit(context, loaded.model, settings, context.path("share.state"), hooks=(sharing,))
    save_checkpoint(context.path("shared.safetensors"), loaded.model, loaded.spec, plan=loaded.plan)
    return {"history": history, **_accuracies(context, loaded.model)}


def _load_teacher(context: RunContext) -> nn.Module:
    recipe, distill = context.recipe, context.recipe.retrain.distill
    if distill is not None and distill.kind == "mutual" and distill.network is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed + 1)
            return build_network(network_spec(context, recipe.model.network, recipe.model.arguments))
    if distill is None or distill.network is None or distill.checkpoint is None:
        return load_checkpoint(context.path("trained.safetensors")).model
    spec = network_spec(context, distill.network, distill.arguments)
    return load_checkpoint(context.find(distill.checkpoint, "teacher's checkpoint"), spec=spec).model


def _fit(
    context: RunContext,
    network: nn.Module,
    settings: TrainSettings,
    state: Path,
    teacher: nn.Module | None = None,
    masks: Masks | None = None,
    hooks: tuple[Hook, ...] = (),
) -> list[dict[str, Any]]:
    recipe = context.recipe
    if settings.regularizer is not None:
        hooks = (bind_regularizer(network, context.dataset.input_shape, settings.regularizer), *hooks)
    result = fit(
        network,
        context.dataset,
        settings,
        seed=recipe.seed,
        checkpoint=state,
        augment=Augment.from_settings(recipe.data),
        progress=_progress(context),
        hooks=hooks,
        teacher=teacher,
        masks=masks,
    )
    return [dict(record) for record in result.history]


def _progress(context: RunContext) -> Callable[[Progress], None]:
    def tell(progress: Progress) -> None:
        done = (progress.epoch - 1 + progress.step / max(1, progress.steps)) / max(1, progress.epochs)
        speed = f"{progress.images_per_second:.0f} images/s"
        context.reporter.progress(done, f"epoch {progress.epoch}/{progress.epochs}, loss {progress.loss:.4f}, {speed}")

    return tell


def _accuracies(context: RunContext, network: nn.Module) -> dict[str, float | None]:
    """Returns accuracies in per cent. Nothing is chosen by the one on the test images."""
    dataset = context.dataset
    validation = accuracy(network, dataset.validation) if len(dataset.validation) else None
    return {"validation_accuracy": validation, "test_accuracy": accuracy(network, dataset.test)}


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
