"""Figures 5 and 11: how much do influential examples add to the complexity of the learned function?

Ten groups by mean influence, from the most harmful (0) to the most helpful (9); the complexity of a
group is the fall of the RKHS norm √(Yᵀ K⁻¹ Y) without it (eq. 19).
"""

import numpy as np
from matplotlib.figure import Figure

import leftout as lo
from leftout_papers.drawing import BLUE, RED, panels
from leftout_papers.exhibit import Outcome, Row
from leftout_papers.material import Material

RIDGE = 1.0
GROUPS = 10


def binary(material: Material) -> Outcome:
    """Run figure 5: two classes."""
    return _outcome(material, *material.pair(5000, 1000))


def classes(material: Material) -> Outcome:
    """Run figure 11: ten classes."""
    return _outcome(material, *material.classes(5000, 1000))


def _outcome(material: Material, train: lo.Examples, query: lo.Examples) -> Outcome:
    fitted = material.fit_kernel(train, lo.Ridge(RIDGE))
    influence = lo.leave_one_out(fitted, query, mean=True).values
    order = np.argsort(influence, kind="stable")
    groups = [rows.tolist() for rows in np.array_split(order, GROUPS)]
    complexity = lo.complexity(fitted, groups)
    values = complexity.values
    inner = values[1:-1]
    rows = (
        Row(
            "complexity of the most harmful group (0)",
            "among the two largest",
            f"{values[0]:.3g}; groups 1 to 8: {inner.min():.3g} to {inner.max():.3g}",
            bool(values[0] > inner.max()),
        ),
        Row(
            "complexity of the most helpful group (9)",
            "among the two largest",
            f"{values[-1]:.3g}; RKHS norm with everyone {complexity.attrs['total']:.3g}",
            bool(values[-1] > inner.max()),
        ),
    )
    record = {
        "examples": len(train),
        "queries": len(query),
        "ridge_of_influence": RIDGE,
        "complexity": values.tolist(),
        "total": complexity.attrs["total"],
        "mean_influence": [float(influence[group].mean()) for group in groups],
    }
    return Outcome(rows, record, _figure(values, len(train)))


def _figure(values: np.ndarray, n: int) -> Figure:
    figure, grid = panels(1, width=5.2, height=3.5)
    axes = grid[0, 0]
    colours = [RED] + [BLUE] * (GROUPS - 2) + [RED]
    axes.bar(range(GROUPS), values, color=colours)
    axes.set_xticks(range(GROUPS))
    axes.set_xlabel("group by influence: 0 most harmful, 9 most helpful")
    axes.set_ylabel("complexity √(Yᵀ K⁻¹ Y) of the group")
    axes.set_title(f"Complexity of the tenths by influence, n = {n:,}")
    return figure
