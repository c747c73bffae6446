"""Whatever couples the channels: where half of them are dead, the rewriter reaches the network of half the width."""

from functools import cache

import numpy as np
import pytest
import topologies
import torch
from onnx import ModelProto

from compress.onnx_io.session import session
from compress.rewrite import RewriteResult, explain, rewrite

TOLERANCE = 1e-5


@cache
def cut(name: str, extra: int) -> tuple[int, int]:
    """Returns parameters and channels of the network that is built at half width, `extra` channels a site more."""
    return size(rewrite(topologies.exported(name, half=True, extra=extra)))


def size(result: RewriteResult) -> tuple[int, int]:
    return result.params_after, sum(layer.channels for layer in explain(result.model).layers)


@pytest.mark.parametrize("mask", topologies.MASKS)
@pytest.mark.parametrize("value", topologies.VALUES)
@pytest.mark.parametrize("name", topologies.TOPOLOGIES)
def test_the_network_of_half_the_width_is_reached(name, value, mask):
    network, model = topologies.masked(name, value, mask)
    result = rewrite(model)
    assert result.proven, result.notes
    assert not [note for note in result.notes if "left out" in note], result.notes

    # Beside zero padding a site may keep one of its constant channels, the carrier.
    parameters, channels = cut(name, extra=int(value == "constant"))
    assert size(result)[0] <= parameters
    assert size(result)[1] <= channels

    images = torch.randn(3, *topologies.input_shape(name), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = network(images).numpy()
    found = session(result.model.SerializeToString()).run(None, {"input": images.numpy()})[0]
    assert np.abs(expected).max() > 1e-2, "an output of nothing would prove nothing"
    assert np.abs(expected - found).max() <= TOLERANCE * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("value", topologies.VALUES)
@pytest.mark.parametrize("name", ["mobile", "resnet", "unet"])
def test_it_is_reached_where_every_axis_of_the_input_is_left_open(name, value):
    """Constant channels are averaged over as many places as there are: in float32, by each runtime in its own way."""
    _, model = topologies.masked(name, value, "unaligned")
    expected = rewrite(model).params_after
    opened = ModelProto()
    opened.CopyFrom(model)
    for axis, dim in enumerate(opened.graph.input[0].type.tensor_type.shape.dim):
        dim.dim_param = f"axis{axis}"
    result = rewrite(opened)
    assert result.params_after == expected, result.notes
    images = np.random.default_rng(0).standard_normal((2, 3, 48, 80)).astype(np.float32)
    before, after = (session(m.SerializeToString()).run(None, {"input": images})[0] for m in (opened, result.model))
    assert np.abs(before - after).max() <= TOLERANCE * max(1.0, np.abs(before).max())
