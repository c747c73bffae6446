"""MobileNetV2: inverted residuals with depthwise convolutions, with a stem for small images.

Source: M. Sandler, A. Howard, M. Zhu, A. Zhmoginov, L.-C. Chen, "MobileNetV2: Inverted Residuals and Linear
Bottlenecks", 2018, table 2. For images of 32 pixels the stem and the second stage do not stride.
"""

from __future__ import annotations

from torch import Tensor, nn

from compress.architectures.spec import networks, require_positive

# Expansion, channels, blocks, stride of each stage.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_STEM, _LAST = 32, 1280


class InvertedResidual(nn.Module):
    """Expand by 1×1, filter by a depthwise 3×3, project by 1×1; the input is added where the shape stays.

    Args:
        channels_in: of the input.
        channels_out: of the output.
        stride: of the depthwise convolution.
        expansion: inner channels, in multiples of the input's; 1: no expanding convolution.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = expansion * channels_in
        self.adds = stride == 1 and channels_in == channels_out
        self.branch = nn.Sequential(
            *(_convolution(channels_in, inner, 1, 1) if expansion > 1 else ()),
            *_convolution(inner, inner, 3, stride, groups=inner),
            *_convolution(inner, channels_out, 1, 1)[:-1],
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, channels_in, H, W] to [N, channels_out, ⌈H/stride⌉, ⌈W/stride⌉]."""
        y: Tensor = self.branch(x)
        return x + y if self.adds else y


class MobileNetV2(nn.Module):
    """Stem, seven stages of inverted residuals, a 1×1 convolution, global average, classifier.

    Args:
        classes: outputs.
        in_channels: of an image.
        multiplier: of all channel counts; the last convolution does not become thinner.

    Raises:
        NetworkError: if an argument is out of range.
    """

    def __init__(self, classes: int, in_channels: int, multiplier: float) -> None:
        super().__init__()
        require_positive(classes=classes, in_channels=in_channels)
        channels = _rounded(_STEM * multiplier)
        layers: list[nn.Module] = [*_convolution(in_channels, channels, 3, 1)]
        for expansion, width, blocks, stride in _STAGES:
            for index in range(blocks):
                produced = _rounded(width * multiplier)
                layers.append(InvertedResidual(channels, produced, stride if index == 0 else 1, expansion))
                channels = produced
        last = _rounded(_LAST * max(1.0, multiplier))
        self.features = nn.Sequential(*layers, *_convolution(channels, last, 1, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws what starts otherwise than the layers would draw it by themselves."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """Maps images [N, in_channels, H, W] to logits [N, classes]."""
        logits: Tensor = self.classifier(self.features(x).mean((2, 3)))
        return logits


def _convolution(channels_in: int, channels_out: int, kernel: int, stride: int, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(channels_out), nn.ReLU6()]


def _rounded(channels: float) -> int:
    """Rounds to a multiple of 8, never by more than a tenth downwards, as the authors do."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


@networks.register("mobilenetv2")
def mobilenetv2(*, classes: int = 10, in_channels: int = 3, multiplier: float = 1.0) -> MobileNetV2:
    """2.24 million parameters with 10 classes."""
    return MobileNetV2(classes, in_channels, multiplier)
