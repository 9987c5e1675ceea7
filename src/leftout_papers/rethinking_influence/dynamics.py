"""Figures 6 and 7: which training examples dominate a query, by training time?

At each time the example with the largest |influence| on each query, exactly, under gradient flow
without ridge. Time is in 1/eigenvalue of K: the paper's eq. 20 reads t = 2·t_paper / n.
"""

import numpy as np
from jaxtyping import Int64
from matplotlib.figure import Figure

import leftout as lo
from leftout.data import flip_labels
from leftout_papers.drawing import BLUE, FAINT, GREEN, RED, panels, show_image
from leftout_papers.exhibit import Outcome, Row
from leftout_papers.material import Material

FLIPPED = 0.4
MOMENTS = [0.1, 1.0, 10.0, 100.0]
SHOWN = 6


def dominant(
    fitted: lo.Fitted, query: lo.Examples, times: list[float]
) -> tuple[Int64[np.ndarray, "t m"], Int64[np.ndarray, "t m"]]:
    """Return rows of the training examples with the largest |influence|, and the largest influence."""
    scores = lo.leave_one_out(fitted, query, at=times, top=1)
    best, worst = scores["helpful"].values[..., 0], scores["harmful"].values[..., 0]
    helpful = scores["helpful_train"].values[..., 0]
    harmful = scores["harmful_train"].values[..., 0]
    return np.where(np.abs(best) >= np.abs(worst), helpful, harmful), helpful


def images(material: Material) -> Outcome:
    """Run figure 6: the dominating image of a few queries, at four times."""
    train, query = material.pair(5000, 1000)
    fitted = _flow(material, train)
    rows_at, _ = dominant(fitted, query, MOMENTS)
    changed = float(np.mean([(column != column[0]).any() for column in rows_at.T]))
    spread = np.array([len(set(column)) for column in rows_at.T])
    shown = np.argsort(-spread, kind="stable")[:SHOWN]
    rows = (
        Row(
            f"queries whose most influential image changes between t = {MOMENTS[0]:g} and {MOMENTS[-1]:g}",
            "not constant in general",
            f"{changed:.0%}",
            bool(changed > 0.5),
        ),
    )
    record = {
        "examples": len(train),
        "queries": len(query),
        "times": MOMENTS,
        "share_changed": changed,
        "shown": [query.ids[i] for i in shown],
        "dominant": {query.ids[i]: [train.ids[j] for j in rows_at[:, i]] for i in shown},
    }
    return Outcome(rows, record, _image_figure(train, query, rows_at, shown))


def shares(material: Material) -> Outcome:
    """Run figure 7: how many queries are dominated by clean examples, with 40 % of labels flipped."""
    train, query = material.pair(5000, 1000)
    planted = flip_labels(train, FLIPPED, generator=material.generator(7))
    fitted = _flow(material, planted.examples)
    times = np.geomspace(1e-5, 1e3, 16 if material.quick else 60).tolist()
    flipped = np.zeros(len(train), dtype=bool)
    flipped[planted.rows] = True
    clean, helped = (1 - flipped[rows].mean(1) for rows in dominant(fitted, query, times))
    accuracy = np.array([_accuracy(fitted, query, time) for time in times])
    low = int(clean.argmin())
    stop = int(accuracy.argmax())
    falls = float(clean[: low + 1].max() - clean[low])
    recovers = float(clean[low:].max() - clean[low])
    # Two standard errors of the difference of two shares, as if queries were independent.
    noise = 2 * np.sqrt(0.5 / len(query))
    rows = (
        Row(
            "queries dominated by clean examples, at first",
            "most",
            f"{clean[0]:.1%} at t = {times[0]:.2g}",
            bool(clean[0] > 0.5),
        ),
        Row(
            "then",
            "noise dominates more and more",
            f"falls by {falls:.1%} to {clean[low]:.1%} at t = {times[low]:.2g}",
            bool(falls > noise),
        ),
        Row(
            "in the end",
            "influence of noise falls again",
            f"rises by {recovers:.1%} to {clean[low:].max():.1%}",
            bool(recovers > noise),
        ),
        Row(
            "early stopping",
            "stop before the noise is learned",
            f"best accuracy {accuracy[stop]:.1%} at t = {times[stop]:.2g}; at the end {accuracy[-1]:.1%}",
            bool(accuracy[stop] - accuracy[-1] > noise),
        ),
        Row(
            "the other reading: the most helpful example is clean",
            "not what is drawn",
            f"{helped.min():.1%} to {helped.max():.1%} of queries",
        ),
    )
    record = {
        "examples": len(train),
        "queries": len(query),
        "flipped": FLIPPED,
        "times": times,
        "clean_share": clean.tolist(),
        "clean_share_of_most_helpful": helped.tolist(),
        "query_accuracy": accuracy.tolist(),
    }
    note = (
        "Most influential: the largest |influence|. The largest influence, the most helpful example, "
        "is another reading, and does not give the paper's curve."
    )
    return Outcome(rows, record, _share_figure(times, clean, accuracy, stop), (note,))


def _flow(material: Material, train: lo.Examples) -> lo.Fitted:
    return material.fit_kernel(train, lo.GradientFlow())


def _accuracy(fitted: lo.Fitted, query: lo.Examples, time: float) -> float:
    accuracy = query.accuracy(fitted.predict(query, time).cpu())
    assert accuracy is not None, "exhibits have classes"
    return accuracy


def _image_figure(train: lo.Examples, query: lo.Examples, rows_at: np.ndarray, shown: np.ndarray) -> Figure:
    assert train.images is not None
    assert query.images is not None
    figure, grid = panels(1 + len(MOMENTS), len(shown), width=1.0, height=1.0)
    for place, (line, i) in enumerate(zip(grid, shown, strict=True)):
        show_image(line[0], query.images[i], "query" if place == 0 else "")
        for axes, time, j in zip(line[1:], MOMENTS, rows_at[:, i], strict=True):
            show_image(axes, train.images[j], f"t = {time:g}" if place == 0 else "")
    return figure


def _share_figure(times: list[float], clean: np.ndarray, accuracy: np.ndarray, stop: int) -> Figure:
    figure, grid = panels(1, width=5.8, height=3.8)
    axes = grid[0, 0]
    axes.plot(times, clean, color=BLUE, label="most influential example is clean")
    axes.plot(times, 1 - clean, color=RED, label="most influential example is flipped")
    axes.plot(times, accuracy, "--", color=GREEN, label="accuracy on queries")
    axes.axvline(times[stop], color=FAINT, lw=1, ls=":")
    axes.annotate(" best accuracy", (times[stop], 0.02), color=FAINT, fontsize=8, va="bottom")
    axes.set_xscale("log")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("training time t (1/eigenvalue of K)")
    axes.set_ylabel("share of queries")
    axes.set_title(f"Which examples dominate the queries ({FLIPPED:.0%} of labels flipped)")
    axes.legend(fontsize=8, loc="best")
    return figure
