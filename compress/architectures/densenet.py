"""DenseNet for small images: three blocks in which each layer reads all before it.

Source: G. Huang, Z. Liu, L. van der Maaten, K. Q. Weinberger, "Densely Connected Convolutional Networks", 2017, §3 and
§4.2: depth 40, growth 12, without bottlenecks and compression.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compress.architectures.spec import networks, require_positive

_BLOCKS = 3


class DenseLayer(nn.Module):
    """BatchNorm, ReLU and a 3×3 convolution, whose outputs are appended to its inputs.

    Args:
        channels: of the input.
        growth: channels that are appended.
    """

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, channels, H, W] to [N, channels + growth, H, W]."""
        return torch.cat([x, self.conv(self.norm(x).relu())], 1)


class DenseNet(nn.Module):
    """Stem, three dense blocks with transitions between them, BatchNorm, global average, classifier.

    Args:
        depth: 3n + 4, with n layers a block.
        classes: outputs.
        in_channels: of an image.
        growth: channels that a layer appends.
        stem: channels of the first convolution.

    Raises:
        NetworkError: if an argument is out of range.
    """

    def __init__(self, depth: int, classes: int, in_channels: int, growth: int, stem: int) -> None:
        super().__init__()
        require_positive(classes=classes, in_channels=in_channels, growth=growth, stem=stem)
        channels = stem
        layers: list[nn.Module] = [nn.Conv2d(in_channels, stem, 3, padding=1, bias=False)]
        for block in range(_BLOCKS):
            if block > 0:
                layers += [
                    nn.BatchNorm2d(channels),
                    nn.ReLU(),
                    nn.Conv2d(channels, channels, 1, bias=False),
                    nn.AvgPool2d(2),
                ]
            for _ in range((depth - 4) // _BLOCKS):
                layers.append(DenseLayer(channels, growth))
                channels += growth
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU())
        self.linear = nn.Linear(channels, classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws what starts otherwise than the layers would draw it by themselves."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images [N, in_channels, H, W] to logits [N, classes]."""
        logits: Tensor = self.linear(self.features(x).mean((2, 3)))
        return logits


@networks.register("densenet40")
def densenet40(*, classes: int = 10, in_channels: int = 3, growth: int = 12, stem: int = 16) -> DenseNet:
    """1.02 million parameters on CIFAR-10."""
    return DenseNet(40, classes, in_channels, growth, stem)
