"""The genetic search: its fitness and its operators by hand, the subset that it finds, and what it saves."""

import copy
import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from compress.data.base import ArraySplit, Dataset
from compress.errors import NetworkError
from compress.prune import Trainer
from compress.prune.driver import method_of, result_of
from compress.prune.problem import PruningProblem, Samples, sample_losses
from compress.prune.reading_error import ReadingError, reading_error
from compress.prune.search import genetic
from compress.prune.search.genetic import Genetic, crossed, mutated
from compress.prune.students import student_of
from compress.recipe import PruneSettings, TrainSettings


def test_the_error_of_readers_by_hand():
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1))
    with torch.no_grad():
        network[0].weight.copy_(torch.eye(2))
        network[1].weight.copy_(torch.tensor([[2.0, 1.0]]))
    images = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    problem = PruningProblem.of(network, (2,), Samples(images, torch.zeros(2, dtype=torch.long)), 0)
    hidden = next(i for i, group in enumerate(problem.groups.groups) if group.producers[0].parameter == "0.weight")
    # The channels add (2, 6) and (2, −1), together (4, 5): energy 41/2. Without the second 5/2 are lost, without the
    # first 40/2, without both all.
    choices = np.array([[1, 1], [1, 0], [0, 1], [0, 0]], dtype=bool)
    expected = [0, 5 / 41, 40 / 41, 1]
    np.testing.assert_allclose(reading_error(problem, hidden, network)(choices), expected, atol=1e-12)
    # A layer before it has changed: the channels now add (2, 6) and (0, 0), the goal is what it was.
    now = copy.deepcopy(network)
    with torch.no_grad():
        now[0].weight[1] = 0
    np.testing.assert_allclose(reading_error(problem, hidden, now)(choices), [5 / 41, 5 / 41, 1, 1], atol=1e-12)


def test_children_have_what_both_parents_have_and_the_right_number():
    rng = np.random.default_rng(0)
    first, second = np.array([1, 1, 1, 0, 0, 0], dtype=bool), np.array([0, 1, 0, 1, 1, 0], dtype=bool)
    children = np.stack([crossed(first, second, rng) for _ in range(50)])
    assert (children.sum(1) == 3).all()
    assert children[:, 1].all()
    assert not children[:, 5].any()
    assert children[:, [0, 2, 3, 4]].any(0).all()


def test_a_mutation_swaps():
    rng = np.random.default_rng(0)
    individual = np.array([1, 1, 1, 0, 0, 0, 0], dtype=bool)
    assert (mutated(individual, 0.0, rng) == individual).all()
    other = mutated(individual, 1.0, rng)
    assert other.sum() == 3
    assert not (other & individual).any()
    assert mutated(np.ones(3, dtype=bool), 1.0, rng).all()


