"""Residual networks of four stages, with a stem for small images: depths 18, 34, 50 and 101.

Source: K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", 2015, table 1. For images of 32
pixels the stem is one convolution 3×3 of stride 1 without pooling; a bottleneck strides in its 3×3 convolution.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from compress.architectures.spec import Factory, networks, require_positive

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_EXPANSION = 4  # a bottleneck's outputs, in multiples of its inner channels


class Residual(nn.Module):
    """y = relu(branch(x) + shortcut(x)); the shortcut is a 1×1 convolution where the shape changes.

    Args:
        kernels: sides of the branch's convolutions, BatchNorm after each, ReLU between them.
        channels: of the branch's input and of each convolution's output.
        stride: of the branch's 3×3 convolution that comes first, and of the shortcut.
    """

    def __init__(self, kernels: Sequence[int], channels: Sequence[int], stride: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index, kernel in enumerate(kernels):
            step = stride if kernel == max(kernels) and kernels.index(kernel) == index else 1
            layers += [
                nn.Conv2d(channels[index], channels[index + 1], kernel, step, kernel // 2, bias=False),
                nn.BatchNorm2d(channels[index + 1]),
                nn.ReLU(),
            ]
        self.branch = nn.Sequential(*layers[:-1])
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels[0] != channels[-1]:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels[0], channels[-1], 1, stride, bias=False), nn.BatchNorm2d(channels[-1])
            )

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, C, H, W] to [N, channels[-1], ⌈H/stride⌉, ⌈W/stride⌉]."""
        return functional.relu(self.branch(x) + self.shortcut(x))


class ResNet(nn.Module):
    """Stem, four stages of width, 2, 4 and 8 times width, global average, classifier; He initialisation.

    Args:
        blocks: in each stage.
        bottleneck: whether a block is 1×1, 3×3, 1×1 with four times the channels, or two 3×3.
        classes: outputs.
        in_channels: of an image.
        width: inner channels of the first stage.

    Raises:
        NetworkError: if an argument is out of range.
    """

    def __init__(self, blocks: Sequence[int], bottleneck: bool, classes: int, in_channels: int, width: int) -> None:
        super().__init__()
        require_positive(classes=classes, in_channels=in_channels, width=width)
        layers: list[nn.Module] = []
        channels = width
        for stage, count in enumerate(blocks):
            inner = width * 2**stage
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                if bottleneck:
                    shape = [channels, inner, inner, _EXPANSION * inner]
                    layers.append(Residual((1, 3, 1), shape, stride))
                else:
                    shape = [channels, inner, inner]
                    layers.append(Residual((3, 3), shape, stride))
                channels = shape[-1]
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.blocks = nn.Sequential(*layers)
        self.linear = nn.Linear(channels, classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws what starts otherwise than the layers would draw it by themselves."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Maps images [N, in_channels, H, W] to logits [N, classes]."""
        logits: Tensor = self.linear(self.blocks(self.stem(x)).mean((2, 3)))
        return logits


def _factory(depth: int) -> Factory:
    def build(*, classes: int = 10, in_channels: int = 3, width: int = 64) -> ResNet:
        return ResNet(_BLOCKS[depth], depth >= 50, classes, in_channels, width)

    return build


for _depth in _BLOCKS:
    networks.register(f"resnet{_depth}")(_factory(_depth))
