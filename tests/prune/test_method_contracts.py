"""What every registered method must do; a new one is found here without being listed."""

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch

from compress.data.base import ArraySplit, Dataset
from compress.errors import CompressError, DataError, RecipeError
from compress.options import build
from compress.prune import Trainer, methods
from compress.prune.criteria import Criterion, WeightCriterion, criteria
from compress.prune.regularizers import regularizers
from compress.prune.search import searches
from compress.prune.select import allowed_counts
from compress.recipe import PruneSettings, TrainSettings
from compress.train.hooks import Hook

# `plain` has no BatchNorm and no residual branch: these methods must say so there.
NOT_FOR_PLAIN = {"bn-scale", "slimming", "ssl-depth"}


# Searches that train take few epochs here.
QUICK = {
    "acp": {"particles": 3, "cycles": 1, "epochs": 1},
    "epruning": {"epochs": 2, "explore_epochs": 1, "initial": 0.9},
    "genetic": {"population": 8, "generations": 5, "epochs": 1},
    "planting": {"initial": 2, "planted": 2, "groups": 2, "initial_epochs": 1, "epochs": 1},
}


def trainer_of(problem):
    images, labels = problem.samples.images.numpy(), problem.samples.labels.numpy()
    split = [ArraySplit(images[p], labels[p], (0.0,) * 3, (1.0,) * 3) for p in (slice(0, 16), slice(16, 24))]
    dataset = Dataset("samples", split[0], split[1], split[1], 3, images.shape[1:])
    settings = TrainSettings(epochs=2, batch_size=8, learning_rate=0.01, device="cpu")
    return Trainer(dataset, settings, seed=0)


def unchanged(problem, state):
    return all(torch.equal(tensor, state[name]) for name, tensor in problem.network.state_dict().items())


@pytest.fixture(params=["residual-a", "residual-b", "plain"])
def case(request, problem_of):
    return request.param, problem_of(request.param)


def skip_unsuited(name, network):
    if name in NOT_FOR_PLAIN and network == "plain":
        pytest.skip("needs what this network lacks")


def names_of(kind):
    return [name for name in criteria if issubclass(criteria.get(name), kind)]


