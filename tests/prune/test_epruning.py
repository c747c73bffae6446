"""EPruning: its equations on numbers that can be checked by hand, and its two phases."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from compress.data.base import ArraySplit, Dataset
from compress.prune import Trainer
from compress.prune.energy import Dropping, energy_loss
from compress.prune.evolution import candidates
from compress.prune.masks import ChannelMask
from compress.prune.problem import PruningProblem, Samples
from compress.prune.search.epruning import EPruning
from compress.recipe import PruneSettings, TrainSettings


def test_energy_loss_is_equation_3():
    logits = torch.tensor([[2.0, 5.0, -1.0], [4.0, 1.0, 0.5]])
    # Energies are −logits: −5 − min(−2, 1) = −3, and −1 − min(−4, −0.5) = 3; the mean is 0.
    assert energy_loss(logits[:1], torch.tensor([1])).item() == pytest.approx(-3)
    assert energy_loss(logits[1:], torch.tensor([1])).item() == pytest.approx(3)
    assert energy_loss(logits, torch.tensor([1, 1])).item() == pytest.approx(0)


class Fixed:
    """Draws what it is told to."""

    def __init__(self, parents, draws):
        self.parents, self.draws = list(parents), list(draws)

    def choice(self, others, count, replace):
        assert (count, replace) == (3, False)
        chosen = self.parents.pop(0)
        assert set(chosen) <= set(others.tolist())
        return np.asarray(chosen)

    def random(self, shape):
        return np.broadcast_to(self.draws.pop(0), shape)


def test_mutation_and_crossover_are_equations_4_and_5():
    states = np.array([[0, 0, 1, 1], [1, 1, 0, 0], [0, 1, 0, 1], [1, 1, 1, 1]], dtype=bool)
    parents = [(1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2)]
    # State 0: parents 2 and 3 differ in units 0 and 2; F = 0.5 lets unit 0 flip, not unit 2.
    mutation_draws = np.array([0.4, 0.4, 0.6, 0.4])
    crossover_draws = np.array([0.5, 0.5, 0.5, 0.51])
    found = candidates(states, 0.5, 0.5, Fixed(parents, [mutation_draws, crossover_draws]))
    # Mutant of 0: parent 1 = 1100 with unit 0 flipped = 0100; unit 3 keeps the state's own 1.
    assert found[0].tolist() == [False, True, False, True]
    # Mutant of 1: parent 0 = 0011 with unit 0 flipped = 1011; unit 3 stays 0.
    assert found[1].tolist() == [True, False, True, False]


def test_dropping_is_a_mask_that_can_be_undone(problem_of):
    problem = problem_of("residual-b")
    network, masked = copy.deepcopy(problem.network), copy.deepcopy(problem.network)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    keep = np.random.default_rng(0).random(problem.groups.size) < 0.6
    ChannelMask(problem.groups, keep).apply(masked)
    images = problem.samples.images
    dropping = Dropping(network, problem.groups)
    with dropping.without(keep), torch.no_grad():
        torch.testing.assert_close(network(images), masked(images), rtol=0, atol=0)
        network.train()(images)
        network.eval()
    tensors = network.state_dict()
    assert all(torch.equal(tensors[n], t) for n, t in before.items() if "num_batches" not in n)


@pytest.fixture(scope="module")
def task():
    """Eight of sixteen hidden channels are enough; the others add noise."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 16, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3))
    images = torch.randn(192, 2, 2, 2)
    labels = torch.stack([images[:, 0].mean((1, 2)), images[:, 1].mean((1, 2)), torch.zeros(192)], 1).argmax(1)
    parts = [slice(0, 128), slice(128, 192)]
    split = [ArraySplit(images[p].numpy(), labels[p].numpy(), (0.0, 0.0), (1.0, 1.0)) for p in parts]
    settings = TrainSettings(epochs=6, batch_size=32, learning_rate=0.1, schedule="constant", device="cpu")
    trainer = Trainer(Dataset("task", split[0], split[1], split[1], 3, (2, 2, 2)), settings, seed=0)
    trainer.train(network, "first", epochs=20)
    return PruningProblem.of(network, (2, 2, 2), Samples(images[:64], labels[:64]), 0), trainer


def test_it_explores_then_settles_and_reports_both_inferences(task):
    problem, trainer = task
    method = EPruning(population=4, epochs=6, explore_epochs=3)
    found = method.choose(problem, PruneSettings(method="epruning", ratio=0.5, of="channels"), trainer=trainer)
    assert found.keep.sum() == 8
    energies = found.details["energies"]
    assert [row["epoch"] for row in energies] == [1, 2, 3, 4, 5, 6]
    assert all(row["best_energy"] <= row["mean_energy"] for row in energies)
    # Nothing is compared any more once the state is settled.
    assert energies[3] == {**energies[4], "epoch": 4} == {**energies[5], "epoch": 4}
    assert energies[2]["mean_energy"] < energies[0]["mean_energy"]
    assert found.details["settled"]
    assert set(found.details["full"]) == set(found.details["pruned"]) == {"top1", "top3", "top5"}
    assert found.details["pruned"]["top5"] == 100
    assert 40 < found.details["kept_parameters_percent"] < 60


def test_it_beats_a_random_state_trained_as_long(task):
    problem, trainer = task
    settings = PruneSettings(method="epruning", ratio=0.75, of="channels")
    found = EPruning(population=8, epochs=8, explore_epochs=5).choose(problem, settings, trainer=trainer)

    def loss(network, keep):
        masked = copy.deepcopy(network)
        ChannelMask(problem.groups, keep).apply(masked)
        images, labels = next(iter(trainer.dataset.validation.batches(64)))
        with torch.no_grad():
            return nn.functional.cross_entropy(masked(torch.from_numpy(images)), torch.from_numpy(labels)).item()

    trained = copy.deepcopy(problem.network)
    with torch.no_grad():
        for name, parameter in trained.named_parameters():
            parameter.copy_(torch.from_numpy(found.values[name]))
    rng = np.random.default_rng(1)
    chance = [loss(problem.network, np.isin(np.arange(16), rng.permutation(16)[:4])) for _ in range(20)]
    assert loss(trained, found.keep) < np.quantile(chance, 0.1)


def test_without_enforcement_the_share_is_what_evolves(task):
    problem, trainer = task
    settings = PruneSettings(method="epruning", ratio=0.9, of="channels")
    found = EPruning(population=4, epochs=1, enforce=False).choose(problem, settings, trainer=trainer)
    assert found.keep.sum() > 2


def test_an_interrupted_evolution_goes_on_as_if_nothing_had_been(task, tmp_path):
    problem, trainer = task

    class StopError(Exception):
        pass

    def stop(progress):
        if progress.epoch == 3:
            raise StopError

    def run(folder, progress=None):
        own = Trainer(trainer.dataset, trainer.settings, seed=0, folder=folder, progress=progress)
        method = EPruning(population=4, epochs=4, explore_epochs=3)
        return method.choose(problem, PruneSettings(method="epruning", ratio=0.5, of="channels"), trainer=own)

    expected = run(None)
    with pytest.raises(StopError):
        run(tmp_path, stop)
    found = run(tmp_path)
    assert (found.keep == expected.keep).all()
    assert found.details == expected.details
    assert all((found.values[name] == value).all() for name, value in expected.values.items())
