"""What is known of the widths that a kind of machine computes well: one file a kind."""

from compress.registry import Registry
from compress.rewrite.known_steps import KnownSteps

targets: Registry[KnownSteps] = Registry("target", "compress.rewrite.targets")
