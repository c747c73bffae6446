"""Methods from a recipe's `options`; quantization shares the means, see `compress.options`."""

from compress.options import build, knobs

__all__ = ["build", "knobs"]
