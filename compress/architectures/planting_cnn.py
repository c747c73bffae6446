"""The 7-layer network that channel planting grows: five convolutions 3×3 and two linear layers, no BatchNorm.

Source: BonsaiNet thesis, table 4.1 and §4.2; the padding of 1 and the 128 hidden units follow from its parameter counts
(20.4K with 8 channels and 857.5K with 128 on 32×32, 40.8K with 8 and 445.8K with 64 on 96×96).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from compress.architectures.spec import networks, require_positive
from compress.errors import NetworkError


class PlantingCNN(nn.Module):
    """ReLU after each layer but the last, 2×2 max-pools after some; He initialisation.

    Args:
        classes: outputs.
        in_channels: of an image.
        channels: of each convolution.
        hidden: units of the first linear layer.
        pool_after: numbers of the convolutions, from 1, that a pool follows.
        image_size: (H, W) in pixels.
    """

    def __init__(
        self,
        *,
        classes: int,
        in_channels: int,
        channels: Sequence[int],
        hidden: int,
        pool_after: Sequence[int],
        image_size: Sequence[int],
    ) -> None:
        super().__init__()
        require_positive(classes=classes, in_channels=in_channels, channels=channels, hidden=hidden)
        if len(channels) == 0:
            raise NetworkError("argument 'channels' of the network", got=[], allowed="one number or more")
        if not set(pool_after) <= set(range(1, len(channels) + 1)):
            raise NetworkError(
                "argument 'pool_after' of the network",
                got=list(pool_after),
                allowed=f"numbers from 1 to {len(channels)}",
            )
        self.pool_after = frozenset(pool_after)
        height, width = (size >> len(self.pool_after) for size in image_size)
        if min(height, width) < 1:
            raise NetworkError(
                "planting-cnn: image size",
                got=list(image_size),
                allowed=f"{1 << len(self.pool_after)} pixels and more with {len(self.pool_after)} pools",
            )
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1)
            for before, after in zip([in_channels, *channels], channels, strict=False)
        )
        self.fc1 = nn.Linear(channels[-1] * height * width, hidden)
        self.fc2 = nn.Linear(hidden, classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws what starts otherwise than the layers would draw it by themselves."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images [N, in_channels, H, W] to logits [N, classes]."""
        for number, conv in enumerate(self.convs, 1):
            x = functional.relu(conv(x))
            if number in self.pool_after:
                x = functional.max_pool2d(x, 2)
        logits: Tensor = self.fc2(functional.relu(self.fc1(x.flatten(1))))
        return logits


@networks.register("planting-cnn")
def planting_cnn(
    *,
    classes: int = 10,
    in_channels: int = 3,
    channels: Sequence[int] = (8, 8, 8, 8, 8),
    hidden: int = 128,
    pool_after: Sequence[int] = (1, 2, 5),
    image_size: Sequence[int] = (32, 32),
) -> PlantingCNN:
    """Table 4.1: `pool_after` (1, 2, 5) for CIFAR, (1, 2, 3, 5) for STL-10."""
    return PlantingCNN(
        classes=classes,
        in_channels=in_channels,
        channels=channels,
        hidden=hidden,
        pool_after=pool_after,
        image_size=image_size,
    )
