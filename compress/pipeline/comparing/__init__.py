"""Several methods at the same budget, from the same weights, through the same trainings."""

from compress.pipeline.comparing.compare import Comparison, compare

__all__ = ["Comparison", "compare"]
