"""Top-1, top-3 and top-5 accuracy."""

from __future__ import annotations

import torch
from torch import nn

from compress.data.base import Split
from compress.train.placement import placed, to_device, torch_device

_RANKS = (1, 3, 5)


def top_accuracies(network: nn.Module, split: Split) -> dict[str, float]:
    """Returns the share of images whose class is among the k largest logits, in per cent, for k of 1, 3 and 5.

    Args:
        network: maps images [N, C, H, W] to logits [N, K].
        split: labelled images, at least one.
    """
    device = torch_device("auto")
    right = dict.fromkeys(_RANKS, 0)
    with placed(network, device), torch.no_grad():
        network.eval()
        for batch in split.batches(500):
            images, labels = to_device(batch, device)
            logits = network(images)
            ranked = logits.topk(min(max(_RANKS), logits.shape[1])).indices == labels[:, None]
            for rank in _RANKS:
                right[rank] += int(ranked[:, :rank].any(1).sum())
    return {f"top{rank}": 100 * count / len(split) for rank, count in right.items()}
