"""Smaller networks out of a larger one of the same architecture, and their weights in its shapes again."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from compress.channels.graph import Array
from compress.channels.plan import Plan
from compress.compact import apply_plan, run_cut
from compress.prune.parametrized import stored_tensors
from compress.prune.problem import PruningProblem, places
from compress.prune.treatments import Survivors
from compress.prune.treatments.from_scratch import FromScratch
from compress.train.hooks import Hook


def student_of(problem: PruningProblem, keep: Array) -> tuple[nn.Module, Plan]:
    """Returns a copy of the network without some units, their layers that much smaller, and the plan that cut it.

    Args:
        problem: with the network as it is whole.
        keep: which units the copy has, over all groups in turn. Shape: (units,), booleans.

    Raises:
        NetworkError: if the network cannot run at other sizes than its own.
    """
    plan = Plan.from_kept(problem.groups.kept(keep), problem.parameters)
    student = copy.deepcopy(problem.network)
    apply_plan(student, plan)
    with torch.inference_mode():
        run_cut(student, torch.zeros(1, *problem.input_shape, device=next(student.parameters()).device))
    return student, plan


def redraw(student: nn.Module, numbers: Sequence[int]) -> None:
    """Draws all weights anew, in place, as layers of these sizes start.

    Args:
        student: its modules must have `reset_parameters`.
        numbers: of which the seed is made.

    Raises:
        NetworkError: if a module cannot draw its weights.
    """
    seed = int(np.random.SeedSequence(list(numbers)).generate_state(1)[0])
    FromScratch().prepare(Survivors(student, Plan(), None, seed))


def whole_values(problem: PruningProblem, student: nn.Module, plan: Plan) -> dict[str, Array]:
    """Returns the problem's parameters and buffers by name, of their full shapes, the student's where it has any."""
    tensors = stored_tensors(student)
    found = {}
    for name in problem.parameters:
        value = problem.tensor(name).detach().cpu().numpy().copy()
        positions = [
            np.asarray(plan.keep.get(name, {}).get(axis, range(size))) for axis, size in enumerate(value.shape)
        ]
        value[np.ix_(*positions)] = tensors[name].detach().cpu().numpy()
        found[name] = value
    return found


def put_values(student: nn.Module, plan: Plan, values: Mapping[str, Array]) -> None:
    """Gives a student its part of parameters of full shape, in place."""
    tensors = stored_tensors(student)
    with torch.no_grad():
        for name, value in values.items():
            tensors[name].copy_(torch.from_numpy(plan.apply(name, value).copy()))


def touched(problem: PruningProblem, units: Array, roles: tuple[str, ...] | None = None) -> dict[str, Array]:
    """Returns which entries of each parameter belong to some of the units, by name and of its full shape.

    Args:
        problem: with the network as it is whole.
        units: over all groups in turn. Shape: (units,), booleans.
        roles: in which they do, as in `Member`; default: any.
    """
    mine = np.append(units, False)  # position -1: of no unit
    found = {name: np.zeros(tuple(problem.tensor(name).shape), dtype=bool) for name in problem.parameters}
    for place in places(problem.groups):
        if roles is None or place.role in roles:
            shape = [1] * found[place.parameter].ndim
            shape[place.axis] = -1
            found[place.parameter] |= mine[place.unit].reshape(shape)
    return found


class Frozen(Hook):
    """Holds weights as they are: as a hook it takes their gradients away, as `masks` it undoes any other change.

    Args:
        student: the network, as it is to stay but for what is free.
        free: which entries of a parameter are trained, by name and of its shape; parameters not named stay whole.
    """

    def __init__(self, student: nn.Module, free: Mapping[str, Array]) -> None:
        self._held: dict[str, tuple[Tensor, Tensor]] = {}
        for name, parameter in student.named_parameters():
            loose = free.get(name, np.zeros(tuple(parameter.shape), dtype=bool))
            self._held[name] = parameter.detach().clone(), torch.from_numpy(np.ascontiguousarray(loose))

    def after_backward(self, model: nn.Module) -> None:
        """Zeroes the gradients of what is held, before they are clipped."""
        tensors = stored_tensors(model)
        for name in self._held:
            gradient = tensors[name].grad
            if gradient is not None:
                gradient.mul_(self._beside(name, gradient)[1])

    def apply(self, model: nn.Module) -> None:
        """Brings back what is held."""
        tensors = stored_tensors(model)
        with torch.no_grad():
            for name in self._held:
                value, loose = self._beside(name, tensors[name])
                tensors[name].copy_(torch.where(loose, tensors[name], value))

    def _beside(self, name: str, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what is held of a parameter, and what is free, on the device of a tensor; they stay there."""
        value, loose = self._held[name]
        if value.device != tensor.device:
            self._held[name] = value, loose = value.to(tensor.device), loose.to(tensor.device)
        return value, loose