@pytest.mark.parametrize("name", names_of(Criterion))
class TestCriterion:
    def test_scores_every_unit_and_changes_nothing(self, name, case, state_of):
        network, problem = case
        skip_unsuited(name, network)
        state = state_of(problem)
        scores = build(criteria, name, {}).score(problem)
        assert [score.shape for score in scores] == [(group.size,) for group in problem.groups.groups]
        assert all(np.isfinite(score).all() and score.dtype == np.float64 for score in scores)
        again = build(criteria, name, {}).score(problem)
        assert all((a == b).all() for a, b in zip(scores, again, strict=True))
        assert unchanged(problem, state)
        assert not problem.network.training

    def test_every_layer_keeps_what_it_may(self, name, case):
        network, problem = case
        skip_unsuited(name, network)
        settings = PruneSettings(method=name, ratio=0.3, of="macs", round_to=2, minimum_channels=2)
        found = build(criteria, name, {}).choose(problem, settings)
        for stratum in problem.strata:
            kept = int(found.keep[stratum.units].sum())
            assert kept in (allowed_counts(stratum, settings) if stratum.prunable else [stratum.units.size])

    def test_scores_follow_reordered_channels(self, name, case, reordered):
        network, problem = case
        skip_unsuited(name, network)
        if not criteria.get(name).equivariant:
            pytest.skip("the control draws by position")
        other, order = reordered(problem)
        before = np.concatenate(build(criteria, name, {}).score(problem))
        after = np.concatenate(build(criteria, name, {}).score(other))
        np.testing.assert_allclose(after, before[order], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", names_of(WeightCriterion))
class TestWeightCriterion:
    def test_scores_every_weight_and_changes_nothing(self, name, case, state_of):
        _, problem = case
        state = state_of(problem)
        scores = build(criteria, name, {}).score(problem)
        assert list(scores) == list(problem.weights)
        assert all(scores[n].shape == tuple(problem.tensor(n).shape) for n in scores)
        assert all(np.isfinite(score).all() and score.dtype == np.float64 for score in scores.values())
        again = build(criteria, name, {}).score(problem)
        assert all((scores[n] == again[n]).all() for n in scores)
        assert unchanged(problem, state)
        assert not problem.network.training

    @pytest.mark.parametrize("scope", ["layer", "global"])
    def test_takes_the_share_and_leaves_every_channel(self, name, scope, case, state_of):
        _, problem = case
        state = state_of(problem)
        settings = PruneSettings(method=name, ratio=0.3, of="parameters", scope=scope)
        choice = build(criteria, name, {}).choose(problem, settings)
        total = sum(mask.size for mask in choice.held.values())
        gone = sum(int((~mask).sum()) for mask in choice.held.values())
        assert abs(gone - 0.3 * total) <= len(choice.held)
        assert choice.keep.all()
        assert unchanged(problem, state)
        with pytest.raises(RecipeError, match="of = 'parameters'"):
            build(criteria, name, {}).choose(problem, PruneSettings(method=name, ratio=0.3, of="macs"))


def moved_by(hook, problem, steps=3):
    """Trains a copy for some steps as the loop does; returns it, every hook detached."""
    network = copy.deepcopy(problem.network).train()
    names = [name for name, _ in network.named_parameters()]
    torch.manual_seed(0)
    hook.attach(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    for _ in range(steps):
        images, labels = problem.samples.images, problem.samples.labels
        hook.before_step(network, images, labels)
        loss = torch.nn.functional.cross_entropy(network(images), labels)
        penalty = hook.penalty(network)
        optimizer.zero_grad()
        (loss if penalty is None else loss + penalty).backward()
        hook.after_backward(network)
        optimizer.step()
        hook.after_step(network, 0.01)
    hook.after_epoch(network, 1)
    hook.after_validation(network, 50.0)
    hook.detach(network)
    assert [name for name, _ in network.named_parameters()] == names
    return network.eval()


@pytest.mark.parametrize("name", list(regularizers))
class TestRegularizer:
    def bound(self, name, problem, strength=1.0):
        return build(regularizers, name, {}).bind(problem.network, problem.groups, strength)

    def test_trains_repeats_and_leaves_a_network_of_the_same_names(self, name, case, state_of):
        network, problem = case
        skip_unsuited(name, network)
        state = state_of(problem)
        first, second = (moved_by(self.bound(name, problem, 0.1), problem) for _ in range(2))
        plain = moved_by(Hook(), problem)
        tensors = first.state_dict()
        assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
        assert all(torch.equal(tensor, tensors[n]) for n, tensor in second.state_dict().items())
        assert any(not torch.equal(tensor, tensors[n]) for n, tensor in plain.state_dict().items())
        assert unchanged(problem, state)

    def test_memory_is_tensors_that_can_be_taken_back(self, name, case):
        network, problem = case
        skip_unsuited(name, network)
        hook, fresh = self.bound(name, problem, 0.1), self.bound(name, problem, 0.1)
        moved_by(hook, problem)
        state = {key: tensor.clone() for key, tensor in hook.state_dict().items()}
        fresh.load_state_dict(state)
        assert fresh.state_dict().keys() == state.keys()
        assert all(torch.equal(tensor, state[key]) for key, tensor in fresh.state_dict().items())

    def penalised(self, name, problem):
        if self.bound(name, problem).penalty(copy.deepcopy(problem.network)) is None:
            pytest.skip("adds nothing to the loss of a network that it is not attached to")

    def test_penalty_is_a_finite_scalar_that_scales_with_strength(self, name, case, state_of):
        network, problem = case
        skip_unsuited(name, network)
        self.penalised(name, problem)
        state = state_of(problem)
        one, three = (self.bound(name, problem, s).penalty(problem.network) for s in (1.0, 3.0))
        assert one.shape == ()
        assert one.dtype == torch.float32
        assert 0 < one.item() < float("inf")
        assert three.item() == pytest.approx(3 * one.item(), rel=1e-5)
        assert self.bound(name, problem).penalty(problem.network).item() == one.item()
        assert unchanged(problem, state)

    def test_gradient_is_finite_where_weights_are_zero(self, name, case):
        network, problem = case
        skip_unsuited(name, network)
        self.penalised(name, problem)
        model = copy.deepcopy(problem.network)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        self.bound(name, problem).penalty(model).backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert gradients
        assert all(torch.isfinite(gradient).all() for gradient in gradients)

    def test_a_small_step_down_lowers_it(self, name, case):
        network, problem = case
        skip_unsuited(name, network)
        self.penalised(name, problem)
        model = copy.deepcopy(problem.network)
        before = self.bound(name, problem).penalty(model)
        before.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.sub_(1e-5 * parameter.grad)
        assert self.bound(name, problem).penalty(model).item() < before.item()

    def test_penalty_follows_reordered_channels(self, name, case, reordered):
        network, problem = case
        skip_unsuited(name, network)
        self.penalised(name, problem)
        other, _ = reordered(problem)
        before = self.bound(name, problem).penalty(problem.network).item()
        assert self.bound(name, problem).penalty(other.network).item() == pytest.approx(before, rel=1e-5)


@pytest.mark.parametrize("name", list(searches))
class TestSearch:
    settings = PruneSettings(ratio=0.3, of="macs")

    def chosen(self, name, problem, progress=None):
        return build(searches, name, QUICK.get(name, {})).choose(
            problem, self.settings, trainer=trainer_of(problem), progress=progress
        )

    def test_reaches_the_ratio_repeats_and_changes_nothing(self, name, case, state_of):
        _, problem = case
        state = state_of(problem)
        said = []
        found = self.chosen(name, problem, lambda share, text: said.append((share, text)))
        assert found.keep.shape == (problem.groups.size,)
        assert problem.cost(found.keep).macs <= 0.7 * problem.cost.everything().macs
        assert all(keep.any() for keep in problem.groups.split(found.keep))
        assert said or searches.get(name).trains
        assert all(0 <= share <= 1 and text for share, text in said)
        again = self.chosen(name, problem)
        assert (again.keep == found.keep).all()
        assert found.values.keys() == again.values.keys() <= set(problem.parameters)
        assert all((again.values[n] == value).all() for n, value in found.values.items())
        assert found.details["evaluations"] > 0
        json.dumps(found.details, allow_nan=False)
        assert unchanged(problem, state)

    def test_every_layer_keeps_what_it_may(self, name, case):
        """In blocks of two channels, at least two: what a knob of the recipe says holds whatever the search does."""
        _, problem = case
        settings = self.settings.model_copy(update={"ratio": 0.5, "round_to": 2, "minimum_channels": 2})
        method = build(searches, name, QUICK.get(name, {}))
        found = method.choose(problem, settings, trainer=trainer_of(problem))
        for stratum in problem.strata:
            kept = int(found.keep[stratum.units].sum())
            assert kept in (allowed_counts(stratum, settings) if stratum.prunable else [stratum.units.size])

    def test_a_search_that_trains_says_what_it_lacks(self, name, case):
        _, problem = case
        if searches.get(name).trains:
            with pytest.raises(DataError, match="trains; next: give a recipe"):
                build(searches, name, QUICK.get(name, {})).choose(problem, self.settings)


ALL = [(criteria, name) for name in criteria] + [(regularizers, n) for n in regularizers]
ALL += [(searches, name) for name in searches]


@pytest.mark.parametrize(("registry", "name"), ALL, ids=[name for _, name in ALL])
def test_is_frozen_described_and_refuses_unknown_knobs(registry, name):
    method = registry.get(name)
    assert method.__dataclass_params__.frozen
    info = next(info for info in methods() if (info.id, info.kind) == (name, registry.kind))
    assert info.summary
    assert info.source
    assert [knob.name for knob in info.knobs] == [field.name for field in dataclasses.fields(method)]
    assert all(knob.description for knob in info.knobs)
    with pytest.raises(RecipeError, match="has no option 'nonsense'"):
        build(registry, name, {"nonsense": 1})


def test_options_name_the_nearest_knob_and_check_types():
    with pytest.raises(RecipeError, match="did you mean 'normalise'"):
        build(criteria, "filter-l1", {"normalize": True})
    with pytest.raises(RecipeError, match="option 'normalise'"):
        build(criteria, "filter-l1", {"normalise": "yes"})
    with pytest.raises(RecipeError, match="option 'grouping'"):
        build(regularizers, "hsq-gl12", {"grouping": "kernel"})
    with pytest.raises(RecipeError, match="greater than 0"):
        build(regularizers, "hsq-gl12", {"epsilon": 0.0})
    with pytest.raises(CompressError, match="did you mean 'filter-l1'"):
        build(criteria, "filter-11", {})
    assert build(regularizers, "hsq-gl12", {"epsilon": 1}).epsilon == 1.0
