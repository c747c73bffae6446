"""What a rewrite says that a model cost before is what it cost, computed shapes or not."""

import torch
from torch import nn

from compress.rewrite import rewrite
from compress.torch_graph import to_onnx


def test_an_export_whose_biases_are_computed_is_counted_whole():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), nn.Conv2d(8, 4, 3, bias=False))
    with torch.no_grad():
        network[0].weight[2:5] = 0
    result = rewrite(to_onnx(network, (3, 8, 8)))
    assert result.macs_before == 8 * 3 * 9 * 36 + 4 * 8 * 9 * 16
    assert result.macs_after == 5 * 3 * 9 * 36 + 4 * 5 * 9 * 16
