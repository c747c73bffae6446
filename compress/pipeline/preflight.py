"""What can be known to be wrong before the first hour of training is spent."""

from __future__ import annotations

import contextlib

import torch

from compress.architectures import build_network
from compress.artifact import require_target
from compress.check import MODEL_NAME
from compress.errors import MachineError, NetworkError, RecipeError
from compress.options import build
from compress.pipeline.context import RunContext
from compress.pipeline.deploying import budget_path
from compress.pipeline.learning import needs_initial, network_spec
from compress.profiling.resolve import resolve
from compress.prune.driver import method_of
from compress.prune.regularizers import regularizers
from compress.prune.schedules import schedules
from compress.quantize.format import formats
from compress.recipe import load_budget
from compress.targets.choose import target_named
from compress.torch_graph import trace_network
from compress.train.placement import torch_device


def preflight(context: RunContext, *, training: bool) -> None:
    """Looks up every name that a later stage will need, reads the budget, and tries the export folder.

    Args:
        context: the run.
        training: whether the first training lies ahead: then the network, with fresh weights, is traced as well.

    Raises:
        CompressError: if a method, a device or a file is unknown, or a knob does not fit.
        DataError: if there are no such data, where the network needs them.
        NetworkError: if the network cannot be built or exported.
        MachineError: if a GPU is asked for and absent, or the export folder cannot be written.
    """
    recipe = context.recipe
    if recipe.model.network.endswith(".py"):
        raise RecipeError(
            f"model.network {recipe.model.network!r} names a file alone",
            next_step=f"name its function too, e.g. '{recipe.model.network}:build'",
        )
    build(schedules, recipe.prune.schedule.name, recipe.prune.schedule.options)
    method_of(recipe.prune)
    build(formats, recipe.quantize.format, recipe.quantize.options)
    if needs_initial(recipe) and recipe.train is None:
        raise NetworkError(
            "the initial weights are not known",
            got="a [model] checkpoint without [train]",
            next_step="give [train], or another schedule and [retrain] weights = 'fine-tune'",
        )
    for settings in (recipe.train, recipe.sparsify, recipe.retrain, recipe.share):
        if settings is None:
            continue
        torch_device(settings.device)
        if settings.regularizer is not None:
            build(regularizers, settings.regularizer.name, settings.regularizer.options)
    distill = recipe.retrain.distill
    if distill is not None and distill.checkpoint is not None:
        context.find(distill.checkpoint, "teacher's checkpoint")
    if recipe.prune.round_to == "auto":
        target_named(recipe.prune.target)
    resolve(recipe.profile.device)
    for device in recipe.profile.also:
        # One that does not answer is left out when its turn comes; one that does not exist is a mistake.
        with contextlib.suppress(MachineError):
            resolve(device)
    budget = budget_path(context)
    if budget is not None:
        load_budget(budget)
    require_target(context.export_folder / MODEL_NAME)
    if training and recipe.train is not None:
        # Fresh weights are drawn only to be dropped: that must not move the caller's random numbers.
        with torch.random.fork_rng(devices=[]):
            spec = network_spec(context, recipe.model.network, recipe.model.arguments)
            trace_network(build_network(spec), spec.input_shape)
