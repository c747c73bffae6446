"""New weights are drawn for the cut network."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from compress.errors import NetworkError
from compress.prune.treatments import Survivors, Treatment, treatments


@treatments.register("from-scratch")
@dataclass(frozen=True)
class FromScratch(Treatment):
    """New weights are drawn, by each module's own `reset_parameters`.

    Parents come after their children, so that a network which has that method too decides how its layers start.

    Source: K. Mitsuno, "BonsaiNet", 2022, §3.1.2, step 4, after Z. Liu, M. Sun, T. Zhou, G. Huang, T. Darrell,
        "Rethinking the Value of Network Pruning", 2018: from scratch.
    """

    def prepare(self, survivors: Survivors) -> None:
        """Draws; the generators of the process are left as they were."""
        network = survivors.network
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
            torch.manual_seed(survivors.seed)
            for reset in resets:
                reset()