@pytest.mark.parametrize("seed", range(5))
def test_it_finds_the_best_of_all_subsets(seed):
    """Channels that stand in for one another: the best five of ten are not the five that are best alone."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(200, 4)) @ rng.normal(size=(4, 10)) + 0.3 * rng.normal(size=(200, 10))
    total = signal.sum(1)
    error = ReadingError(
        1.0, np.append(signal.T @ total, 0) / (total @ total), np.pad(signal.T @ signal / (total @ total), (0, 1))
    )
    subsets = np.array([np.isin(np.arange(10), s) for s in itertools.combinations(range(10), 5)])
    method = Genetic(population=40, generations=40, mutation=0.2)
    best, fit = method.evolved(lambda s: -error(s), 10, 5, rng)
    assert -fit[0] == pytest.approx(error(subsets).min())
    assert (np.diff(fit) <= 0).all()
    assert len(np.unique(best, axis=0)) == len(best) <= method.finalists


@pytest.fixture(scope="module")
def task():
    """Three layers of which half is enough, trained."""
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv2d(2, 12, 1), nn.ReLU(), nn.Conv2d(12, 12, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).extend([nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)])
    images = torch.randn(512, 2, 2, 2)
    labels = torch.stack([images[:, 0].abs().mean((1, 2)), images[:, 1].abs().mean((1, 2)), torch.full((512,), 0.8)], 1)
    parts = (slice(0, 384), slice(384, 512))
    split = [ArraySplit(images[p].numpy(), labels[p].argmax(1).numpy(), (0.0,) * 2, (1.0,) * 2) for p in parts]
    settings = TrainSettings(batch_size=32, optimizer="adamw", learning_rate=0.01, schedule="constant", device="cpu")
    trainer = Trainer(Dataset("task", split[0], split[1], split[1], 3, (2, 2, 2)), settings, seed=0)
    trainer.train(network, "first", epochs=15)
    samples = Samples(images[:128], labels[:128].argmax(1))
    return PruningProblem.of(network, (2, 2, 2), samples, 0), trainer


HALF = PruneSettings(method="genetic", ratio=0.5, of="channels")


def validation_loss(problem, choice, trainer):
    network = copy.deepcopy(problem.network)
    result_of(problem, choice, "genetic").apply(network)
    images, labels = (
        torch.from_numpy(np.ascontiguousarray(a)) for a in next(iter(trainer.dataset.validation.batches(128)))
    )
    return float(sample_losses(network, images, labels).mean())


def test_it_beats_random_channels_of_the_same_number(task):
    problem, trainer = task
    found = Genetic(population=20, generations=20, epochs=0).choose(problem, HALF, trainer=trainer)
    chance = HALF.model_copy(update={"method": "random"})
    others = []
    for seed in range(20):
        own = dataclasses.replace(problem, seed=seed)
        others.append(validation_loss(own, method_of(chance).choose(own, chance), trainer))
    loss = validation_loss(problem, found, trainer)
    assert loss < min(others), (loss, sorted(others))
    taught = Genetic(population=20, generations=20, epochs=3).choose(problem, HALF, trainer=trainer)
    assert (taught.keep == found.keep).all()
    assert validation_loss(problem, taught, trainer) < 0.8 * loss


def test_layers_go_by_sensitivity_and_their_losses_are_those_of_the_cut(task):
    problem, trainer = task
    found = Genetic(population=20, generations=5, epochs=0).choose(problem, HALF, trainer=trainer)
    layers = found.details["layers"]
    assert len(layers) == 3
    assert sorted(layers, key=lambda layer: layer["sensitivity"]) == layers
    loss = float(sample_losses(_cut(problem, found), problem.samples.images, problem.samples.labels).mean())
    assert layers[-1]["loss"] == pytest.approx(loss, rel=1e-5)


def _cut(problem, choice):
    network = copy.deepcopy(problem.network)
    result_of(problem, choice, "genetic").apply(network)
    return network


def test_the_second_step_is_the_loss_itself(task, monkeypatch):
    problem, trainer = task
    losses = []
    true = genetic._loss
    monkeypatch.setattr(genetic, "_loss", lambda *arguments: losses.append(true(*arguments)) or losses[-1])
    found = Genetic(population=20, generations=2, epochs=0).choose(problem, HALF, trainer=trainer)
    tried = losses[6:]  # two for each layer's sensitivity
    for number, layer in enumerate(found.details["layers"]):
        finalists = tried[5 * number : 5 * number + 5]
        assert layer["loss"] == min(finalists) < max(finalists)


class Rigid(nn.Module):
    """Says a number of channels in its forward."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(2, 6, 1), nn.Linear(24, 3)

    def forward(self, x):
        return self.linear(self.conv(x).relu().view(-1, 6 * 4))


def test_a_network_that_cannot_be_smaller_is_told():
    problem = PruningProblem.of(Rigid(), (2, 2, 2), None, 0)
    with pytest.raises(NetworkError, match="cannot run, its forward"):
        student_of(problem, np.arange(problem.groups.size) % 2 == 0)
