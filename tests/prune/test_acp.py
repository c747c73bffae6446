"""ACP: clusters and flight by hand, structures that fit, and what it saves."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from compress.data.base import ArraySplit, Dataset
from compress.errors import DataError, NetworkError
from compress.prune import Trainer
from compress.prune.activations import mean_maps
from compress.prune.driver import result_of
from compress.prune.method import Choice
from compress.prune.problem import PruningProblem, Samples
from compress.prune.search.acp import ACP, _Colony, clusters
from compress.prune.students import Frozen, student_of, whole_values
from compress.prune.swarm import Swarm, inertia
from compress.recipe import PruneSettings, TrainSettings
from compress.train.evaluate import evaluate


def test_clusters_are_by_angle_and_density():
    turn = np.deg2rad([0, 5, 10, 40, 90, 95])
    maps = np.stack([np.cos(turn), np.sin(turn)], axis=1) * np.array([[1], [5], [2], [1], [1], [1]])
    maps = np.concatenate([maps, np.zeros((1, 2))])
    # Neighbours are within 5.1 degrees. In pairs: 0, 5, 10 hang together, 40 is alone, 90 and 95 are two; zero is none.
    close = 1 - np.cos(np.deg2rad(5.1))
    assert clusters(maps, close, 2).tolist() == [0, 0, 0, 2, 1, 1, -1]
    # In threes: 5 has three neighbours and takes 0 and 10 along, 90 and 95 are alone.
    assert clusters(maps, close, 3).tolist() == [0, 0, 0, 1, 2, 3, -1]
    assert clusters(np.zeros((2, 3)), close, 2).tolist() == [-1, -1]


class Fixed:
    def __init__(self, *draws):
        self.draws = list(draws)

    def random(self, shape):
        return np.full(shape, self.draws.pop(0))


@pytest.mark.parametrize(("fastest", "expected"), [(10.0, 4.0095), (2.0, 2.0)])
def test_flight_is_the_equation(fastest, expected):
    swarm = Swarm(np.array([[10.0], [14.0]]), np.array([[1.0], [0.0]]), [(50.0,), (60.0,)])
    swarm.own_places[0] = 12.0
    swarm.fly(0.5, 2.0, 2.0, 0.729, fastest, Fixed(0.25, 0.5))
    # 0.729 · (0.5·1 + 2·0.25·(12 − 10) + 2·0.5·(14 − 10)) = 0.729 · 5.5
    assert swarm.speeds[0, 0] == pytest.approx(expected)
    assert swarm.places[0, 0] == pytest.approx(10 + expected)
    swarm.land([(55.0,), (59.0,)])
    assert swarm.own_places.ravel() == pytest.approx([10 + expected, 14])
    assert swarm.best_fitness == (60.0,)


def test_inertia_falls_from_first_to_last():
    assert [inertia(cycle, 6) for cycle in range(6)] == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    assert inertia(0, 1) == 0.9


def test_maps_are_means_over_samples_or_the_samples_themselves():
    network = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.Flatten(), nn.Linear(8, 2, bias=False), nn.Linear(2, 2))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([1.0, -2.0]).reshape(2, 1, 1, 1))
        network[2].weight.copy_(torch.eye(2, 8))
    images = torch.tensor([[1.0, 2.0, 3.0, 4.0], [3.0, 0.0, 1.0, 2.0]]).reshape(2, 1, 2, 2)
    problem = PruningProblem.of(network, (1, 2, 2), Samples(images, torch.zeros(2, dtype=torch.long)), 0)
    named = {g.producers[0].parameter: m for g, m in zip(problem.groups.groups, mean_maps(problem), strict=True)}
    assert named["0.weight"].tolist() == [[2, 1, 2, 3], [-4, -2, -4, -6]]
    assert named["2.weight"].tolist() == [[1, 3], [2, 0]]


@pytest.fixture(scope="module")
def task():
    """Digits, and a trained network whose first layer has each of four channels three times, one of them dead."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 12, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 12, 3), nn.ReLU())
    network.extend([nn.Flatten(), nn.Linear(12, 10)])
    digits = load_digits()
    images, labels = torch.from_numpy(digits.images[:, None] / 8 - 1).float(), torch.from_numpy(digits.target)
    parts = (slice(0, 1000), slice(1000, 1400), slice(1400, 1797))
    split = [ArraySplit(images[p].numpy(), labels[p].numpy(), (0.0,), (1.0,)) for p in parts]
    settings = TrainSettings(batch_size=50, optimizer="adamw", learning_rate=0.01, schedule="constant", device="cpu")
    trainer = Trainer(Dataset("task", *split, 10, (1, 8, 8)), settings, seed=0)
    trainer.train(network, "first", epochs=4)
    with torch.no_grad():
        size = torch.tensor([1.0, 2.0, 0.5]).repeat(4)
        weight, bias = network[0].weight, network[0].bias
        weight.copy_(weight[::3].repeat_interleave(3, 0) * size[:, None, None, None])
        bias.copy_(bias[::3].repeat_interleave(3, 0) * size)
        weight[11], bias[11] = 0, 0
    free = {n: np.ones(tuple(p.shape), dtype=bool) for n, p in network.named_parameters() if n[0] != "0"}
    first = Frozen(network, free)
    trainer.train(network, "others", epochs=4, hooks=(first,), masks=first)
    return PruningProblem.of(network, (1, 8, 8), Samples(images[:128], labels[:128]), 0), trainer


