"""VGG with BatchNorm for small images: 13 convolutions 3×3, then one linear layer (VGG14) or more (VGG16).

The convolutions are those of VGG16; the first four stages end in a max-pool, the last in a global average, so that any
image of 16 pixels and more fits.

Sources: K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014, table 1,
column D; H. Li et al., "Pruning Filters for Efficient ConvNets", 2016, table 2 (the form for CIFAR-10: one hidden
linear layer of 512 with BatchNorm); VGG14 as in the BonsaiNet thesis, §3.2.2 (13 convolutions, 1 linear layer).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from compress.architectures.spec import networks, require_positive
from compress.errors import NetworkError

# Convolutions and channels of each stage, in multiples of the width.
_STAGES = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))


class CifarVGG(nn.Module):
    """Five stages of convolution, BatchNorm and ReLU, then the classifier; He initialisation.

    Args:
        classes: outputs.
        in_channels: of an image.
        width: channels of the first stage; the others have 2, 4, 8 and 8 times as many.
        hidden: units of each hidden linear layer, none for VGG14.
        image_size: (H, W) in pixels, at least 16 each.
    """

    def __init__(
        self, classes: int, in_channels: int, width: int, hidden: Sequence[int], image_size: Sequence[int]
    ) -> None:
        super().__init__()
        require_positive(classes=classes, in_channels=in_channels, width=width, hidden=hidden)
        if min(image_size) < 16:
            raise NetworkError("vgg: image size", got=list(image_size), allowed="16 pixels and more")
        features: list[nn.Module] = []
        channels = in_channels
        for stage, (convolutions, factor) in enumerate(_STAGES):
            if stage > 0:
                features.append(nn.MaxPool2d(2))
            for _ in range(convolutions):
                features += [
                    nn.Conv2d(channels, factor * width, 3, padding=1, bias=False),
                    nn.BatchNorm2d(factor * width),
                    nn.ReLU(),
                ]
                channels = factor * width
        self.features = nn.Sequential(*features)
        classifier: list[nn.Module] = []
        for units in hidden:
            classifier += [nn.Linear(channels, units), nn.BatchNorm1d(units), nn.ReLU()]
            channels = units
        self.classifier = nn.Sequential(*classifier, nn.Linear(channels, classes))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws what starts otherwise than the layers would draw it by themselves."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images [N, in_channels, H, W] to logits [N, classes]."""
        logits: Tensor = self.classifier(self.features(x).mean((2, 3)))
        return logits


@networks.register("vgg14-bn")
def vgg14_bn(
    *, classes: int = 10, in_channels: int = 3, width: int = 64, image_size: Sequence[int] = (32, 32)
) -> CifarVGG:
    """13 convolutions and one linear layer: 14.7 million parameters on CIFAR-10."""
    return CifarVGG(classes, in_channels, width, (), image_size)


@networks.register("vgg16-bn")
def vgg16_bn(
    *,
    classes: int = 10,
    in_channels: int = 3,
    width: int = 64,
    hidden: Sequence[int] | None = None,
    image_size: Sequence[int] = (32, 32),
) -> CifarVGG:
    """13 convolutions and two linear layers: 15.0 million parameters on CIFAR-10.

    Args:
        classes: outputs.
        in_channels: of an image.
        width: channels of the first stage.
        hidden: units of the hidden linear layers, by default one of 8·width; two entries give three linear layers.
        image_size: (H, W) in pixels.
    """
    require_positive(width=width)
    return CifarVGG(classes, in_channels, width, (8 * width,) if hidden is None else hidden, image_size)
