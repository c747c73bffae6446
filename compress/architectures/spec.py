"""What decides a network before its weights: name, arguments, input shape; and the building of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compress.errors import CompressError, NetworkError, suggestion
from compress.registry import Registry
from compress.user_code import is_reference, load_reference

Factory = Callable[..., nn.Module]

networks: Registry[Factory] = Registry("network", "compress.architectures")

# What a run knows from its data; a user's factory that fixes them itself need not take them.
_FROM_DATA = ("classes", "in_channels")


@dataclass(frozen=True)
class NetworkSpec:
    """Everything that decides a network but its weights.

    Args:
        network: a registered name, or the user's own ``path.py:factory``.
        arguments: keyword arguments of the factory.
        input_shape: (C, H, W) of one image.
        base: folder that a relative ``path.py:factory`` counts from.
    """

    network: str
    arguments: dict[str, Any]
    input_shape: tuple[int, ...]
    base: Path = Path()

    def to_dict(self) -> dict[str, Any]:
        """Returns the specification as a JSON value; the folder is left out where nothing counts from it."""
        described: dict[str, Any] = {
            "network": self.network,
            "arguments": dict(self.arguments),
            "input_shape": list(self.input_shape),
        }
        if is_reference(self.network):
            described["base"] = str(self.base)
        return described

    @classmethod
    def from_dict(cls, described: dict[str, Any]) -> NetworkSpec:
        """Reads what `to_dict` wrote.

        Raises:
            NetworkError: if a key is missing or of the wrong kind.
        """
        try:
            return cls(
                network=str(described["network"]),
                arguments=dict(described["arguments"]),
                input_shape=tuple(int(size) for size in described["input_shape"]),
                base=Path(described.get("base", ".")),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise NetworkError(
                f"the description of a network does not fit ({type(error).__name__}: {error})",
                allowed="network, arguments, input_shape, base",
            ) from error


def build_network(spec: NetworkSpec) -> nn.Module:
    """Builds a network with fresh weights, and runs it once on an empty image to see that it fits.

    Args:
        spec: `arguments` are passed on. A registered factory that asks for `image_size` gets (H, W) of the input
            shape; a user's factory that does not take `classes` or `in_channels` is spared them.

    Returns:
        The module, in training mode on the CPU. Its weights come from torch's global random state, which the caller
        seeds.

    Raises:
        CompressError: if there is no such network.
        NetworkError: if the arguments do not fit the factory, or its result is not a network for such images.
    """
    user_owned = is_reference(spec.network)
    factory = load_reference(spec.network, spec.base) if user_owned else networks.get(spec.network)
    if isinstance(factory, nn.Module) or not callable(factory):
        raise NetworkError(
            f"{spec.network}: not a function that returns a network",
            got=type(factory).__name__,
            next_step="name a function, or a subclass of torch.nn.Module",
        )
    try:
        model = factory(**_fit_arguments(factory, spec, user_owned))
    except CompressError:
        raise
    except Exception as error:
        raise NetworkError(
            f"{spec.network} cannot be built: {type(error).__name__}: {error}",
            got=f"arguments {spec.arguments}",
            next_step="correct [model] arguments",
        ) from error
    if not isinstance(model, nn.Module):
        raise NetworkError(
            f"{spec.network}: the factory must return a torch.nn.Module", got=f"a {type(model).__name__}"
        )
    _check_forward(model, spec)
    return model.train()


def require_positive(**sizes: int | Iterable[int]) -> None:
    """Raises a NetworkError that names the first of `sizes` that is not a whole number of at least one."""
    for name, given in sizes.items():
        for size in given if isinstance(given, Iterable) else [given]:
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise NetworkError(f"argument {name!r} of the network", got=given, allowed="whole numbers from 1")


def _fit_arguments(factory: Factory, spec: NetworkSpec, user_owned: bool) -> dict[str, Any]:
    arguments = dict(spec.arguments)
    parameters = inspect.signature(factory).parameters
    open_ended = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    if user_owned and not open_ended:
        arguments = {name: value for name, value in arguments.items() if name in parameters or name not in _FROM_DATA}
    if not user_owned and "image_size" in parameters:
        arguments.setdefault("image_size", spec.input_shape[1:])
    for name in arguments:
        if not open_ended and name not in parameters:
            raise NetworkError(f"{spec.network} has no argument {name!r}", next_step=suggestion(name, parameters))
    try:
        inspect.signature(factory).bind(**arguments)
    except TypeError as error:
        raise NetworkError(
            f"{spec.network}: {error}", got=f"arguments {sorted(arguments)}", next_step="add it to [model] arguments"
        ) from error
    return arguments


def _check_forward(model: nn.Module, spec: NetworkSpec) -> None:
    shape = f"images of shape {list(spec.input_shape)} (C, H, W)"
    model.eval()
    try:
        with torch.no_grad():
            logits = model(torch.zeros(2, *spec.input_shape))
    except CompressError:
        raise
    except Exception as error:
        raise NetworkError(
            f"{spec.network} cannot take {shape}: {type(error).__name__}: {error}",
            next_step="change the image size, or the network's arguments",
        ) from error
    if not isinstance(logits, torch.Tensor) or logits.dim() != 2 or len(logits) != 2:
        got = f"shape {list(logits.shape)}" if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
        raise NetworkError(f"{spec.network} must map {shape} to logits [N, classes]", got=f"{got} for N = 2")
    classes = spec.arguments.get("classes", logits.shape[1])
    if logits.shape[1] != classes:
        raise NetworkError(f"{spec.network} gives {logits.shape[1]} classes, the data have {classes}")
