"""The stages in torch: train, sparsify, prune, compact, retrain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from compress.prune import ChannelMask, bind_regularizer, prepare_weights, prune
from compress.prune.options import build
from compress.prune.schedules import schedules
from compress.recipe import TrainSettings
from compress.train.checkpoint import load_checkpoint, save_checkpoint
from compress.train.evaluate import accuracy
from compress.train.loop import Progress, fit


def train(context: RunContext, _: Sequence[StageRecord]) -> dict[str, Any]:
    """Builds the network, loads or trains its weights → trained.safetensors."""
    return train_to(context, context.path("trained.safetensors"), context.path("train.state"))


def train_to(context: RunContext, target: Path, state: Path) -> dict[str, Any]:
    """Builds the recipe's network, loads or trains its weights, and saves it.

    Args:
        context: the recipe and its data.
        target: the checkpoint to write.
        state: from where an interrupted training goes on.

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
    history = _fit(context, network, recipe.train, state) if recipe.train is not None else []
    save_checkpoint(target, network, spec, plan=plan)
    return {"history": history, **_accuracies(context, network), "parameters": _parameters(network)}


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
    """Chooses the channels that go, and zeroes them → pruned.safetensors, plan.json."""
    recipe = context.recipe
    source = "sparse.safetensors" if recipe.sparsify is not None else "trained.safetensors"
    loaded = load_checkpoint(context.path(source))
    schedule = build(schedules, recipe.prune.schedule.name, recipe.prune.schedule.options)
    ratios = schedule.ratios(recipe.prune.ratio)
    between = recipe.retrain.model_copy(update={"epochs": schedule.epochs_between})
    teacher = _load_teacher(context) if recipe.retrain.distill is not None and len(ratios) > 1 else None
    history: list[dict[str, Any]] = []
    for cut, ratio in enumerate(ratios):
        result = prune(
            loaded.model,
            loaded.spec.input_shape,
            recipe.prune.model_copy(update={"ratio": ratio}),
            training_samples(context),
            seed=recipe.seed,
            progress=context.reporter.progress,
        )
        result.mask.apply(loaded.model)
        if cut + 1 < len(ratios):
            state = context.path(f"prune.{cut}.state")
            history += _fit(context, loaded.model, between, state, teacher, result.mask)
    save_checkpoint(context.path("pruned.safetensors"), loaded.model, loaded.spec, plan=loaded.plan)
    write_json(context.path("plan.json"), result.plan.to_dict())
    return {**result.summary(), "history": history}


def training_samples(context: RunContext) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the fixed training images that methods may look at: ([N, C, H, W] as the network takes them, [N])."""
    recipe = context.recipe
    chosen = context.dataset.train.take(recipe.prune.samples, np.random.default_rng([recipe.seed, 1]))
    images, labels = next(iter(chosen.batches(recipe.prune.samples)))
    return torch.from_numpy(images), torch.from_numpy(labels)


def compact_network(context: RunContext, _: Sequence[StageRecord]) -> dict[str, Any]:
    """Cuts the zeroed channels out, and checks that the function is the same → compact.safetensors."""
    loaded = load_checkpoint(context.path("pruned.safetensors"))
    plan = Plan.from_dict(read_json(context.path("plan.json")))
    difference = compact(loaded.model, plan, loaded.spec.input_shape, seed=context.recipe.seed)
    whole = Plan.from_dict(loaded.plan).then(plan) if loaded.plan else plan
    save_checkpoint(context.path("compact.safetensors"), loaded.model, loaded.spec, plan=whole.to_dict())
    return {"max_abs_diff": difference, "parameters": _parameters(loaded.model), **_accuracies(context, loaded.model)}


def retrain(context: RunContext, _: Sequence[StageRecord]) -> dict[str, Any]:
    """Trains what is left → retrained.safetensors."""
    settings = context.recipe.retrain
    loaded = load_checkpoint(context.path("compact.safetensors"))
    prepare_weights(loaded.model, settings.weights, context.recipe.seed)
    teacher = _load_teacher(context) if settings.distill is not None else None
    history = _fit(context, loaded.model, settings, context.path("retrain.state"), teacher)
    save_checkpoint(context.path("retrained.safetensors"), loaded.model, loaded.spec, plan=loaded.plan)
    return {"history": history, **_accuracies(context, loaded.model)}


def _load_teacher(context: RunContext) -> nn.Module:
    distill = context.recipe.retrain.distill
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
    masks: ChannelMask | None = None,
) -> list[dict[str, Any]]:
    recipe = context.recipe
    regularizer = None
    if settings.regularizer is not None:
        regularizer = bind_regularizer(network, context.dataset.input_shape, settings.regularizer)
    result = fit(
        network,
        context.dataset,
        settings,
        seed=recipe.seed,
        checkpoint=state,
        augment=Augment.from_settings(recipe.data),
        progress=_progress(context),
        regularizer=regularizer,
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
