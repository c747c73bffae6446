"""Trained networks as files: safetensors whose metadata say how to build the network again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compress.architectures import NetworkSpec, build_network
from compress.errors import ModelFileError
from compress.train.weights import put_weights, read_tensors, weights_of, write_tensors

_FORMAT = 1
_KEY = "compress"


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with its weights, and what its file says about it.

    Args:
        model: on the CPU, in evaluation mode.
        spec: what it was built from.
        plan: the cut that followed, as `Plan.to_dict` gives it.
        facts: whatever was noted when it was saved, e.g. its accuracy.
    """

    model: nn.Module
    spec: NetworkSpec
    plan: dict[str, Any] | None
    facts: dict[str, Any]


def save_checkpoint(
    path: Path,
    model: nn.Module,
    spec: NetworkSpec,
    *,
    plan: dict[str, Any] | None = None,
    facts: dict[str, Any] | None = None,
) -> None:
    """Writes weights and description, atomically; the same network gives the same bytes.

    Args:
        path: a safetensors file.
        model: built from `spec`, then cut by `plan`.
        spec: what it was built from.
        plan: the cut, as `Plan.to_dict` gives it.
        facts: anything worth knowing that is JSON.

    Raises:
        MachineError: if it cannot be written.
    """
    described = {"format": _FORMAT, "spec": spec.to_dict(), "plan": plan, "facts": facts or {}}
    text = json.dumps(described, sort_keys=True, separators=(",", ":"), allow_nan=False)
    write_tensors(path, weights_of(model), _KEY, text)


def load_checkpoint(path: Path, *, spec: NetworkSpec | None = None) -> LoadedNetwork:
    """Builds the network that a checkpoint describes, cuts it as it says, and fills in its weights.

    Args:
        path: a safetensors file, written by `save_checkpoint` or holding a plain state dict.
        spec: needed for a plain state dict; takes precedence over what the file says of itself.

    Raises:
        ModelFileError: if the file is missing, a pickle, damaged, or does not fit the network.
        NetworkError: if the network cannot be built.
    """
    weights, metadata = read_tensors(path, "checkpoint")
    described = _description(path, metadata)
    if spec is None:
        if described is None:
            raise ModelFileError(
                f"checkpoint {path} holds weights only, without the network they belong to",
                next_step="name the network",
            )
        spec = NetworkSpec.from_dict(described["spec"])
    plan: dict[str, Any] | None = described["plan"] if described else None
    # Fresh weights are drawn only to be replaced: that must not move the caller's random numbers.
    with torch.random.fork_rng(devices=[]):
        model = build_network(spec)
    if plan is not None:
        from compress.channels.plan import Plan
        from compress.compact import apply_plan

        apply_plan(model, Plan.from_dict(plan))
    put_weights(model, weights, f"{path} as {spec.network}")
    return LoadedNetwork(model.eval(), spec, plan, described["facts"] if described else {})


def _description(path: Path, metadata: dict[str, str]) -> dict[str, Any] | None:
    text = metadata.get(_KEY)
    if text is None:
        return None
    try:
        described = json.loads(text)
        format_, spec, plan, facts = (described[name] for name in ("format", "spec", "plan", "facts"))
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(
            f"checkpoint {path}: its description is damaged ({type(error).__name__}: {error})",
            next_step="make it again",
        ) from error
    if format_ != _FORMAT:
        raise ModelFileError(
            f"checkpoint {path} has another format", got=format_, allowed=_FORMAT, next_step="update compress"
        )
    if not isinstance(spec, dict) or not isinstance(plan, dict | None) or not isinstance(facts, dict):
        raise ModelFileError(f"checkpoint {path}: its description is damaged", next_step="make it again")
    return {"spec": spec, "plan": plan, "facts": facts}
