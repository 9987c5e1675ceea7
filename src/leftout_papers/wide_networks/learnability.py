"""How much of each eigenfunction is learned from n examples: measured, and predicted from eigenvalues.

Kernel regression without ridge on circle, hypercube and sphere, from n = 2, 4, 8, … random examples, over
many random data sets; beside the theory's λ / (λ + κ). Of a data set the learnability is exact, with no
test points: ⟨φ, f̂⟩ = λ φ(D)ᵀ K(D, D)⁻¹ φ(D).
"""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from leftout.data import Sphere
from leftout_papers.drawing import BLUE, GREEN, INK, ORANGE, RED, panels
from leftout_papers.exhibit import Outcome, Row
from leftout_papers.material import Material, Size
from leftout_papers.wide_networks.setting import SETTINGS, Setting, kernel_learning

EXAMPLES = {
    Size.QUICK: (2, 8, 32, 256),
    Size.USUAL: (2, 4, 8, 16, 32, 64, 128, 256),
    Size.PAPER: (2, 4, 8, 16, 32, 64, 128, 256),
}
SETS = {Size.QUICK: 30, Size.USUAL: 300, Size.PAPER: 300}
"""The paper averages over 30; more make the error bars smaller than theory's own error."""

AGREE = 0.05
"""Largest difference that still looks like agreement in the paper's figures, with an axis from 0 to 1."""

FEW = 16
"""Number of examples below which the theory, which is of many examples, need not agree."""

COLOURS = (INK, BLUE, GREEN, ORANGE, RED)


def simulate_learnability(material: Material) -> Outcome:
    """Compare learnabilities of kernel regression on the three domains."""
    examples = EXAMPLES[material.size]
    domains = {setting.name: _measure_domain(material, setting, examples) for setting in SETTINGS}
    rows = [row for setting in SETTINGS for row in _rows(setting, domains[setting.name], examples)]
    rows += _few_modes(SETTINGS[-1], domains["sphere"], examples)
    record = {"examples": list(examples), "sets": SETS[material.size], "domains": domains}
    notes = (
        f"{SETS[material.size]} random data sets; of circle and hypercube of different points. Error bars "
        "are standard errors of the mean.",
        f"Agreement is a difference of at most {AGREE:g}.",
        "The sphere's inputs have norm 1 in the kernel and in the data: the paper's programs take its "
        "eigenvalues at norm √8.",
    )
    return Outcome(tuple(rows), record, _figure(domains, examples), notes)


def _measure_domain(material: Material, setting: Setting, examples: tuple[int, ...]) -> dict[str, Any]:
    """Return learnability by degree and n: mean, standard error and prediction."""
    generator = material.independent("learnability", setting.name)
    draws = np.array(
        [
            [
                kernel_learning(setting, setting.draw(n, generator)).learnability.numpy()
                for _ in range(SETS[material.size])
            ]
            for n in examples
        ]
    )  # (n, set, degree)
    return {
        "degrees": list(setting.degrees),
        "measured": draws.mean(1).T.tolist(),
        "error": (draws.std(1, ddof=1) / np.sqrt(draws.shape[1])).T.tolist(),
        "predicted": np.array([setting.predicted_learnability(n).numpy() for n in examples]).T.tolist(),
    }


def _rows(setting: Setting, domain: dict[str, Any], examples: tuple[int, ...]) -> tuple[Row, ...]:
    measured = np.array(domain["measured"])
    before = [place for place, n in enumerate(examples) if n < 256]
    falling = np.diff(measured[:, before], axis=0) < 0
    large = [place for place, n in enumerate(examples) if n >= FEW]
    small = [place for place, n in enumerate(examples) if n < FEW]
    return (
        _difference(setting, domain, examples, large, f"from n = {examples[large[0]]} on"),
        _difference(setting, domain, examples, small, f"up to n = {examples[small[-1]]}"),
        Row(
            f"{setting.name}: lower degrees are learned first, at every n",
            "spectral bias, drawn",
            f"{int(falling.sum())} of {falling.size} steps of degree",
            bool(falling.all()),
        ),
    )


def _difference(
    setting: Setting, domain: dict[str, Any], examples: tuple[int, ...], places: list[int], range_text: str
) -> Row:
    measured, error, predicted = (
        np.array(domain[key])[:, places] for key in ("measured", "error", "predicted")
    )
    off = np.abs(measured - predicted)
    degree, place = np.unravel_index(off.argmax(), off.shape)
    worst, doubt = float(off.max()), 2 * float(error[degree, place])
    return Row(
        f"{setting.name}: largest difference of measured and predicted learnability, {range_text}",
        "they agree, drawn",
        f"{worst:.3f} ± {doubt / 2:.3f} (degree {setting.degrees[degree]}, "
        f"n = {examples[places[place]]}: {measured[degree, place]:.3f}, predicted "
        f"{predicted[degree, place]:.3f})",
        True if worst + doubt <= AGREE else False if worst - doubt > AGREE else "open",
    )


def _few_modes(setting: Setting, domain: dict[str, Any], examples: tuple[int, ...]) -> tuple[Row, ...]:
    """Return the review's statement on figure 2 (c): most modes stay unlearned at n = 2⁸."""
    place = examples.index(256)
    measured = np.array(domain["measured"])[:, place]
    assert isinstance(setting.domain, Sphere)
    counts = [setting.domain.multiplicity(degree) for degree in setting.degrees]
    learned_most = sum(count for count, share in zip(counts, measured, strict=True) if share > 0.5)
    # Learnability falls with the degree: higher degrees than those measured are below the last of them.
    low = [degree for degree, share in zip(setting.degrees, measured, strict=True) if share < 0.25]
    shares = ", ".join(f"{share:.3f}" for share in measured)
    return (
        Row(
            "sphere: learnability at n = 2⁸ of degrees " + ", ".join(map(str, setting.degrees)),
            "all but the top few eigenmodes much closer to 0 than 1 (figure 2 (c) of Simon et al.)",
            f"{shares}: above ½ are {learned_most} modes; from degree {low[0] if low else '…'} on all "
            "are below ¼",
            bool(low),
        ),
    )


def _figure(domains: dict[str, Any], examples: tuple[int, ...]) -> Figure:
    figure, grid = panels(len(SETTINGS), width=4.4, height=3.5, sharey=True)
    for axes, setting in zip(grid[0], SETTINGS, strict=True):
        domain = domains[setting.name]
        fine = np.unique(np.round(np.geomspace(2, examples[-1], 60)))
        curves = np.array([setting.predicted_learnability(int(n)).numpy() for n in fine]).T
        for row, (degree, colour) in enumerate(zip(setting.degrees, COLOURS, strict=False)):
            axes.plot(fine, curves[row], color=colour, lw=1.2)
            axes.errorbar(
                examples,
                domain["measured"][row],
                yerr=domain["error"][row],
                fmt="o",
                ms=4,
                color=colour,
                label=f"degree {degree}",
            )
        axes.set_xscale("log", base=2)
        axes.set_xlabel("examples n")
        axes.set_title(setting.name)
        axes.legend(fontsize=7)
    grid[0, 0].set_ylabel("learnability (line: predicted)")
    return figure
