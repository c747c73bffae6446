"""ShuffleNetV2: half of the channels pass a unit untouched, then both halves are shuffled.

Source: N. Ma, X. Zhang, H.-T. Zheng, J. Sun, "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture
Design", 2018, §4, table 5. For images of 32 pixels the stem neither strides nor pools.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compress.architectures.spec import networks, require_positive
from compress.errors import NetworkError

_UNITS = (4, 8, 4)
_WIDTHS = {"0.5": (24, 48, 96, 192, 1024), "1.0": (24, 116, 232, 464, 1024), "1.5": (24, 176, 352, 704, 1024)}


def channel_shuffle(x: Tensor) -> Tensor:
    """Interleaves the two halves of the channels: [N, 2·C, H, W] → [N, 2·C, H, W]."""
    n, channels, height, width = x.shape
    return x.reshape(n, 2, channels // 2, height, width).transpose(1, 2).reshape(n, channels, height, width)


class ShuffleUnit(nn.Module):
    """A unit of stride 1 transforms one half of the channels; one of stride 2 transforms all, twice.

    Args:
        channels_in: of the input.
        channels_out: of the output.
        stride: 1 or 2.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        half = channels_out // 2
        self.splits = stride == 1
        self.shortcut: nn.Module = nn.Identity()
        if not self.splits:
            self.shortcut = nn.Sequential(*_depthwise(channels_in, stride), *_pointwise(channels_in, half))
        self.branch = nn.Sequential(
            *_pointwise(half if self.splits else channels_in, half), *_depthwise(half, stride), *_pointwise(half, half)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, channels_in, H, W] to [N, channels_out, H/stride, W/stride]."""
        first, second = x.chunk(2, 1) if self.splits else (x, x)
        return channel_shuffle(torch.cat([self.shortcut(first), self.branch(second)], 1))


class ShuffleNetV2(nn.Module):
    """Stem, three stages of units, a 1×1 convolution, global average, classifier.

    Args:
        classes: outputs.
        in_channels: of an image.
        widths: channels of the stem, of each stage (even), and of the last convolution.

    Raises:
        NetworkError: if an argument is out of range.
    """

    def __init__(self, classes: int, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        require_positive(classes=classes, in_channels=in_channels, widths=widths)
        if any(width % 2 for width in widths[1:4]):
            raise NetworkError("shufflenetv2: the widths of the stages", got=list(widths), allowed="even numbers")
        channels = widths[0]
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        ]
        for units, width in zip(_UNITS, widths[1:4], strict=True):
            layers.append(ShuffleUnit(channels, width, 2))
            layers += [ShuffleUnit(width, width, 1) for _ in range(units - 1)]
            channels = width
        self.features = nn.Sequential(*layers, *_pointwise(channels, widths[4]))
        self.linear = nn.Linear(widths[4], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images [N, in_channels, H, W] to logits [N, classes]."""
        logits: Tensor = self.linear(self.features(x).mean((2, 3)))
        return logits


def _pointwise(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [nn.Conv2d(channels_in, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out), nn.ReLU()]


def _depthwise(channels: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
    return [convolution, nn.BatchNorm2d(channels)]


@networks.register("shufflenetv2")
def shufflenetv2(
    *, classes: int = 10, in_channels: int = 3, size: str = "1.0", widths: Sequence[int] | None = None
) -> ShuffleNetV2:
    """1.26 million parameters with 10 classes at size 1.0.

    Args:
        classes: outputs.
        in_channels: of an image.
        size: "0.5", "1.0" or "1.5": the paper's widths.
        widths: of the stem, the three stages and the last convolution, instead of a size.
    """
    if widths is None and size not in _WIDTHS:
        raise NetworkError("argument 'size' of the network", got=size, allowed=", ".join(map(repr, _WIDTHS)))
    return ShuffleNetV2(classes, in_channels, _WIDTHS[size] if widths is None else widths)
