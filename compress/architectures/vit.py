"""A small vision transformer for small images.

Source: A. Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", 2021, §3.1;
sizes of "tiny" from H. Touvron et al., "Training data-efficient image transformers & distillation through attention",
2021, table 1. For images of 32 pixels a patch has 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.architectures.spec import networks, require_positive
from compress.errors import NetworkError


class Attention(nn.Module):
    """Self-attention of several heads. The scale is that of the uncut head, whatever dimensions go.

    Args:
        width: of a token.
        heads: how many; they divide the width.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.query, self.key, self.value = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Maps tokens [N, T, width] to tokens of that shape."""
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        weights = ((query * self.scale) @ key.transpose(-2, -1)).softmax(-1)
        mixed: Tensor = self.out((weights @ value).transpose(1, 2).flatten(2))
        return mixed


class Block(nn.Module):
    """Attention, then a hidden layer, each on normalised tokens and added to them.

    Args:
        width: of a token.
        heads: of the attention.
        hidden: units of the hidden layer.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Maps tokens [N, T, width] to tokens of that shape."""
        x = x + self.attention(self.norm1(x))
        mixed: Tensor = x + self.down(functional.gelu(self.up(self.norm2(x))))
        return mixed


class VisionTransformer(nn.Module):
    """Patches, a class token and positions, blocks, LayerNorm, classifier on the class token.

    Args:
        classes: outputs.
        in_channels: of an image.
        width: of a token.
        depth: blocks.
        heads: of each attention; they divide the width.
        patch: side in pixels.
        image_size: (H, W) in pixels, multiples of the patch.

    Raises:
        NetworkError: if an argument is out of range.
    """

    def __init__(
        self, classes: int, in_channels: int, width: int, depth: int, heads: int, patch: int, image_size: Sequence[int]
    ) -> None:
        super().__init__()
        require_positive(classes=classes, in_channels=in_channels, width=width, depth=depth, heads=heads, patch=patch)
        if width % heads:
            raise NetworkError("vit: heads", got=heads, allowed=f"divisors of the width {width}")
        if any(side % patch for side in image_size):
            raise NetworkError("vit: image size", got=list(image_size), allowed=f"multiples of the patch, {patch}")
        self.patches = nn.Conv2d(in_channels, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        tokens = 1 + (image_size[0] // patch) * (image_size[1] // patch)
        self.positions = nn.Parameter(torch.zeros(1, tokens, width))
        self.blocks = nn.Sequential(*(Block(width, heads, 4 * width) for _ in range(depth)))
        self.norm, self.linear = nn.LayerNorm(width), nn.Linear(width, classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws what starts otherwise than the layers would draw it by themselves."""
        for parameter in (self.token, self.positions):
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images [N, in_channels, H, W] to logits [N, classes]."""
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        logits: Tensor = self.linear(self.norm(self.blocks(x))[:, 0])
        return logits


@networks.register("vit-tiny")
def vit_tiny(
    *,
    classes: int = 10,
    in_channels: int = 3,
    width: int = 192,
    depth: int = 12,
    heads: int = 3,
    patch: int = 4,
    image_size: Sequence[int] = (32, 32),
) -> VisionTransformer:
    """5.4 million parameters on CIFAR-10."""
    return VisionTransformer(classes, in_channels, width, depth, heads, patch, image_size)
