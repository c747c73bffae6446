"""Masked equals compacted, on networks with every coupling."""

import copy

import numpy as np
import pytest
import torch

from compress.channels.plan import Plan
from compress.compact import apply_plan
from compress.errors import NetworkError
from compress.prune import ChannelMask
from compress.prune.masks import MASKED_ROLES


def cut_and_masked(problem, keep):
    masked, compacted = copy.deepcopy(problem.network), copy.deepcopy(problem.network)
    ChannelMask(problem.groups, keep).apply(masked)
    apply_plan(compacted, Plan.from_kept(problem.groups.kept(keep), problem.parameters))
    # In float64, so that equal means equal.
    images = problem.samples.images.double()
    with torch.no_grad():
        return masked, compacted, masked.double()(images), compacted.double()(images)


@pytest.mark.parametrize("seed", range(3))
def test_masked_equals_compacted(problem, seed):
    rng = np.random.default_rng(seed)
    keep = rng.random(problem.groups.size) < 0.6
    for stratum in problem.strata:
        keep[stratum.units[0]] = True
    masked, compacted, first, second = cut_and_masked(problem, keep)
    assert (first - problem.network(problem.samples.images)).abs().max() > 0.1
    torch.testing.assert_close(first, second, rtol=0, atol=1e-10)
    parameters = sum(tensor.numel() for tensor in compacted.parameters())
    assert parameters < sum(tensor.numel() for tensor in masked.parameters())


def test_every_masked_role_counts(problem_of):
    """Without one of the roles the masked network would compute, or train, something else."""
    problem = problem_of("residual-a")
    keep = np.ones(problem.groups.size, dtype=bool)
    keep[1] = False
    for role in ("out", "in", "scale", "shift"):
        assert role in MASKED_ROLES
        names = [m.parameter for g in problem.groups.groups[:1] for m in g.members if m.role == role]
        network = copy.deepcopy(problem.network)
        ChannelMask(problem.groups, keep).apply(network)
        tensors = dict(network.named_parameters())
        changed = [name for name in names if not torch.equal(tensors[name], problem.tensor(name))]
        assert changed


def test_a_mask_holds_through_steps(problem_of):
    problem = problem_of("residual-b")
    keep = np.ones(problem.groups.size, dtype=bool)
    keep[[0, 5, -1]] = False
    network = copy.deepcopy(problem.network).double().train()
    images = problem.samples.images.double()
    mask = ChannelMask(problem.groups, keep)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    mask.apply(network)
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), problem.samples.labels).backward()
        optimizer.step()
        mask.apply(network)
    network.eval()
    compacted = copy.deepcopy(network)
    apply_plan(compacted, Plan.from_kept(problem.groups.kept(keep), problem.parameters))
    with torch.no_grad():
        torch.testing.assert_close(network(images), compacted(images), rtol=0, atol=1e-10)


def test_a_mask_refuses_a_network_that_has_been_cut(problem_of):
    problem = problem_of("residual-b")
    keep = np.ones(problem.groups.size, dtype=bool)
    keep[0] = False
    _, compacted, _, _ = cut_and_masked(problem, keep)
    with pytest.raises(NetworkError, match=r"does not fit parameter .*allowed: 4 positions on axis 0"):
        ChannelMask(problem.groups, keep).apply(compacted)
