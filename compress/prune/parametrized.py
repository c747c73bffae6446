"""Parameters that are computed while a network trains: making them so, finding what is stored, keeping the result."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.utils import parametrize


def compute(model: nn.Module, parameter: str, function: nn.Module) -> None:
    """Has a parameter computed by `function` from what is stored, from now on.

    Args:
        model: changed in place; `function` becomes a part of it.
        parameter: its name.
        function: from the stored tensor to one of the same shape.
    """
    path, _, name = parameter.rpartition(".")
    module = model.get_submodule(path)
    place = list(module._parameters).index(name)
    stored = module.get_parameter(name)
    parametrize.register_parametrization(module, name, function.to(stored.device))
    # Where it stood among its module's parameters: optimizers and files keep their order.
    module.parametrizations[name].place = place  # type: ignore[union-attr,index]


def keep_computed(model: nn.Module, parameters: Sequence[str]) -> None:
    """Makes parameters plain ones again that hold what the network computes with in evaluation mode.

    Args:
        model: changed in place; left in evaluation mode.
        parameters: names, in the order in which `compute` was called.
    """
    model.eval()
    for parameter in reversed(parameters):
        path, _, name = parameter.rpartition(".")
        module = model.get_submodule(path)
        place = module.parametrizations[name].place  # type: ignore[union-attr,index]
        # Copies of a module share its class, from which torch takes the computed attribute.
        own = {key: value for key, value in vars(type(module)).items() if key not in ("__dict__", "__weakref__")}
        module.__class__ = type(type(module).__name__, type(module).__bases__, own)
        parametrize.remove_parametrizations(module, name, leave_parametrized=True)
        for other in list(module._parameters)[place:]:
            if other != name:
                module._parameters[other] = module._parameters.pop(other)


def stored_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Returns every parameter and buffer under its own name; of a computed one, the tensor that is trained."""
    tensors = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    for name in _computed(model):
        path, _, attribute = name.rpartition(".")
        prefix = f"{path}." if path else ""
        tensors[name] = tensors[f"{prefix}parametrizations.{attribute}.original"]
    return tensors


def bake(model: nn.Module) -> nn.Module:
    """Does `keep_computed` for all that is computed, and returns the model."""
    keep_computed(model, _computed(model))
    return model


def _computed(model: nn.Module) -> list[str]:
    return [
        f"{path}.{name}" if path else name
        for path, module in model.named_modules()
        if parametrize.is_parametrized(module)
        for name in module.parametrizations
    ]
