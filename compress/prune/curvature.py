"""The diagonal of the Hessian of the loss on the samples, with real second derivatives, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from compress.channels.graph import Array
from compress.errors import NetworkError
from compress.prune.gradients import batches, double_copy
from compress.prune.problem import PruningProblem

Kind = Literal["gauss-newton", "hutchinson"]

_HELD = 1 << 24  # float64 numbers of per-sample gradients held at once
_BATCH = 32


def hessian_diagonal(problem: PruningProblem, kind: Kind, draws: int) -> dict[str, Array]:
    """Returns the diagonal of the Hessian of the mean cross-entropy, by parameter, of its shape.

    Args:
        problem: with samples.
        kind: `gauss-newton`: of Jᵀ H_z J, J the Jacobian of the outputs z, H_z = diag(p) − p pᵀ; exact, never negative,
            without the second derivatives of the network itself. `hutchinson`: of the Hessian itself, the mean of
            v ⊙ (H v) over random signs v; unbiased.
        draws: of v.

    Raises:
        DataError: if there are no samples.
        NetworkError: if the network cannot be differentiated sample by sample.
    """
    return _gauss_newton(problem) if kind == "gauss-newton" else _hutchinson(problem, draws)


def _gauss_newton(problem: PruningProblem) -> dict[str, Array]:
    """Sums p_k (∂ log p_k)² over the classes k and means over samples: its expectation over labels is Jᵀ H_z J."""
    network = double_copy(problem)
    parameters = {name: p.detach() for name, p in network.named_parameters()}
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    size = max(1, min(_BATCH, _HELD // max(1, sum(p.numel() for p in parameters.values()))))

    def log_probabilities(image: Tensor, weights: dict[str, Tensor]) -> Tensor:
        logits: Tensor = functional_call(network, weights, (image[None],))
        return torch.log_softmax(logits[0], dim=0)

    def squares(image: Tensor) -> dict[str, Tensor]:
        found, pull = cast(
            "tuple[Tensor, Callable[[Tensor], Any]]", vjp(lambda weights: log_probabilities(image, weights), parameters)
        )
        summed = {name: torch.zeros_like(p) for name, p in parameters.items()}
        for label in torch.eye(len(found), dtype=found.dtype, device=found.device):
            (gradient,) = pull(label)
            share = (found * label).sum().exp()
            summed = {name: summed[name] + share * gradient[name].square() for name in summed}
        return summed

    count = 0
    for images, _ in batches(problem, size):
        try:
            found = vmap(squares)(images)
        except RuntimeError as error:
            raise NetworkError(
                f"the network cannot be differentiated sample by sample ({str(error).splitlines()[0]})",
                next_step="set the method's option hessian = 'hutchinson'",
            ) from error
        for name, value in found.items():
            total[name] += value.detach().sum(0)
        count += len(images)
    return {name: (total[own] / count).cpu().numpy() for name, own in _owners(network).items()}


def _owners(network: nn.Module) -> dict[str, str]:
    """Returns for every name of a parameter the first name of it."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(p), name) for name, p in network.named_parameters(remove_duplicate=False)}


def _hutchinson(problem: PruningProblem, draws: int) -> dict[str, Array]:
    network = double_copy(problem)
    parameters = dict(network.named_parameters())
    tensors = list(parameters.values())
    generator = torch.Generator().manual_seed(problem.seed)
    signs = [[_signs(p, generator) for p in tensors] for _ in range(draws)]
    total = [torch.zeros_like(p, requires_grad=False) for p in tensors]
    count = 0
    for images, labels in batches(problem, _BATCH):
        count += len(labels)
        loss = nn.functional.cross_entropy(network(images), labels, reduction="sum")
        first = torch.autograd.grad(loss, tensors, create_graph=True, allow_unused=True, materialize_grads=True)
        for along in signs:
            product = torch.stack([(g * v).sum() for g, v in zip(first, along, strict=True)]).sum()
            second = torch.autograd.grad(product, tensors, retain_graph=True, allow_unused=True, materialize_grads=True)
            for sums, v, hv in zip(total, along, second, strict=True):
                sums.add_(v * hv)
    found = {name: (sums / (count * draws)).cpu().numpy() for name, sums in zip(parameters, total, strict=True)}
    return {name: found[own] for name, own in _owners(network).items()}


def _signs(parameter: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randint(0, 2, parameter.shape, generator=generator, dtype=torch.float64)
    return drawn.mul(2).sub(1).to(parameter.device)
