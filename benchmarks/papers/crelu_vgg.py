"""VGG for small images whose first convolutions are followed by both phases of what they compute."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from compress.architectures import NetworkSpec, build_network
from compress.architectures.crelu import BothPhases


def build(
    classes: int = 10, in_channels: int = 3, width: int = 64, layers: Sequence[int] = (), half: bool = False
) -> nn.Module:
    """Builds VGG14 with BatchNorm, some of its convolutions with CReLU.

    Args:
        classes: outputs.
        in_channels: of an image.
        width: channels of the first stage.
        layers: numbers of the convolutions, from 1, that have CReLU.
        half: whether these have half of the filters, so that the next layer reads as many channels as before.
    """
    arguments = {"classes": classes, "in_channels": in_channels, "width": width}
    network = build_network(NetworkSpec("vgg14-bn", arguments, (in_channels, 32, 32)))
    features = network.features
    convolutions = [index for index, module in enumerate(features) if isinstance(module, nn.Conv2d)]
    before = in_channels
    for number, index in enumerate(convolutions, 1):
        plain = features[index]
        both = number in layers
        filters = plain.out_channels // 2 if both and half else plain.out_channels
        features[index] = nn.Conv2d(before, filters, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(features[index].weight, mode="fan_out", nonlinearity="relu")
        norm = nn.BatchNorm2d(filters)
        features[index + 1] = nn.Sequential(norm, BothPhases()) if both else norm
        before = filters * (2 if both else 1)
    return network
