"""Schedules: every one reaches the ratio; the equations by hand."""

import copy
import dataclasses
import itertools

import pytest
import torch

from compress.errors import DataError, RecipeError
from compress.options import build
from compress.prune import Procedure, run_schedule
from compress.prune.schedules import schedules
from compress.recipe import PruneSettings, ScheduleSettings
from compress.train.hooks import Hook


@dataclasses.dataclass
class Steps:
    """Stands for a trainer: moves every weight a little a step, and calls hooks and masks as the loop does."""

    trainings: list

    def train(self, network, step, *, epochs=None, hooks=(), masks=None, changes=None):
        self.trainings.append((step, epochs))
        generator = torch.Generator().manual_seed(len(self.trainings))
        for epoch in range(epochs):
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.add_(0.01 * torch.randn(parameter.shape, generator=generator))
            for hook in hooks:
                hook.after_step(network, 0.1)
            for hook in hooks:
                hook.after_epoch(network, epoch + 1)
            if masks is not None:
                masks.apply(network)


def procedure_of(problem, name, options=None, trainer=None, **settings):
    schedule = ScheduleSettings(name=name, options=options or {})
    chosen = PruneSettings(**{"ratio": 0.5, "of": "channels", "method": "filter-l2", **settings}, schedule=schedule)
    samples = (problem.samples.images, problem.samples.labels)
    return Procedure(copy.deepcopy(problem.network), problem.input_shape, chosen, samples, 0, trainer)


def zero_filters(network):
    return int((network.conv1.weight.flatten(1).abs().sum(1) == 0).sum())


@pytest.mark.parametrize("name", list(schedules))
@pytest.mark.parametrize("method", ["filter-l1", "magnitude"])
def test_every_schedule_ends_at_the_ratio_with_what_goes_at_zero(name, method, problem_of):
    trainer = Steps([])
    procedure = procedure_of(
        problem_of("residual-b"), name, trainer=trainer, method=method, of="parameters", scope="global"
    )
    result = run_schedule(procedure)
    assert bool(trainer.trainings) == schedules.get(name).trains
    state = {n: t.clone() for n, t in procedure.network.state_dict().items()}
    result.mask.apply(procedure.network)
    assert all(torch.equal(tensor, state[n]) for n, tensor in procedure.network.state_dict().items())
    if result.weights is not None:
        kept = sum(mask.sum() for mask in result.weights.held.values())
        assert kept == pytest.approx(0.5 * sum(mask.size for mask in result.weights.held.values()), abs=1)
    else:
        assert result.cost_after.parameters <= 0.5 * result.cost_before.parameters


def test_one_shot_cuts_once(problem_of):
    procedure = procedure_of(problem_of("residual-b"), "one-shot")
    assert (run_schedule(procedure).keep == procedure_of(problem_of("residual-b"), "one-shot").cut().keep).all()


def test_iterative_goes_in_equal_steps_and_what_has_gone_stays(problem_of, monkeypatch):
    trainer, shares = Steps([]), []
    procedure = procedure_of(problem_of("residual-b"), "iterative", {"rounds": 4, "epochs": 7}, trainer, ratio=0.4)
    original = Procedure.cut

    def cut(self, ratio=None):
        result = original(self, ratio)
        shares.append((ratio, result.keep))
        return result

    monkeypatch.setattr(Procedure, "cut", cut)
    run_schedule(procedure)
    assert [share for share, _ in shares] == pytest.approx([0.1, 0.2, 0.3, None])
    assert trainer.trainings == [("0", 7), ("1", 7), ("2", 7)]
    for (_, before), (_, after) in itertools.pairwise(shares):
        assert not (after & ~before).any()


def test_gradual_follows_equation_1(problem_of, monkeypatch):
    schedule = build(schedules, "gradual", {"epochs": 10, "ramp": 0.8})
    assert [schedule.share(epoch) for epoch in (0, 4, 8, 10)] == pytest.approx([0, 1 - 0.5**3, 1, 1])
    shares, zeros = [], []
    original = Procedure.cut

    def cut(self, ratio=None):
        shares.append(ratio)
        return original(self, ratio)

    class Watching(Steps):
        def train(self, network, step, *, epochs=None, hooks=(), masks=None, changes=None):
            class Watch(Hook):
                def after_step(self, model, learning_rate):
                    zeros.append(zero_filters(model))

            super().train(network, step, epochs=epochs, hooks=(*hooks, Watch()))

    monkeypatch.setattr(Procedure, "cut", cut)
    procedure = procedure_of(
        problem_of("residual-b"), "gradual", {"epochs": 4, "ramp": 0.5}, Watching([]), scope="layer", ratio=0.8
    )
    run_schedule(procedure)
    # s_1 = 0.8 · (1 − (1/2)³), s_2 = 0.8, then the ramp is over; the last cut is the caller's.
    assert shares == pytest.approx([0.7, 0.8, None])
    # The weights move in each step: what has gone is zero again after it.
    assert zeros[0] == 0
    assert 0 < zeros[1] <= zeros[2] == zeros[3]


def test_soft_lets_zeroed_filters_come_back(problem_of):
    alive = []

    class Reviving(Steps):
        def train(self, network, step, *, epochs=None, hooks=(), masks=None, changes=None):
            assert masks is None
            for epoch in range(3):
                for hook in hooks:
                    hook.after_epoch(network, epoch + 1)
                alive.append((network.conv1.weight.flatten(1).abs().sum(1) > 0).tolist())
                with torch.no_grad():
                    # What was zero grows largest: a mask would not let it.
                    dead = network.conv1.weight.flatten(1).abs().sum(1) == 0
                    network.conv1.weight[dead] = 5.0 + epoch
                    network.conv2.weight[:, dead] = 5.0
                    network.bn1.weight[dead] = 1.0

    run_schedule(procedure_of(problem_of("residual-b"), "soft", {"epochs": 3}, Reviving([])))
    assert alive[0] != alive[1]
    assert not (torch.tensor(alive[0]) & torch.tensor(alive[1])).all()


def test_before_training_starts_with_initial_weights():
    assert schedules.get("before-training").start == "initial"
    assert all(schedules.get(name).start == "trained" for name in schedules if name != "before-training")


def test_a_schedule_that_trains_says_what_it_lacks(problem_of):
    with pytest.raises(DataError, match="schedule 'iterative' trains between cuts; next: give a recipe"):
        run_schedule(procedure_of(problem_of("residual-b"), "iterative"))


def test_one_round_is_not_iterative():
    with pytest.raises(RecipeError, match="rounds"):
        build(schedules, "iterative", {"rounds": 1})
