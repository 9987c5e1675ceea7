"""Cross-entropy of logits f and its derivatives: softmax over k outputs, the logistic loss of one.

    k ≥ 2    ce = log Σ_c exp(f_c) − Σ_c y_c f_c        y ≥ 0, Σ_c y_c = 1
    k = 1    ce = log(1 + exp(f)) − y f                 0 ≤ y ≤ 1, the probability of the second class

The last axis holds the outputs. Losses are those of the labels themselves, without the entropy of soft ones.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

LARGE = 600.0
"""Changes of logits up to which the change of the loss is taken from exp(change) − 1: no digits are lost."""


def probabilities(logits: Float[Tensor, "*#n k"]) -> Tensor:
    """Return the softmax over outputs, the logistic function of one."""
    return logits.sigmoid() if logits.shape[-1] == 1 else logits.softmax(-1)


def cross_entropy(logits: Float[Tensor, "*#n k"], targets: Float[Tensor, "*#n k"]) -> Tensor:
    """Return the loss of every row of logits."""
    return _normaliser(logits) - (targets * logits).sum(-1)


def cross_entropy_gradient(logits: Float[Tensor, "*#n k"], targets: Float[Tensor, "*#n k"]) -> Tensor:
    """Return p − y, with all digits also where p is next to y.

    Rows sum to zero: the entry of the largest target, 1 − 1 + something small, is minus the others.
    """
    if logits.shape[-1] == 1:
        first = logits.sigmoid() - targets
        second = (1 - targets) - (-logits).sigmoid()
        return torch.where(targets < 0.5, first, second)
    gradient = logits.softmax(-1) - targets
    largest = targets.argmax(-1, keepdim=True).expand(*gradient.shape[:-1], 1)
    others = gradient.scatter(-1, largest, 0.0)
    return others.scatter(-1, largest, -others.sum(-1, keepdim=True))


def curvature_product(
    p: Float[Tensor, "*#n k"],
    direction: Float[Tensor, "*#n k"],
    weighted_p: Float[Tensor, "*#n k"] | None = None,
) -> Tensor:
    """Return ω (diag p − p pᵀ) times a direction, row by row.

    Args:
        weighted_p: ω p, of rows that weigh ω; p itself if None.
    """
    weighted_p = p if weighted_p is None else weighted_p
    if p.shape[-1] == 1:
        return weighted_p * (1 - p) * direction
    weighted = weighted_p * direction
    return weighted.addcmul_(p, weighted.sum(-1, keepdim=True), value=-1)


def cross_entropy_change(
    logits: Float[Tensor, "*#n k"], change: Float[Tensor, "*#n k"], targets: Float[Tensor, "*#n k"]
) -> Tensor:
    """Return ce(f + change) − ce(f): log Σ_c p_c exp(d_c), d the change minus that of the target.

    Small changes keep their digits, which the difference of two losses would lose.
    """
    if logits.shape[-1] == 1:  # two classes, of which the first has the logit 0
        p = logits.sigmoid()
        of_target = targets * change
        first, second = torch.zeros_like(change) - of_target, change - of_target
        d, p = torch.cat([first, second], -1), torch.cat([(-logits).sigmoid(), p], -1)
        log_p = torch.cat([-softplus(logits), -softplus(-logits)], -1)
    else:
        p, log_p = logits.softmax(-1), logits.log_softmax(-1)
        d = change - (targets * change).sum(-1, keepdim=True)
    grown = (p * torch.expm1(d.clamp(max=LARGE))).sum(-1)  # Σ p exp(d) − 1
    near = (grown > -0.5) & (d.amax(-1) < LARGE)
    return torch.where(near, torch.log1p(grown.clamp(min=-0.5)), torch.logsumexp(log_p + d, -1))


def _normaliser(logits: Float[Tensor, "*#n k"]) -> Tensor:
    return softplus(logits[..., 0]) if logits.shape[-1] == 1 else torch.logsumexp(logits, -1)
