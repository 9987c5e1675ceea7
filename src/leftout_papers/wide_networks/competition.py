"""Do modes compete? A larger eigenvalue teaches its own mode more, and every other mode less (eqs. 9 and 10).

dT_jj / dλ_i on random data sets of circle and hypercube, exactly, against differences of refitted models and,
on the mean, against the derivative of λ / (λ + κ).
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from matplotlib.figure import Figure
from torch import Generator, Tensor

import leftout as lo
from leftout.data import Circle, Hypercube
from leftout.diagnostics import transfer_derivatives
from leftout_papers.drawing import panels
from leftout_papers.exhibit import Outcome, Row
from leftout_papers.material import Material, Size
from leftout_papers.wide_networks.setting import KERNEL

DOMAINS: dict[str, Circle | Hypercube] = {"circle": Circle(16), "hypercube": Hypercube(5)}
EXAMPLES = {"circle": 5, "hypercube": 10}
SETS = {Size.QUICK: 30, Size.USUAL: 300, Size.PAPER: 300}
CHECKED = 5
"""Data sets of which the derivatives are compared with differences."""

STEP = 1e-5
"""Relative step of an eigenvalue: the difference is off by its square, and by rounding over it."""

ROUNDING = 1e-9
"""Relative to the largest of a data set, what of a derivative is rounding."""


def simulated(material: Material) -> Outcome:
    """Run derivatives on both domains."""
    found = {name: _measured(material, name) for name in DOMAINS}
    rows = [row for name in DOMAINS for row in _rows(name, found[name])]
    notes = (
        "Relative derivatives λ_i dL_j / dλ_i, one eigenvalue of one mode changing alone, eigenfunctions "
        "held. Modes are in the order of their eigenvalues.",
    )
    result = {"sets": SETS[material.size], "domains": found}
    return Outcome(tuple(rows), result, _figure(found), notes)


def _measured(material: Material, name: str) -> dict[str, Any]:
    domain, n = DOMAINS[name], EXAMPLES[name]
    gram = KERNEL.block(domain.points, domain.points)
    values, vectors = (part.flip(-1) for part in torch.linalg.eigh(gram))
    generator = material.independent("competition", name)
    draws, differences = [], []
    for number in range(SETS[material.size]):
        rows = torch.randperm(domain.count, generator=generator)[:n]
        # Row i times λ_i.
        exact = values[:, None] / domain.count * transfer_derivatives(gram, rows)
        draws.append(exact)
        if number < CHECKED:
            mode = _one(domain.count, generator)
            numeric = _difference(values, vectors, rows, mode)
            differences.append(float((numeric - exact[mode]).abs().max()))
    every = torch.stack(draws)  # (set, i, j)
    theory = lo.from_modes(values / domain.count, torch.zeros_like(values), n=n)
    predicted = torch.stack([_relative(theory, mode) for mode in range(domain.count)])
    own = every.diagonal(dim1=1, dim2=2)
    others = every - torch.diag_embed(own)
    allowed = ROUNDING * float(every.abs().max())
    return {
        "n": n,
        "modes": domain.count,
        "own": [int((own >= -allowed).sum()), own.numel()],
        "others": [int((others <= allowed).sum()) - own.numel(), others.numel() - own.numel()],
        "difference": max(differences),
        "mean": every.mean(0).tolist(),
        "predicted": predicted.tolist(),
    }


def _relative(theory: lo.Learnability, mode: int) -> Float64[Tensor, " r"]:
    return theory.eigenvalues[mode] * theory.derivatives(mode)


def _one(count: int, generator: Generator) -> int:
    return int(torch.randint(count, (1,), generator=generator))


def _difference(
    values: Float64[Tensor, " r"], vectors: Float64[Tensor, "r r"], rows: Tensor, mode: int
) -> Float64[Tensor, " r"]:
    """Return λ dT_jj / dλ by refitting with the eigenvalue moved both ways."""
    ends = []
    for sign in (-1, 1):
        moved = values.clone()
        moved[mode] *= 1 + sign * STEP
        gram = vectors * moved @ vectors.T
        ends.append(lo.transfer((gram + gram.T) / 2, rows, basis=vectors).diagonal())
    return (ends[1] - ends[0]) / (2 * STEP)


def _rows(name: str, found: dict[str, Any]) -> tuple[Row, ...]:
    own, others = found["own"], found["others"]
    mean, predicted = np.array(found["mean"]), np.array(found["predicted"])
    off = np.abs(mean - predicted).max()
    setting = f"{name}, {found['modes']} modes, n = {found['n']}"
    return (
        Row(f"{setting}: dL(φ_i) / dλ_i ≥ 0", "always (eq. 9)", f"{own[0]} of {own[1]}", own[0] == own[1]),
        Row(
            f"{setting}: dL(φ_j) / dλ_i ≤ 0, j ≠ i",
            "always (eq. 10)",
            f"{others[0]} of {others[1]}",
            others[0] == others[1],
        ),
        Row(
            f"{setting}: largest difference from refitted models",
            "0 (eqs. 39 and 40)",
            f"{found['difference']:.0e}",
            found["difference"] < 1e-6,
        ),
        Row(
            f"{setting}: mean over data sets against the derivative of λ / (λ + κ), largest difference",
            "not printed",
            f"{off:.3f}, of a largest of {np.abs(predicted).max():.3f}",
        ),
    )


def _figure(found: dict[str, Any]) -> Figure:
    figure, grid = panels(2 * len(found), width=3.6, height=3.4)
    for place, (name, one) in enumerate(found.items()):
        # What modes take from each other is small beside what they gain: the diagonal saturates.
        reach = np.abs(one["predicted"] - np.diag(np.diag(one["predicted"]))).max()
        for offset, key in enumerate(("mean", "predicted")):
            axes = grid[0, 2 * place + offset]
            shown = axes.imshow(one[key], cmap="RdBu_r", vmin=-reach, vmax=reach)
            axes.set(
                title=f"{name}: {'measured' if key == 'mean' else key}",
                xlabel="learned mode j",
                ylabel="mode i whose eigenvalue rises",
            )
        figure.colorbar(shown, ax=grid[0, 2 * place + 1], shrink=0.7, label="λᵢ dLⱼ / dλᵢ")
    return figure
