"""The two LeNets on which pruning papers report.

Sources: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998
(LeNet-300-100), here with ReLU as S. Han et al., "Learning both Weights and Connections for Efficient Neural Networks",
2015; Caffe's `lenet_train_test.prototxt` (LeNet-5-Caffe: no activation after the convolutions).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from compress.architectures.spec import networks, require_positive
from compress.errors import NetworkError


class LeNet300100(nn.Module):
    """pixels → 300 → 100 → classes, ReLU between, He initialisation.

    Args:
        classes: outputs.
        in_channels: of an image.
        hidden: units of the two hidden layers.
        image_size: (H, W) in pixels.
    """

    def __init__(self, classes: int, in_channels: int, hidden: Sequence[int], image_size: Sequence[int]) -> None:
        super().__init__()
        require_positive(classes=classes, in_channels=in_channels, hidden=hidden, image_size=image_size)
        if len(hidden) != 2:
            raise NetworkError("argument 'hidden' of the network", got=list(hidden), allowed="two numbers")
        self.fc1 = nn.Linear(in_channels * math.prod(image_size), hidden[0])
        self.fc2 = nn.Linear(hidden[0], hidden[1])
        self.fc3 = nn.Linear(hidden[1], classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws what starts otherwise than the layers would draw it by themselves."""
        for layer in (self.fc1, self.fc2, self.fc3):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images [N, in_channels, H, W] to logits [N, classes]."""
        x = functional.relu(self.fc1(x.flatten(1)))
        logits: Tensor = self.fc3(functional.relu(self.fc2(x)))
        return logits


class LeNet5Caffe(nn.Module):
    """conv 5×5 → pool → conv 5×5 → pool → 500 → ReLU → classes, with Caffe's initialisation.

    Args:
        classes: outputs.
        in_channels: of an image.
        channels: of the two convolutions.
        hidden: units of the first linear layer.
        image_size: (H, W) in pixels, at least 16 each.
    """

    def __init__(
        self, classes: int, in_channels: int, channels: Sequence[int], hidden: int, image_size: Sequence[int]
    ) -> None:
        super().__init__()
        require_positive(classes=classes, in_channels=in_channels, channels=channels, hidden=hidden)
        if len(channels) != 2:
            raise NetworkError("argument 'channels' of the network", got=list(channels), allowed="two numbers")
        if min(image_size) < 16:
            raise NetworkError("lenet-5-caffe: image size", got=list(image_size), allowed="16 pixels and more")
        pixels = math.prod(((size - 4) // 2 - 4) // 2 for size in image_size)
        self.conv1 = nn.Conv2d(in_channels, channels[0], 5)
        self.conv2 = nn.Conv2d(channels[0], channels[1], 5)
        self.fc1 = nn.Linear(channels[1] * pixels, hidden)
        self.fc2 = nn.Linear(hidden, classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws what starts otherwise than the layers would draw it by themselves."""
        for layer in (self.conv1, self.conv2, self.fc1, self.fc2):
            # Caffe's "xavier" filler: uniform with variance 1 / fan-in.
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="linear")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images [N, in_channels, H, W] to logits [N, classes]."""
        x = functional.max_pool2d(self.conv1(x), 2)
        x = functional.max_pool2d(self.conv2(x), 2)
        logits: Tensor = self.fc2(functional.relu(self.fc1(x.flatten(1))))
        return logits


@networks.register("lenet-300-100")
def lenet_300_100(
    *,
    classes: int = 10,
    in_channels: int = 1,
    hidden: Sequence[int] = (300, 100),
    image_size: Sequence[int] = (28, 28),
) -> LeNet300100:
    """LeNet-300-100: 266,610 parameters on MNIST."""
    return LeNet300100(classes, in_channels, hidden, image_size)


@networks.register("lenet-5-caffe")
def lenet_5_caffe(
    *,
    classes: int = 10,
    in_channels: int = 1,
    channels: Sequence[int] = (20, 50),
    hidden: int = 500,
    image_size: Sequence[int] = (28, 28),
) -> LeNet5Caffe:
    """LeNet-5-Caffe: 431,080 parameters on MNIST."""
    return LeNet5Caffe(classes, in_channels, channels, hidden, image_size)