HALF = PruneSettings(method="acp", ratio=0.5, of="channels")


def test_one_of_each_cluster_stays_longest_and_the_dead_go_first(task):
    problem, trainer = task
    colony = _Colony(ACP(neighbours=2, distance=1e-6), problem, HALF, trainer)
    assert colony.clusters[0] == 4
    assert set(colony.order[0][:4]) == {1, 4, 7, 10}
    assert colony.order[0][-1] == 11


def test_structures_fit_the_ratio_and_the_counts_that_are_allowed(task):
    problem, trainer = task
    settings = HALF.model_copy(update={"round_to": 2, "minimum_channels": 3})
    colony = _Colony(ACP(), problem, settings, trainer)
    assert colony.fitting(np.array([4.9, 5.1])).tolist() == [4, 6]
    assert colony.fitting(np.array([-3.0, 5.0])).tolist() == [4, 6]
    full = colony.fitting(np.array([12.0, 12.0]))
    assert full.sum() <= 12
    free = _Colony(ACP(enforce=False), problem, settings, trainer)
    assert free.fitting(np.array([12.0, 40.0])).tolist() == [12, 12]
    with pytest.raises(NetworkError, match="cannot be reached"):
        _Colony(ACP(), problem, HALF.model_copy(update={"minimum_channels": 9}), trainer)


def test_it_beats_as_many_channels_drawn_by_chance_and_trained_as_long(task):
    problem, trainer = task
    own = dataclasses.replace(trainer, settings=trainer.settings.model_copy(update={"learning_rate": 0.002}))
    method = ACP(neighbours=2, particles=3, cycles=2, epochs=1)
    found = method.choose(problem, HALF, trainer=own)
    assert found.details["accuracies"] == sorted(found.details["accuracies"])
    assert 3 <= found.details["evaluations"] <= 9
    assert found.keep.sum() == sum(found.details["structure"]) <= 12

    def loss(choice):
        network = copy.deepcopy(problem.network)
        result_of(problem, choice, "acp").apply(network)
        return evaluate(network, trainer.dataset.test, device="cpu").loss

    rng, others = np.random.default_rng(0), []
    for _ in range(8):
        keep = rng.permutation(24) < 12
        student, plan = student_of(problem, keep)
        own.train(student, "chance", epochs=1)
        others.append(loss(Choice(keep, values=whole_values(problem, student, plan))))
    assert loss(found) < 0.8 * min(others), (loss(found), sorted(others))


def test_it_needs_validation_images(task):
    problem, trainer = task
    empty = dataclasses.replace(
        trainer.dataset, validation=trainer.dataset.validation.take(0, np.random.default_rng(0))
    )
    with pytest.raises(DataError, match=r"validation images; next: set \[data\] validation above 0"):
        ACP().choose(problem, HALF, trainer=dataclasses.replace(trainer, dataset=empty))
