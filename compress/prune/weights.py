"""What happens to the weights that survive a cut."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from compress.errors import NetworkError

Treatment = Literal["fine-tune", "from-scratch"]


def prepare_weights(network: nn.Module, treatment: Treatment, seed: int) -> None:
    """Readies a cut network for its next training, in place.

    `fine-tune` keeps the weights. `from-scratch` draws new ones, by each module's own `reset_parameters`; parents come
    after their children, so that a network which has that method too decides how its layers start.

    Args:
        network: the network.
        treatment: what to do.
        seed: of the draw; the generators of the process are left as they were.

    Raises:
        NetworkError: if a module has parameters of its own but no `reset_parameters`; nothing has been changed then.

    Source: K. Mitsuno, "BonsaiNet", 2022, §3.1.2, step 4, after Z. Liu, M. Sun, T. Zhou, G. Huang, T. Darrell,
        "Rethinking the Value of Network Pruning", 2018: from scratch.
    """
    if treatment == "fine-tune":
        return
    resets = []
    for path, module in reversed(list(network.named_modules())):
        # torch's own attention calls it so.
        reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if reset is not None:
            resets.append(reset)
        elif any(True for _ in module.parameters(recurse=False)):
            raise NetworkError(
                f"module {path or 'the network'!r} ({type(module).__name__}) cannot draw new weights",
                next_step="give it a method reset_parameters(), or set [retrain] weights = 'fine-tune'",
            )
    devices = sorted({p.device.index for p in network.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        torch.manual_seed(seed)
        for reset in resets:
            reset()
