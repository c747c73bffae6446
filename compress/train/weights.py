"""Weights in safetensors files: reading, writing, and putting them into a network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from compress.artifact import require_file, write_bytes
from compress.errors import ModelFileError

# A zip archive, which torch.save writes, and a bare pickle of protocol 2 to 5.
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_NAMED = 3


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Returns contiguous copies on the CPU of all that `state_dict` holds; what is tied appears once."""
    weights: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in _state(model).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            weights[name] = tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    return weights


def weights_sha256(model: nn.Module) -> str:
    """Returns a hash of names, types, shapes and values of a network's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights_of(model).items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def put_weights(model: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Copies `weights` into `model`, in place, or changes nothing.

    Counters of BatchNorm (`num_batches_tracked`) may be absent, as in checkpoints of older versions of torch, and so
    may all but one of the names of a tied tensor.

    Args:
        model: keeps its parameter objects, device and layout.
        weights: as `weights_of` gives them.
        where: the file and the network, for messages.

    Raises:
        ModelFileError: naming the first names or shapes that do not fit, or a weight that is not a finite number.
    """
    own = _state(model)
    given = {id(own[name]) for name in weights if name in own}
    missing = [
        name for name, tensor in own.items() if id(tensor) not in given and not name.endswith("num_batches_tracked")
    ]
    unexpected = [name for name in weights if name not in own]
    shapes = [
        f"{name} is {list(tensor.shape)}, the network's {list(own[name].shape)}"
        for name, tensor in weights.items()
        if name in own and tensor.shape != own[name].shape
    ]
    problems = [
        f"{kind} {_first(names)}"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("wrong shape:", shapes))
        if names
    ]
    if problems:
        raise ModelFileError(
            f"{where}: the weights do not fit the network",
            got="; ".join(problems),
            next_step="check the network's name and arguments",
        )
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelFileError(
                f"{where}: {name} holds values that are not finite", next_step="use an earlier checkpoint"
            )
    with torch.no_grad():
        for name, tensor in weights.items():
            own[name].copy_(tensor)


def read_tensors(path: Path, what: str, next_step: str = "make it again") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads a safetensors file.

    Args:
        path: the file.
        what: what it is to the user, e.g. ``"checkpoint"``.
        next_step: what to do with a damaged one.

    Returns:
        Tensors on the CPU by name, and the metadata.

    Raises:
        ModelFileError: if it is missing, a pickle, or damaged. Pickles are never loaded: they run code.
    """
    require_file(path, what)
    try:
        with path.open("rb") as file:
            start = file.read(9)
        # A safetensors file begins with the length of its head, whose bytes may be those of a pickle, and a brace.
        if start.startswith(_PICKLE_STARTS) and start[8:] != b"{":
            raise ModelFileError(
                f"{what} {path} is a pickle, which can run any code when loaded and is refused",
                next_step="convert it where you trust it: safetensors.torch.save_file(model.state_dict(), "
                f"'{path.stem}.safetensors')",
            )
        with safe_open(path, framework="pt") as opened:
            # Copies: the file may be replaced while its tensors are in use.
            tensors = {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118
            return tensors, dict(opened.metadata() or {})
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise ModelFileError(
            f"{what} {path} is damaged or not a safetensors file ({error})", next_step=next_step
        ) from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor], key: str, value: str) -> None:
    """Writes a safetensors file, atomically; equal content gives equal bytes.

    Args:
        path: the file.
        tensors: contiguous, on the CPU, none sharing memory.
        key: name of the one metadata entry; the format keeps no order among several.
        value: of that entry.

    Raises:
        MachineError: if it cannot be written.
    """
    write_bytes(path, safetensors.torch.save(dict(tensors), {key: value}))


def _state(model: nn.Module) -> dict[str, Tensor]:
    # keep_vars gives the objects themselves, by which tied tensors are known.
    state = model.state_dict(keep_vars=True)
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}


def _first(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
