"""AlexNet: five convolutions, three linear layers.

Source: A. Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014: the form in one column.
"""

from __future__ import annotations

from torch import Tensor, nn

from compress.architectures.spec import networks, require_positive

# Channels in multiples of 1/64 of the width, kernel, stride, padding; a max-pool follows the 1st, 2nd and 5th.
_CONVOLUTIONS = ((64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1))
_POOLED = (0, 1, 4)
_GRID = 6  # positions a side that the classifier sees


class AlexNet(nn.Module):
    """For images of 63 pixels and more; 224 in the paper.

    Args:
        classes: outputs.
        in_channels: of an image.
        width: channels of the first convolution; all others are in proportion, hidden units too.

    Raises:
        NetworkError: if an argument is out of range.
    """

    def __init__(self, classes: int, in_channels: int, width: int) -> None:
        super().__init__()
        require_positive(classes=classes, in_channels=in_channels, width=width)
        layers: list[nn.Module] = []
        channels = in_channels
        for index, (share, kernel, stride, padding) in enumerate(_CONVOLUTIONS):
            produced = max(1, share * width // 64)
            layers += [nn.Conv2d(channels, produced, kernel, stride, padding), nn.ReLU()]
            layers += [nn.MaxPool2d(3, 2)] if index in _POOLED else []
            channels = produced
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(_GRID))
        hidden = 64 * width
        self.classifier = nn.Sequential(
            nn.Dropout(),
            nn.Linear(channels * _GRID * _GRID, hidden),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps images [N, in_channels, H, W] to logits [N, classes]."""
        logits: Tensor = self.classifier(self.features(x).flatten(1))
        return logits


@networks.register("alexnet")
def alexnet(*, classes: int = 10, in_channels: int = 3, width: int = 64) -> AlexNet:
    """57.0 million parameters with 10 classes."""
    return AlexNet(classes, in_channels, width)
