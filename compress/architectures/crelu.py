"""Concatenated ReLU: both phases of a response, from one filter.

Source: W. Shang, K. Sohn, D. Almeida, H. Lee, "Understanding and Improving Convolutional Neural Networks via
Concatenated Rectified Linear Units", 2016, definition 2.1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BothPhases(nn.Module):
    """x → (x, −x) along the channels; a ReLU that follows makes it a CReLU."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, C, …] to [N, 2·C, …]."""
        return torch.cat([x, -x], 1)


class CReLU(nn.Module):
    """x → (max(x, 0), max(−x, 0)) along the channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, C, …] to [N, 2·C, …]."""
        return torch.cat([x, -x], 1).relu()
