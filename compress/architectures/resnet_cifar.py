"""Residual networks for small images, depth 6n + 2: three stages of n blocks with width, 2·width, 4·width channels.

Source: K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", 2015, §4.2. Parameters are
named as in akamaster/pytorch_resnet_cifar10, so that its published weights load.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.architectures.spec import Factory, networks, require_positive
from compress.errors import NetworkError

Shortcut = Literal["A", "B"]


class PaddedShortcut(nn.Module):
    """Option A: the input at every `stride`-th pixel, with channels of zeros before and after it.

    The zeros are buffers, not a padding amount: a cut of channels slices `low` and `high` like any other tensor, and
    `forward` needs no channel count. They are not persistent, as they hold nothing to be saved.

    Args:
        low: channels of zeros before the input's.
        high: channels of zeros after them.
        stride: step in pixels, both ways.
    """

    low: Tensor
    high: Tensor

    def __init__(self, low: int, high: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.register_buffer("low", torch.zeros(1, low, 1, 1), persistent=False)
        self.register_buffer("high", torch.zeros(1, high, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, C, H, W] to [N, low + C + high, ⌈H/stride⌉, ⌈W/stride⌉]."""
        x = x[:, :, :: self.stride, :: self.stride]
        n, _, h, w = x.shape
        return torch.cat([self.low.expand(n, -1, h, w), x, self.high.expand(n, -1, h, w)], 1)


class BasicBlock(nn.Module):
    """y = relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)), both convolutions 3×3.

    Args:
        channels_in: of the block's input.
        channels_out: of both convolutions.
        stride: of the first convolution and the shortcut.
        shortcut: "A" pads with zeros, "B" projects by a 1×1 convolution, where the shape changes.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            if shortcut == "A":
                low = (channels_out - channels_in) // 2
                self.shortcut = PaddedShortcut(low, channels_out - channels_in - low, stride)
            else:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False), nn.BatchNorm2d(channels_out)
                )

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, channels_in, H, W] to [N, channels_out, ⌈H/stride⌉, ⌈W/stride⌉]."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return functional.relu(y + self.shortcut(x))


class CifarResNet(nn.Module):
    """The network of He 2015, §4.2, with He initialisation.

    Args:
        blocks: n, in each of the three stages.
        classes: outputs.
        in_channels: of an image.
        width: channels of the first stage.
        shortcut: option "A" or "B".

    Raises:
        NetworkError: if an argument is out of range.
    """

    def __init__(self, blocks: int, classes: int, in_channels: int, width: int, shortcut: str) -> None:
        super().__init__()
        require_positive(classes=classes, in_channels=in_channels, width=width)
        if shortcut not in ("A", "B"):
            raise NetworkError("argument 'shortcut' of the network", got=shortcut, allowed="'A', 'B'")
        option = cast("Shortcut", shortcut)
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(blocks, width, width, 1, option)
        self.layer2 = _stage(blocks, width, 2 * width, 2, option)
        self.layer3 = _stage(blocks, 2 * width, 4 * width, 2, option)
        self.linear = nn.Linear(4 * width, classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws what starts otherwise than the layers would draw it by themselves."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images [N, in_channels, H, W] to logits [N, classes]."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def _stage(blocks: int, channels_in: int, channels_out: int, stride: int, shortcut: Shortcut) -> nn.Sequential:
    first = BasicBlock(channels_in, channels_out, stride, shortcut)
    rest = [BasicBlock(channels_out, channels_out, 1, shortcut) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


def _factory(depth: int, default_shortcut: Shortcut) -> Factory:
    def build(
        *, classes: int = 10, in_channels: int = 3, width: int = 16, shortcut: str = default_shortcut
    ) -> CifarResNet:
        return CifarResNet((depth - 2) // 6, classes, in_channels, width, shortcut)

    return build


# The published network of depth 8 (MLPerf Tiny's image classifier) projects; the paper's own ones pad.
networks.register("resnet8")(_factory(8, "B"))
for _depth in (20, 32, 44, 56, 110):
    networks.register(f"resnet{_depth}")(_factory(_depth, "A"))
