"""Classical influence functions: by the recursion that the paper uses, and by the sum of its series.

Removing example i from the mean loss moves the weights by dw = (1/n) C⁻¹ g_i, g_i its gradient with the
penalty, C the curvature. LiSSA replaces C⁻¹ with

    h(A) = (1/s) Σ_{j ≤ T} (1 − A/s)^j = A⁻¹ (1 − (1 − A/s)^{T+1}),    A = C + damping · s

so that a damping of 0.01 at scale s = 1000 is one of 10. With all examples in every step, and the
Gauss-Newton matrix C = JᵀJ/n + λ at the trained weights, h is a function of the tangent kernel Θ = JJᵀ:

    h(A) Jᵀ = Jᵀ h(Θ/n + μ),      h(A) v = h(μ) v + Jᵀ k(Θ) J v,    k(σ) = (h(σ/n + μ) − h(μ)) / σ

with μ = λ + damping · s and v = w − w_0, of which the penalty's gradient is a multiple. This gives the
effects of all examples at once.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

import leftout as lo
from leftout.core import memory_budget
from leftout.dynamics import Curvature
from leftout_papers.material import Material
from leftout_papers.smooth_information.retrained import Effects
from leftout_papers.smooth_information.scores import Schedule, linearised_fit


@dataclass(frozen=True)
class Recursion:
    """LiSSA's settings, for the mean loss.

    Attributes:
        damping: per step, where there is no weight decay.
        batch: examples drawn for a step; all if there are fewer.
    """

    scale: float = 1000.0
    depth: int = 1000
    damping: float = 0.01
    batch: int = 128

    def shift(self, ridge: float) -> float:
        """Return μ, what is added to JᵀJ/n."""
        return ridge if ridge else self.damping * self.scale

    def filter(self, values: Float64[Tensor, " a"]) -> Float64[Tensor, " a"]:
        """Return h of eigenvalues of A."""
        return (1 - (1 - values / self.scale) ** (self.depth + 1)) / values


LISSA = Recursion()
"""The settings of the paper."""


def series(material: Material, trained: lo.Trained, query: lo.Examples, settings: Recursion) -> Effects:
    """Return the effects of leaving out each training example, of a network with one output.

    Cost:
        the tangent kernel at the trained weights and an eigendecomposition.
    """
    ridge = trained.rule.ridge_number
    n, shift = len(trained.train), settings.shift(ridge)
    fitted = linearised_fit(material, trained.module, trained.train, Schedule(trained.rate, 0))
    kernel = fitted.kernel
    assert isinstance(kernel, lo.kernels.Empirical)
    values, vectors = torch.linalg.eigh(fitted.gram)
    inside = settings.filter(values.clamp(min=0) / n + shift)
    alone = float(settings.filter(torch.tensor([shift], dtype=torch.float64)))
    moved = _weight_change(trained)
    along = kernel.push_forward(trained.train.inputs, moved).to(fitted.gram)[:, 0]  # J v
    positive = values > len(values) * torch.finfo(torch.float64).eps * values[-1]
    more = torch.where(positive, (inside - alone) / values, 0)
    # dw_i = Jᵀ dual_i + share · v
    dual = vectors * inside @ (vectors.T * -fitted.residual[:, 0]) / n
    dual += ridge / n * (vectors @ (more * (vectors.T @ along)))[:, None]
    share = ridge / n * alone
    size = sum(float(change.square().sum()) for change in moved.values())
    weights = (dual * (fitted.gram @ dual)).sum(0) + 2 * share * (along @ dual) + share**2 * size
    along_query = kernel.push_forward(query.inputs, moved).to(fitted.gram)
    predictions = (fitted.cross(query.inputs) @ dual + share * along_query).square().sum(0)
    return Effects(weights.cpu().numpy(), predictions.cpu().numpy())


def recursion(
    material: Material, trained: lo.Trained, query: lo.Examples, rows: list[int], settings: Recursion
) -> Effects:
    """Return the effects of leaving out some training examples, by LiSSA and the Hessian itself.

    Cost:
        depth products of `batch` examples for each of the rows.
    """
    n, rule = len(trained.train), trained.rule
    shift, batch = settings.shift(rule.ridge_number), min(settings.batch, n)
    budget = memory_budget(material.memory, device=next(trained.module.parameters()).device)
    # As sums over examples, as everywhere: the mean's curvature and scale n-fold.
    matrix = Curvature(trained.module, trained.train, kind="hessian", shift=n * shift, memory=budget // 4)
    solver = lo.LiSSA(
        scale=n * settings.scale,
        depth=settings.depth,
        rtol=1e-12,
        batch=batch if batch < n else None,
        generator=material.generator(9),
    )
    ask = solver.prepare(matrix, matrix.side, device=matrix.device, examples=n, memory=budget // 2)
    indices = torch.tensor(rows)
    pulls = matrix.gradients(trained.train.inputs[indices], trained.train.targets[indices])
    moved = _weight_change(trained)
    pulls += rule.ridge_number * torch.cat([change.flatten() for change in moved.values()]).to(pulls)[:, None]
    changes = ask(pulls).value
    tangents = matrix.unflat(changes.T)
    kernel = lo.kernels.Empirical(trained.module, memory=material.memory, weights="initial")
    predictions = [
        float(kernel.push_forward(query.inputs, {k: v[i] for k, v in tangents.items()}).square().sum())
        for i in range(len(rows))
    ]
    return Effects(
        changes.square().sum(0).cpu().numpy(), torch.tensor(predictions, dtype=torch.float64).numpy()
    )


def _weight_change(trained: lo.Trained) -> dict[str, Tensor]:
    """Return w − w_0."""
    then = dict(trained.initial.named_parameters())
    return {
        name: now.detach().double() - then[name].detach().to(now.device).double()
        for name, now in trained.module.named_parameters()
        if now.requires_grad
    }
