"""Networks: one family a file, each factory registered by one decorator line.

A factory takes keyword arguments only, at least `classes` and `in_channels`, and returns a module that maps images
[N, C, H, W] to logits [N, classes]. No `forward` names a channel count, so that a network whose parameters were
sliced runs without being told.
"""

from compress.architectures.spec import NetworkSpec, build_network, networks

__all__ = ["NetworkSpec", "build_network", "networks"]
