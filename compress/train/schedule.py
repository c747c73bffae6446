"""The learning rate of each step."""

from __future__ import annotations

import math

from compress.recipe import TrainSettings

# Goyal et al., "Accurate, Large Minibatch SGD", 2017, §2.2 rise from the rate of one worker; here from a tenth.
_WARMUP_START = 0.1


def learning_rate(settings: TrainSettings, step: int, epoch_steps: int) -> float:
    """Returns η of one step: peak · shape(t) · rise(t).

    With T = epochs · epoch_steps and W = warmup_epochs · epoch_steps: rise grows from 0.1 to 1 over the first W steps;
    `constant` has shape 1; `step` γ^⌊epoch / step_epochs⌋; `multi-step` γ^(milestones m with t ≥ m·T);
    `cosine` (1 + cos(π (t − W)/(T − W))) / 2 after the rise (I. Loshchilov, F. Hutter, "SGDR", 2016, eq. 5).

    Args:
        settings: peak, shape and rise.
        step: t, from 0, over the whole training.
        epoch_steps: steps an epoch, at least 1.
    """
    total = settings.epochs * epoch_steps
    warmup = round(settings.warmup_epochs * epoch_steps)
    rise = _WARMUP_START + (1 - _WARMUP_START) * step / warmup if step < warmup else 1.0
    return settings.learning_rate * rise * _shape(settings, step, epoch_steps, total, warmup)


def _shape(settings: TrainSettings, step: int, epoch_steps: int, total: int, warmup: int) -> float:
    match settings.schedule:
        case "constant":
            return 1.0
        case "step":
            return settings.gamma ** (step // epoch_steps // settings.step_epochs)
        case "multi-step":
            # Rounded to a step, as thirds of an epoch count are not exact.
            return settings.gamma ** sum(step >= round(share * total) for share in settings.milestones)
        case "cosine":
            if step < warmup:
                return 1.0
            return (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup)))) / 2
