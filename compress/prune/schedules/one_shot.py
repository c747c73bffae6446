"""One cut."""

from __future__ import annotations

from dataclasses import dataclass

from compress.prune.schedules import Schedule, schedules


@schedules.register("one-shot")
@dataclass(frozen=True)
class OneShot(Schedule):
    """Everything goes at once; the retraining follows.

    Source: H. Li, A. Kadav, I. Durdanovic, H. Samet, H. P. Graf, "Pruning Filters for Efficient ConvNets", 2017, §3.4,
        "prune once and retrain".
    """

    def ratios(self, ratio: float) -> tuple[float, ...]:
        """Returns the whole ratio."""
        return (ratio,)
