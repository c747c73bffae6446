"""Trained centroids: by hand, through ties and interruptions, and against centroids that k-means alone has set."""

import copy

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from compress.coding.clusters import share
from compress.data.base import ArraySplit, Dataset
from compress.errors import NetworkError
from compress.prune.regularizers.weight_sharing import share_weights
from compress.recipe import TrainSettings
from compress.train.loop import fit


def test_a_centroid_follows_the_sum_of_its_weights_gradients():
    layer = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 1.2, 5.0], [0.0, 5.2, 1.1]]))
    held = layer.weight
    hook = share_weights(layer, 8, 1)
    hook.attach(layer)
    # {1, 1.1, 1.2} → 1.1 and {5, 5.2} → 5.1; the zero has none.
    torch.testing.assert_close(layer.weight, torch.tensor([[1.1, 1.1, 5.1], [0.0, 5.1, 1.1]]))
    gradient = torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01)
    (layer.weight * gradient).sum().backward()
    (centroids,) = layer.parameters()
    assert centroids.grad.tolist() == [1 + 2 + 32, 4 + 16]
    optimizer.step()
    hook.detach(layer)
    torch.testing.assert_close(layer.weight, torch.tensor([[0.75, 0.75, 4.9], [0.0, 4.9, 0.75]]))
    assert layer.weight is held
    assert [name for name, _ in layer.named_parameters()] == ["weight"]


def test_tied_weights_share_one_table():
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    network[2].weight = network[0].weight
    hook = share_weights(network, 8, 2)
    hook.attach(network)
    assert len(list(network.parameters())) == 3
    functional.mse_loss(network(torch.eye(4)), torch.eye(4)).backward()
    hook.detach(network)
    assert network[2].weight is network[0].weight
    assert network[0].weight.shape == (4, 4)
    assert len(network[0].weight.unique()) == 4
    assert network(torch.eye(4)).isfinite().all()


def test_a_network_without_weights_to_share_is_refused():
    with pytest.raises(NetworkError, match="no convolution or linear layer"):
        share_weights(nn.BatchNorm2d(3), 8, 5)


@pytest.fixture(scope="module")
def digits():
    content = load_digits()
    images, labels = (content.images[:, None] / 16).astype(np.float32), content.target.astype(np.int64)
    parts = (
        ArraySplit(images[p], labels[p], (0.0,), (1.0,)) for p in (slice(0, 1000), slice(1000, 1400), slice(1400, None))
    )
    return Dataset("digits", *parts, 10, (1, 8, 8))


@pytest.fixture(scope="module")
def trained(digits):
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    network = nn.Sequential(*features, nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 10))
    fit(network, digits, TrainSettings(epochs=6, batch_size=50, learning_rate=0.1, device="cpu"), seed=0)
    with torch.no_grad():
        network[4].weight[torch.rand_like(network[4].weight) < 0.5] = 0
    return network


SHARE = TrainSettings(epochs=4, batch_size=50, learning_rate=0.01, weight_decay=0.0, device="cpu")
BITS = {"0.weight": 2, "4.weight": 1, "6.weight": 1}


def loss(network, split):
    images, labels = next(split.batches(1000))
    with torch.no_grad():
        return functional.cross_entropy(network(torch.from_numpy(images)), torch.from_numpy(labels)).item()


def test_trained_centroids_lose_less_than_untrained_ones(trained, digits):
    untrained, shared = copy.deepcopy(trained), copy.deepcopy(trained)
    with torch.no_grad():
        for name, bits in BITS.items():
            weight = untrained.get_parameter(name)
            weight.copy_(torch.from_numpy(share(weight.numpy(), bits).weights()))
    fit(shared, digits, SHARE, seed=0, hooks=[share_weights(shared, 2, 1)])
    for name, bits in BITS.items():
        before, after = trained.get_parameter(name), shared.get_parameter(name)
        assert torch.equal(before == 0, after == 0)
        assert len(after[after != 0].unique()) == 2**bits
        assert not torch.equal(after, untrained.get_parameter(name))
    # Of the loss that sharing costs, more than a quarter is won back, on images that no training has seen.
    exact, rounded, won = (loss(network, digits.test) for network in (trained, untrained, shared))
    assert won - exact < 0.75 * (rounded - exact)


def test_an_interrupted_training_goes_on_bit_for_bit(trained, digits, tmp_path):
    settings = SHARE.model_copy(update={"epochs": 2, "early_stop_epochs": 2})
    whole, parts = copy.deepcopy(trained), copy.deepcopy(trained)
    fit(whole, digits, settings, seed=0, hooks=[share_weights(whole, 2, 1)])

    def stop(progress):
        if progress.epoch == 2:
            raise KeyboardInterrupt

    state = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        fit(parts, digits, settings, seed=0, checkpoint=state, progress=stop, hooks=[share_weights(parts, 2, 1)])
    parts = copy.deepcopy(trained)
    result = fit(parts, digits, settings, seed=0, checkpoint=state, hooks=[share_weights(parts, 2, 1)])
    assert result.epochs == 2
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name])
