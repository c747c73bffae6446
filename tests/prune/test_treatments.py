"""What becomes of the weights that survive a cut."""

import numpy as np
import pytest
import torch
from torch import nn

from compress.architectures import NetworkSpec
from compress.channels.plan import Plan
from compress.errors import NetworkError
from compress.prune import Survivors, treatment_of
from compress.train.checkpoint import LoadedNetwork


def prepare(network, name, seed, cut=None, initial=None):
    loaded = None if initial is None else LoadedNetwork(initial, NetworkSpec("x", {}, (3, 4, 4)), None, {})
    treatment_of(name).prepare(Survivors(network, cut or Plan(), loaded, seed))


class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))


def test_weights_are_kept_or_drawn_anew():
    def build():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2), nn.ReLU())

    network = build()
    with torch.no_grad():
        network[1].running_mean.fill_(3)
    kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    prepare(network, "fine-tune", 1)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in network.state_dict().items())
    generator = torch.get_rng_state()
    prepare(network, "from-scratch", 1)
    assert torch.equal(generator, torch.get_rng_state())
    assert not torch.equal(network[0].weight, kept["0.weight"])
    assert not torch.equal(network[2].weight, kept["2.weight"])
    assert network[1].running_mean.tolist() == [0] * 4
    other, third = build(), build()
    prepare(other, "from-scratch", 1)
    prepare(third, "from-scratch", 2)
    assert torch.equal(other[0].weight, network[0].weight)
    assert not torch.equal(third[0].weight, network[0].weight)


def test_a_module_that_cannot_draw_weights_is_named_and_nothing_changes():
    network = nn.Sequential(nn.Linear(2, 2), Bare())
    before = network[0].weight.clone()
    with pytest.raises(NetworkError, match=r"module '1' \(Bare\) cannot draw new weights"):
        prepare(network, "from-scratch", 0)
    assert torch.equal(network[0].weight, before)


def test_a_network_that_can_start_itself_has_the_last_word():
    class Own(nn.Sequential):
        def reset_parameters(self):
            nn.init.constant_(self[0].weight, 7)

    network = Own(nn.Linear(2, 2))
    prepare(network, "from-scratch", 0)
    assert (network[0].weight == 7).all()


def test_rewinding_cuts_the_initial_weights_as_the_network_was_cut():
    def build():
        return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))

    initial, network = build(), nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1))
    expected = {name: tensor.clone() for name, tensor in initial.state_dict().items()}
    names = ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"]
    cut = Plan({**{name: {0: (1, 3)} for name in names}, "2.weight": {1: (1, 3)}})
    prepare(network, "rewind", 0, cut, initial)
    assert torch.equal(network[0].weight, expected["0.weight"][[1, 3]])
    assert torch.equal(network[2].weight, expected["2.weight"][:, [1, 3]])
    assert np.isfinite(network(torch.zeros(1, 3, 4, 4)).detach().numpy()).all()


def test_rewinding_without_initial_weights_is_refused():
    with pytest.raises(NetworkError, match="initial weights are not known"):
        prepare(nn.Linear(2, 2), "rewind", 0)
