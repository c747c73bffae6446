"""Which widths a machine computes well: known of its kind, one file a kind, or measured of the very device."""

from compress.registry import Registry
from compress.targets.known_steps import KnownSteps

targets: Registry[KnownSteps] = Registry("target", "compress.targets")
