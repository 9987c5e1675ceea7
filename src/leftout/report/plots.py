"""The plots of a report that are no panel's: removal, training times, and the two histograms."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float64
from markupsafe import Markup

from leftout.core.wording import percent, value_text, whole_number
from leftout.curation.prune import Pruned
from leftout.curation.prune_check import PruneCheck
from leftout.report.drawing import (
    TOP,
    WIDTH,
    Frame,
    PlotAxis,
    curve,
    figure,
    guide,
    linear_axis,
    power_text,
    ticks,
    time_places,
)
from leftout.report.findings import ModelAtTime

BINS = 40
"""Most bars of a histogram; even, so that zero is an edge and no bar mixes the two signs."""

Stack = tuple[np.ndarray, Callable[[float], str]]
"""Heights of the bars of a histogram, and the class of a bar from its left edge."""


def removal_plots(removal: Pruned, n: int, retrained: PruneCheck | None = None) -> list[Markup]:
    """Return loss, and accuracy where there is one, against the share of examples removed.

    Args:
        retrained: the same of a network that was trained again, at some of the shares.
    """
    shares = removal.shares
    marks = tuple((mark, percent(mark, 0)) for mark in ticks(0.0, max(shares)))
    label = "share of training examples removed together"
    across = PlotAxis(-0.02 * max(shares), 1.04 * max(shares), label, marks)
    curves = [("loss", "mean loss on the queries (loss units)", removal.loss)]
    if removal.accuracy is not None:
        curves.append(("accuracy", "accuracy on the queries", removal.accuracy))
    plots = []
    for name, label, heights in curves:
        second = () if retrained is None else getattr(retrained, f"retrained_{name}")
        frame = Frame(across, linear_axis([*heights, *second], label, share=name == "accuracy"))
        drawn = [*_stop_marks(frame, removal.stop, n), *curve(frame, shares, heights, "a", "●")]
        if retrained is not None:
            drawn += curve(frame, retrained.shares, second, "b", "■")
        text = f"{label} after removing the most dispensable training examples, all refitted exactly."
        plots.append(figure(f"removal-{name}", f"Removal and {name}", text, frame, drawn))
    return plots


def training_plots(at_times: Sequence[ModelAtTime], unit: str) -> list[Markup]:
    """Return loss, and accuracy where there is one, over training time: queries and left out."""
    times = [model.at for model in at_times]
    places = time_places(times)
    every = max(1, math.ceil(len(places) / 8))
    named = tuple(
        (places[j], "end" if math.isinf(times[j]) else value_text(times[j]))
        for j in sorted({*range(0, len(places), every), len(places) - 1})
    )
    spread = max(places) - min(places)
    low, high = min(places) - 0.04 * spread, max(places) + 0.04 * spread
    across = PlotAxis(low, high, f"training {unit}, on a logarithmic scale", named)
    pairs = [("loss", "mean loss (loss units)", "query_loss", "left_out_loss")]
    if at_times[0].query_accuracy is not None:
        pairs.append(("accuracy", "accuracy", "query_accuracy", "left_out_accuracy"))
    plots = []
    for name, label, on_queries, left_out in pairs:
        first = [getattr(model, on_queries) for model in at_times]
        second = [getattr(model, left_out) for model in at_times]
        frame = Frame(across, linear_axis([*first, *second], label, share=name == "accuracy"))
        drawn = [
            guide(frame.x(places[-1])),
            *curve(frame, places, first, "a", "●"),
            *curve(frame, places, second, "b", "■"),
        ]
        text = f"{label} over training {unit}: on the queries, and on training examples left out."
        plots.append(figure(f"training-{name}", f"Training and {name}", text, frame, drawn))
    return plots


def influence_histogram(mean: Float64[np.ndarray, " n"]) -> Markup:
    """Return how the mean influence is spread; the scale is logarithmic on both sides of zero."""
    threshold = _threshold(mean)
    bent = np.sign(mean) * np.log10(1 + np.abs(mean) / threshold)
    reach = float(np.abs(bent).max()) * 1.02 or 1.0
    tops, edges = np.histogram(bent, bins=BINS, range=(-reach, reach))
    decades = math.log10(max(10**reach - 1, 1.0))  # of the largest value, above the threshold
    sizes = [threshold * 10.0**d for d in range(math.floor(decades) + 1)]
    # From the largest down, and none so near to zero that its name would run into the zero's.
    sizes = [s for s in sizes if math.log10(1 + s / threshold) > 0.15 * reach]
    sizes = sizes[:: -max(1, math.ceil(len(sizes) / 3))]
    marks = [(0.0, "0")]
    for size in sizes:
        place, text = math.log10(1 + size / threshold), power_text(size)
        marks += [(place, "+" + text), (-place, "−" + text)]
    label = "mean influence on the queries (loss units, log scale)"
    frame = Frame(PlotAxis(-reach, reach, label, tuple(sorted(marks))), _count_axis(tops))
    drawn = _bars(frame, edges, [(tops, lambda edge: "help" if edge >= -1e-12 else "harm")])
    text = "Histogram of the mean influence of each training example over all queries."
    return figure("influence", "Influence values", text, frame, drawn)


def margin_histogram(
    margins: Float64[np.ndarray, " n"], doubted: Bool[np.ndarray, " n"], label: str
) -> Markup:
    """Return how the left-out margins (or residuals) are spread, the doubted examples apart."""
    low, high = min(0.0, float(margins.min())), max(0.0, float(margins.max()))
    width = (high - low) / (BINS - 2) or 1.0
    # Whole bars on either side of zero: none holds both an agreement and a doubt.
    edges = width * np.arange(math.floor(low / width), math.ceil(high / width) + 1)
    edges = edges if len(edges) > 1 else np.array([-width, 0.0, width])
    edges[0], edges[-1] = min(low, edges[0]), max(high, edges[-1])  # rounding loses no example
    sure, _ = np.histogram(margins[~doubted], bins=edges)
    unsure, _ = np.histogram(margins[doubted], bins=edges)
    assert sure.sum() + unsure.sum() == len(margins)
    low, high = float(edges[0]), float(edges[-1])
    marks = tuple((mark, value_text(mark)) for mark in ticks(low, high))
    frame = Frame(PlotAxis(low, high, label, marks), _count_axis(sure + unsure))
    drawn = _bars(frame, edges, [(unsure, lambda _: "doubt"), (sure, lambda _: "plain")])
    text = "Histogram over the training examples; those whose label is doubted are hatched."
    return figure("margins", label, text, frame, drawn)


def _threshold(mean: np.ndarray) -> float:
    """Return where the scale turns linear: at most four decades below the largest value."""
    sizes = np.abs(mean[mean != 0])
    if len(sizes) == 0:
        return 1.0
    wished = max(float(np.quantile(sizes, 0.1)), float(sizes.max()) * 1e-4)
    return 10.0 ** math.floor(math.log10(wished))


def _count_axis(tops: np.ndarray) -> PlotAxis:
    high = max(int(tops.max()), 1) * 1.06
    marks = sorted({round(mark) for mark in ticks(0.0, high, 5)})
    return PlotAxis(0.0, high, "training examples", tuple((m, whole_number(m)) for m in marks))


def _stop_marks(frame: Frame, stop: int, n: int) -> list[str]:
    """Return the line at the suggested stop, and its share; nothing where none is suggested."""
    if stop == 0:
        return []
    place, anchor = frame.x(stop / n), "start"
    shift = 6
    if place > WIDTH - 160:
        anchor, shift = "end", -6
    return [
        guide(place),
        f'<text class="note" x="{place + shift}" y="{TOP + 10}" text-anchor="{anchor}">'
        f"suggested stop: {percent(stop / n)}</text>",
    ]


def _bars(frame: Frame, edges: np.ndarray, stacks: Sequence[Stack]) -> list[str]:
    """Return the bars of a histogram, those of each stack on top of the one before."""
    drawn = []
    for i in range(len(edges) - 1):
        start, end = frame.x(float(edges[i])), frame.x(float(edges[i + 1]))
        below = 0
        for heights, name in stacks:
            if heights[i]:
                bottom, top = frame.y(below), frame.y(below + int(heights[i]))
                drawn.append(
                    f'<rect class="bar {name(float(edges[i]))}" x="{start + 0.5:.2f}" y="{top:.2f}" '
                    f'width="{max(end - start - 1, 0.5):.2f}" height="{bottom - top:.2f}"/>'
                )
                below += int(heights[i])
    return drawn
