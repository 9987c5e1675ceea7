"""Modes compete: a larger eigenvalue helps its own mode to be learned and hinders all others (eqs. 9, 10).

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
"""Relative to the largest derivative: smaller ones of the wrong sign are rounding."""


def simulate_modes(material: Material) -> Outcome:
    """Compare derivatives on both domains."""
    domains = {name: _measure_domain(material, name) for name in DOMAINS}
    rows = [row for name in DOMAINS for row in _rows(name, domains[name])]
    notes = (
        "Relative derivatives λ_i dL_j / dλ_i, one eigenvalue of one mode changing alone, eigenfunctions "
        "held. Modes are in the order of their eigenvalues.",
    )
    record = {"sets": SETS[material.size], "domains": domains}
    return Outcome(tuple(rows), record, _figure(domains), notes)


def _measure_domain(material: Material, name: str) -> dict[str, Any]:
    domain, n = DOMAINS[name], EXAMPLES[name]
    gram = KERNEL.block(domain.points, domain.points)
    values, vectors = (tensor.flip(-1) for tensor in torch.linalg.eigh(gram))
    generator = material.independent("competition", name)
    draws, differences = [], []
    for number in range(SETS[material.size]):
        rows = torch.randperm(domain.count, generator=generator)[:n]
        # Row i times λ_i.
        exact = values[:, None] / domain.count * transfer_derivatives(gram, rows)
        draws.append(exact)
        if number < CHECKED:
            mode = _random_mode(domain.count, generator)
            numeric = _difference(values, vectors, rows, mode)
            differences.append(float((numeric - exact[mode]).abs().max()))
    every = torch.stack(draws)  # (set, i, j)
    theory = lo.from_modes(values / domain.count, torch.zeros_like(values), n=n)
    predicted = torch.stack([_relative(theory, mode) for mode in range(domain.count)])
    diagonal = every.diagonal(dim1=1, dim2=2)
    off_diagonal = every - torch.diag_embed(diagonal)
    allowed = ROUNDING * float(every.abs().max())
    return {
        "n": n,
        "modes": domain.count,
        "own": [int((diagonal >= -allowed).sum()), diagonal.numel()],
        "others": [
            int((off_diagonal <= allowed).sum()) - diagonal.numel(),
            off_diagonal.numel() - diagonal.numel(),
        ],
        "difference": max(differences),
        "mean": every.mean(0).tolist(),
        "predicted": predicted.tolist(),
    }


def _relative(theory: lo.Learnability, mode: int) -> Float64[Tensor, " r"]:
    return theory.eigenvalues[mode] * theory.derivatives(mode)


def _random_mode(count: int, generator: Generator) -> int:
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


def _rows(name: str, domain: dict[str, Any]) -> tuple[Row, ...]:
    diagonal, off_diagonal = domain["own"], domain["others"]
    mean, predicted = np.array(domain["mean"]), np.array(domain["predicted"])
    off = np.abs(mean - predicted).max()
    setting = f"{name}, {domain['modes']} modes, n = {domain['n']}"
    return (
        Row(
            f"{setting}: dL(φ_i) / dλ_i ≥ 0",
            "always (eq. 9)",
            f"{diagonal[0]} of {diagonal[1]}",
            diagonal[0] == diagonal[1],
        ),
        Row(
            f"{setting}: dL(φ_j) / dλ_i ≤ 0, j ≠ i",
            "always (eq. 10)",
            f"{off_diagonal[0]} of {off_diagonal[1]}",
            off_diagonal[0] == off_diagonal[1],
        ),
        Row(
            f"{setting}: largest difference from refitted models",
            "0 (eqs. 39 and 40)",
            f"{domain['difference']:.0e}",
            domain["difference"] < 1e-6,
        ),
        Row(
            f"{setting}: mean over data sets against the derivative of λ / (λ + κ), largest difference",
            "not printed",
            f"{off:.3f}, of a largest of {np.abs(predicted).max():.3f}",
        ),
    )


def _figure(domains: dict[str, Any]) -> Figure:
    figure, grid = panels(2 * len(domains), width=3.6, height=3.4)
    for place, (name, domain) in enumerate(domains.items()):
        # Off the diagonal derivatives are small: colours span those, and the diagonal saturates.
        reach = np.abs(domain["predicted"] - np.diag(np.diag(domain["predicted"]))).max()
        for offset, key in enumerate(("mean", "predicted")):
            axes = grid[0, 2 * place + offset]
            shown = axes.imshow(domain[key], cmap="RdBu_r", vmin=-reach, vmax=reach)
            axes.set(
                title=f"{name}: {'measured' if key == 'mean' else key}",
                xlabel="learned mode j",
                ylabel="mode i whose eigenvalue rises",
            )
        figure.colorbar(shown, ax=grid[0, 2 * place + 1], shrink=0.7, label="λᵢ dLⱼ / dλᵢ")
    return figure
