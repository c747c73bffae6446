"""SqueezeNet 1.1: fire modules, whose 1×1 and 3×3 halves are concatenated, and a convolution as classifier.

Source: F. N. Iandola, S. Han, M. W. Moskewicz, K. Ashraf, W. J. Dally, K. Keutzer, "SqueezeNet: AlexNet-level accuracy
with 50x fewer parameters and <0.5MB model size", 2016; version 1.1 as the authors released it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.architectures.spec import networks, require_positive

# Squeezed and expanded channels of each fire module, in multiples of 1/64 of the width; a max-pool precedes some.
_FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
_POOLED_BEFORE = (0, 2, 4)


class Fire(nn.Module):
    """Squeeze by 1×1, expand by 1×1 and 3×3 side by side.

    Args:
        channels: of the input.
        squeezed: between.
        expanded: of each half.
    """

    def __init__(self, channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, channels, H, W] to [N, 2·expanded, H, W]."""
        x = functional.relu(self.squeeze(x))
        return functional.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], 1))


class SqueezeNet(nn.Module):
    """For images of 32 pixels and more; 224 in the paper.

    Args:
        classes: outputs.
        in_channels: of an image.
        width: channels of the first convolution; all others are in proportion.

    Raises:
        NetworkError: if an argument is out of range.
    """

    def __init__(self, classes: int, in_channels: int, width: int) -> None:
        super().__init__()
        require_positive(classes=classes, in_channels=in_channels, width=width)
        layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 3, stride=2), nn.ReLU()]
        channels = width
        for index, (squeezed, expanded) in enumerate(_FIRES):
            if index in _POOLED_BEFORE:
                layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            half = max(1, expanded * width // 64)
            layers.append(Fire(channels, max(1, squeezed * width // 64), half))
            channels = 2 * half
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(channels, classes, 1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Maps images [N, in_channels, H, W] to logits [N, classes]."""
        logits: Tensor = self.classifier(self.features(x)).mean((2, 3))
        return logits


@networks.register("squeezenet1.1")
def squeezenet(*, classes: int = 10, in_channels: int = 3, width: int = 64) -> SqueezeNet:
    """0.73 million parameters with 10 classes."""
    return SqueezeNet(classes, in_channels, width)
