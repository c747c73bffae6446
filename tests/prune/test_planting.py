"""Planting: its equations on numbers that can be checked by hand, what is frozen, and that choosing layers pays."""

import copy
import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from compress.data.base import ArraySplit, Dataset
from compress.errors import DataError, NetworkError, RecipeError
from compress.prune import Trainer
from compress.prune.driver import method_of, result_of
from compress.prune.problem import PruningProblem, Samples
from compress.prune.search.planting import Planting, _Garden
from compress.prune.students import touched
from compress.recipe import PruneSettings, TrainSettings

HALF = PruneSettings(method="planting", ratio=0.48, of="channels")


@pytest.fixture(scope="module")
def task():
    """Whether |x| is larger in the first three channels: the first layer must tell six signs, the second hardly any."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(6, 24, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 24), nn.ReLU()
    ).append(nn.Linear(24, 2))
    images = torch.randn(1024, 6, 3, 3) * torch.rand(1024, 6, 1, 1)
    size = images.abs().mean((2, 3))
    labels = (size[:, :3].sum(1) > size[:, 3:].sum(1)).long()
    parts = (slice(0, 512), slice(512, 768), slice(768, 1024))
    splits = [ArraySplit(images[p].numpy(), labels[p].numpy(), (0.0,) * 6, (1.0,) * 6) for p in parts]
    settings = TrainSettings(batch_size=32, optimizer="adamw", learning_rate=0.01, schedule="constant", device="cpu")
    trainer = Trainer(Dataset("task", *splits, 2, (6, 3, 3)), settings, seed=0)
    trainer.train(network, "teacher", epochs=20)
    return PruningProblem.of(network, (6, 3, 3), Samples(images[:64], labels[:64]), 0), trainer


@dataclasses.dataclass
class Idle:
    """Stands for a trainer: nothing learns anything; remembers what it was asked for."""

    trainer: Trainer
    asked: list = dataclasses.field(default_factory=list)

    @property
    def dataset(self):
        return self.trainer.dataset

    @property
    def settings(self):
        return self.trainer.settings

    def train(self, network, step, **arguments):
        self.asked.append((step, arguments))


@pytest.mark.parametrize(
    ("groups", "expected"), [(None, [[0], [1], [2], [3], [4]]), (2, [[0, 1, 2], [3, 4]]), (1, [[0, 1, 2, 3, 4]])]
)
def test_layers_fall_into_groups_by_equation_4_2(groups, expected):
    garden = _Garden(Planting(groups=groups), None, None, None)
    garden.__dict__["layers"] = [None] * 5
    assert garden.groups == expected


def test_more_groups_than_layers_are_refused(task):
    problem, trainer = task
    with pytest.raises(RecipeError, match="option 'groups': 3 groups of 2 layers"):
        Planting(groups=3).choose(problem, HALF, trainer=Idle(trainer))


class Constant(nn.Module):
    """The same logits for every image."""

    def __init__(self, *logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([logits]))

    def forward(self, x):
        return self.logits.expand(len(x), -1)


@pytest.mark.parametrize(("labels", "share"), [(1.0, 1), (0.25, 0.25), (0.0, 0)])
def test_the_choice_is_by_equation_4_5(labels, share, task):
    problem, trainer = task
    taught = dataclasses.replace(problem, network=Constant(math.log(3.0), 0.0))  # softmax (3/4, 1/4)
    garden = _Garden(Planting(labels_in_choice=labels), taught, HALF, trainer)
    entropy = math.log(2)  # of a student that says (1/2, 1/2), whatever the label
    divergence = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    expected = share * entropy + (1 - share) * divergence
    assert garden._loss(Constant(0.0, 0.0)) == pytest.approx(expected, rel=1e-6)


def test_a_student_starts_as_the_one_before_it_and_ends_where_nothing_falls(task):
    problem, trainer = task
    idle = Idle(trainer)
    found = Planting(initial=4, planted=3, weight_decay=1e-5, labels=0.3).choose(problem, HALF, trainer=idle)
    (only,) = found.details["rounds"]
    assert only["widths"] == [4, 4]
    assert only["planted"] == {"0": pytest.approx(only["loss"]), "1": pytest.approx(only["loss"])}
    assert found.keep.sum() == 8
    assert found.details["evaluations"] == 3
    steps = dict(idle.asked)
    assert steps["planting"]["changes"]["distill"] is None
    for step in ("planting-0-0", "planting-0-1"):
        changes = steps[step]["changes"]
        assert (changes["weight_decay"], changes["distill"].weight, changes["distill"].kind) == (1e-5, 0.7, "kl")
        assert steps[step]["teacher"] is problem.network


def test_planted_weights_alone_are_trained(task):
    problem, trainer = task
    garden = _Garden(Planting(planted=2, epochs=1), problem, HALF, trainer)
    student = dataclasses.replace(_Garden(Planting(initial=3), problem, HALF, Idle(trainer)).first(), widths=(3, 3))
    wider = garden.planted(student, 0, 0)
    assert wider.widths == (5, 3)
    new = touched(problem, garden.keep(wider.widths) & ~garden.keep(student.widths))
    assert {name: int(entries.sum()) for name, entries in new.items()} == {
        "0.weight": 2 * 6,
        "0.bias": 2,
        "4.weight": 24 * 2,
        "4.bias": 0,
        "6.weight": 0,
        "6.bias": 0,
    }
    for name, entries in new.items():
        assert (wider.values[name][~entries] == student.values[name][~entries]).all()
    rows, columns = wider.values["0.weight"][3:5], wider.values["4.weight"][:3, 3:5]
    assert (rows != student.values["0.weight"][3:5]).all()
    assert np.abs(columns).min() > 0


def test_the_layer_of_least_loss_grows_until_the_ratio_is_used_up(task):
    problem, trainer = task
    method = Planting(initial=4, planted=4, initial_epochs=5, epochs=3)
    found = method.choose(problem, HALF, trainer=trainer)
    rounds = found.details["rounds"]
    assert len(rounds) > 2
    for before, after in itertools.pairwise(rounds):
        best = min(before["planted"], key=before["planted"].get)
        assert after["loss"] == before["planted"][best] < before["loss"]
        assert [b - a for a, b in zip(before["widths"], after["widths"], strict=True)] == [
            4 * (best == g) for g in "01"
        ]
    assert found.keep.sum() == sum(rounds[-1]["widths"]) <= 0.52 * 48
    last = rounds[-1]
    assert not last["planted"] or min(last["planted"].values()) >= last["loss"]


def test_it_beats_growth_at_random_and_random_cuts(task):
    problem, trainer = task

    def loss(result):
        network = copy.deepcopy(problem.network)
        result.apply(network)
        images, labels = next(iter(trainer.dataset.test.batches(256)))
        with torch.no_grad():
            return nn.functional.cross_entropy(network(torch.from_numpy(images)), torch.from_numpy(labels)).item()

    def grown(seed, **options):
        method = Planting(initial=4, planted=4, initial_epochs=10, epochs=6, **options)
        own = dataclasses.replace(problem, seed=seed)
        return loss(result_of(problem, method.choose(own, HALF, trainer=trainer), "planting"))

    chance = PruneSettings(method="random", ratio=0.48, of="channels", scope="global")
    cuts = []
    for seed in range(10):
        own = dataclasses.replace(problem, seed=seed)
        cuts.append(loss(result_of(own, method_of(chance).choose(own, chance), "random")))
    best, random = [grown(seed) for seed in (0, 2)], [grown(seed, tried=1) for seed in (0, 2)]
    assert sum(best) < 0.85 * sum(random), (best, random)
    assert max(best) < min(cuts), (best, cuts)


def test_what_it_lacks_is_said(task):
    problem, trainer = task
    empty = dataclasses.replace(
        trainer.dataset, validation=trainer.dataset.validation.take(0, np.random.default_rng(0))
    )
    with pytest.raises(DataError, match=r"validation images; next: set \[data\] validation above 0"):
        Planting().choose(problem, HALF, trainer=dataclasses.replace(trainer, dataset=empty))
    with pytest.raises(NetworkError, match="planting starts with 40 channels, more than the ratio allows"):
        Planting(initial=20).choose(problem, HALF, trainer=Idle(trainer))
