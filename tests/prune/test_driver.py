"""Pruning as one call, and the methods where it must beat chance."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from compress.compact import apply_plan
from compress.errors import CompressError, RecipeError
from compress.prune import methods, prune
from compress.prune.problem import sample_losses
from compress.quantize import list_formats
from compress.recipe import PruneSettings
from compress.train.distill import list_distillations


class Half(nn.Module):
    """A network of which half the channels matter: the others are scaled down to next to nothing."""

    def __init__(self):
        super().__init__()
        self.a, self.bn = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.b, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.c = nn.Conv2d(8, 8, 1)
        self.out = nn.Linear(8, 4)

    def forward(self, x):
        x = torch.relu(self.bn(self.a(x)))
        return self.out(torch.relu(self.c(torch.relu(self.bn2(self.b(x))))).mean((2, 3)))


def half_of(scale, shift):
    torch.manual_seed(0)
    network = Half().eval()
    images = torch.randn(64, 1, 8, 8)
    with torch.no_grad():
        for conv, norm in ((network.a, network.bn), (network.b, network.bn2)):
            small = torch.arange(8) % 2 == 1
            conv.weight[small] *= scale
            norm.weight[small] = scale
            norm.bias[small] = shift
            norm.weight[~small] += torch.rand(4)
        network.out.weight /= network(images).std(0, keepdim=True).T / 4
        network.out.bias.zero_()
        network.out.bias -= network(images).mean(0)
        labels = network(images).argmax(1)
    return network, images, labels


@pytest.fixture(scope="module")
def half():
    return half_of(1e-3, 0.0)


@pytest.fixture(scope="module")
def flat():
    """The channels that do not matter have feature maps of one value."""
    return half_of(0.0, 1e-3)


def loss_after(half, **settings):
    network, images, labels = half
    result = prune(network, (1, 8, 8), PruneSettings(exclude=["c.bias"], **settings), (images, labels), seed=0)
    cut = copy.deepcopy(network)
    apply_plan(cut, result.plan)
    return sample_losses(cut, images, labels).mean().item(), result


METHODS = ["filter-l1", "filter-l2", "bn-scale", "backward-selection"]
METHODS += ["fpgm", "fpgm-mix", "taylor", "loss-increase"]
METHODS += ["taylor-2", "thinet", "lasso-channel", "activity-variance", "nisp"]
BY_MAPS = ["hrank", "pfa"]


@pytest.mark.parametrize("method", [*METHODS, *BY_MAPS])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_methods_beat_chance_where_they_must(half, flat, method, scope):
    case = flat if method in BY_MAPS else half
    network, images, labels = case
    before = sample_losses(network, images, labels).mean().item()
    loss, result = loss_after(case, method=method, scope=scope, ratio=8 / 24, of="channels")
    chance, _ = loss_after(case, method="random", scope=scope, ratio=8 / 24, of="channels")
    if method != "backward-selection":
        assert [entry["kept"] for entry in result.groups] == [4, 4, 8]
    # The channels that go add next to nothing; random ones do.
    assert loss < before + 0.05
    assert chance > before + 0.3


def test_result_is_whole_and_the_network_is_untouched(half):
    network, _, _ = half
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    _, result = loss_after(half, method="filter-l1", ratio=0.5)
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    cut = copy.deepcopy(network)
    apply_plan(cut, result.plan)
    learnt = sum(tensor.numel() for name, tensor in cut.state_dict().items() if "num_batches" not in name)
    assert result.cost_after.parameters == learnt
    assert result.cost_before.parameters > learnt
    assert result.cost_after.macs <= 0.5 * result.cost_before.macs
    assert [(entry["group"], entry["before"]) for entry in result.groups] == [("a", 8), ("b", 8), ("c", 8)]
    assert sum(entry["kept"] for entry in result.groups) == result.keep.sum()
    assert result.method == "filter-l1"
    assert [len(scores) for scores in result.details["scores"]] == [8, 8, 8]


def test_a_search_reports_its_order_and_progress(half):
    network, images, labels = half
    said = []
    settings = PruneSettings(method="backward-selection", ratio=0.2, of="channels", options={"last": True})
    result = prune(network, (1, 8, 8), settings, (images, labels), seed=0, progress=lambda *a: said.append(a))
    assert len(result.details["order"]) == len(result.details["losses"]) == len(said) == 5
    assert sorted(result.details["order"]) == np.flatnonzero(~result.keep).tolist()


def test_mistakes_in_the_method_are_told_before_the_network_is_traced():
    broken = nn.Identity()
    samples = (torch.zeros(1, 1, 8, 8), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(CompressError, match=r"unknown method 'bn-scales'; next: did you mean 'bn-scale'"):
        prune(broken, (1, 8, 8), PruneSettings(method="bn-scales"), samples, seed=0)
    with pytest.raises(RecipeError, match="has no option 'depth'"):
        prune(broken, (1, 8, 8), PruneSettings(options={"depth": 3}), samples, seed=0)


NAMES = (
    "l2 l1 group-lasso sparse-group-lasso exclusive cges group-l12 oicsr ssl-filter ssl-channel ssl-shape "
    "ssl-depth slimming sss l0 increg group-brain-damage filter-skeleton dropout dropconnect admm random "
    "magnitude filter-l1 filter-l2 fpgm fpgm-mix bn-scale one-shot iterative gradual soft before-training "
    "rewind from-scratch fine-tune kl logits mutual backward-selection int8"
)


def test_every_method_of_the_catalogue_is_listed_with_its_source():
    listed = {info.id: info for info in (*methods(), *list_distillations(), *list_formats())}
    assert set(NAMES.split()) <= set(listed)
    assert all(listed[name].summary for name in NAMES.split())
    assert "2.16" in listed["exclusive"].source
    assert "Mutual Learning" in listed["mutual"].source
    assert [knob.name for knob in listed["mutual"].knobs] == ["temperature", "weight"]
    assert "Jacob" in listed["int8"].source


def test_methods_lists_every_kind():
    listed = {(info.kind, info.id) for info in methods()}
    assert {("criterion", "filter-l1"), ("search", "backward-selection"), ("regularizer", "slimming")} <= listed
    info = next(info for info in methods() if info.id == "hsq-gl12")
    assert [knob.name for knob in info.knobs] == ["grouping", "epsilon", "linear"]
    assert info.knobs[0].default == "feature"
    assert "2.19" in info.source


@pytest.mark.parametrize(("target", "block"), [("x86", 16), ("arm", 4)])
def test_widths_suit_the_target(target, block):
    network = nn.Sequential(
        nn.Conv2d(3, 48, 3, padding=1), nn.ReLU(), nn.Conv2d(48, 40, 1), nn.ReLU(), nn.Flatten(), nn.Linear(40 * 16, 30)
    )
    settings = PruneSettings(method="filter-l1", ratio=0.35, of="channels", round_to="auto", target=target)
    kept = [group["kept"] for group in prune(network, (3, 4, 4), settings, None, seed=0).groups]
    assert len(kept) == 2
    assert all(width % block == 0 for width in kept)
    plain = settings.model_copy(update={"round_to": 1, "target": None})
    assert [group["kept"] for group in prune(network, (3, 4, 4), plain, None, seed=0).groups] == [31, 26]


def test_widths_suit_what_convolutions_compute_with():
    """ARM: blocks of 4 in float32; of 8 where weights are int8 and convolutions pointwise or depthwise."""
    network = nn.Sequential(
        nn.Conv2d(3, 40, 1), nn.ReLU(), nn.Conv2d(40, 20, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(320, 9)
    )
    settings = PruneSettings(method="filter-l1", ratio=0.1, of="channels", round_to="auto", target="arm")

    def kept(weights):
        chosen = settings.model_copy(update={"weights": weights})
        return [group["kept"] for group in prune(network, (3, 4, 4), chosen, None, seed=0).groups]

    assert kept("float32") == kept(None) == [36, 16]
    assert kept("int8") == [32, 18]
