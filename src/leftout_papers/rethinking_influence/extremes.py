"""Figure 4: what do the most helpful, most harmful and uninformative training images look like?

An image's influence is its mean over the queries.
"""

import numpy as np
from matplotlib.figure import Figure

import leftout as lo
from leftout_papers.drawing import panels, show_image
from leftout_papers.exhibit import Outcome, Row
from leftout_papers.material import Material

SHOWN = 10
RIDGE = 1.0


def binary(material: Material) -> Outcome:
    """Run figure 4."""
    train, query = material.pair(5000, 1000)
    fitted = material.fit_kernel(train, lo.Ridge(RIDGE))
    influence = lo.leave_one_out(fitted, query, mean=True).values
    order = np.argsort(influence, kind="stable")
    chosen = {
        "most helpful": order[::-1][:SHOWN],
        "most harmful": order[:SHOWN],
        "uninformative": np.argsort(np.abs(influence), kind="stable")[:SHOWN],
    }
    assert train.labels is not None
    wrong = (train.encoding.decode(lo.out_of_sample(fitted).cpu()) != train.labels).numpy()
    record = {
        "examples": len(train),
        "queries": len(query),
        "ridge": RIDGE,
        "ids": {name: [train.ids[i] for i in rows] for name, rows in chosen.items()},
        "influence": {name: influence[rows].tolist() for name, rows in chosen.items()},
        "misclassified_without_itself": {name: float(wrong[rows].mean()) for name, rows in chosen.items()},
        "misclassified_without_itself_of_all": float(wrong.mean()),
    }
    harmful = wrong[chosen["most harmful"]].mean()
    rows = (
        Row(
            f"of the {SHOWN} most harmful, classed otherwise by the model without them",
            "complicated or atypical",
            f"{harmful:.0%} (all training examples: {wrong.mean():.1%})",
            bool(harmful > wrong.mean()),
        ),
        Row(
            f"of the {SHOWN} uninformative ones",
            "homogeneous",
            f"{wrong[chosen['uninformative']].mean():.0%}",
        ),
    )
    return Outcome(rows, record, _figure(train, influence, chosen))


def _figure(train: lo.Examples, influence: np.ndarray, chosen: dict[str, np.ndarray]) -> Figure:
    figure, grid = panels(SHOWN, len(chosen), width=0.85, height=1.25)
    for line, (name, rows) in zip(grid, chosen.items(), strict=True):
        for place, (axes, row) in enumerate(zip(line, rows, strict=True)):
            assert train.images is not None
            assert train.labels is not None
            title = f"{(train.classes or ())[int(train.labels[row])]}\n{influence[row]:+.1e}"
            show_image(axes, train.images[row], title)
            if place == 0:
                axes.text(
                    -0.25,
                    0.5,
                    name,
                    rotation=90,
                    transform=axes.transAxes,
                    ha="right",
                    va="center",
                    fontsize=9,
                )
    return figure
