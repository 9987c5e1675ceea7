"""What an audit found, as plots for a notebook: `audit.plot.suspects()` and its like."""

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from leftout.core.checks import check_count, is_whole, shown
from leftout.core.errors import OptionError
from leftout.core.wording import plain, target_number
from leftout.report.axes import (
    DOUBTED,
    GUIDE,
    HELPFUL,
    PLAIN,
    Bar,
    axes_for,
    bars_height,
    draw_bars,
    label_axes,
)
from leftout.report.distributions import margins_of
from leftout.report.findings import Findings
from leftout.report.plots import BINS
from leftout.report.score_plot import plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, repr=False)
class AuditPlots:
    """The plots of an audit; each is drawn on `ax`, or on a new figure, and returns its axes.

    Example:
        >>> import leftout as lo
        >>> audit = lo.audit("digits", n_train=80, n_query=20)
        >>> audit.plot.removal().get_xlabel()
        'share of training examples removed together (%)'
        >>> audit.plot.suspects(top=3).get_title(loc="left")[:19]
        'Most doubtful label'
    """

    findings: Findings

    def __repr__(self) -> str:
        return "audit.plot: suspects(), removal(), margins(), influence(query=None)"

    def suspects(self, *, top: int = 15, ax: "Axes | None" = None) -> "Axes":
        """Return axes with the left-out margins of the labels to look at first, the doubted ones in red.

        Raises:
            OptionError: no label was asked about.
        """
        check_count("top", top)
        findings, train = self.findings, self.findings.train
        self._check_labels()
        doubted = {suspect.row: suspect for suspect in findings.suspects}
        others = (row for row in findings.margins.argsort(stable=True).tolist() if row not in doubted)
        rows = [*doubted, *islice(others, top)][:top]
        colours = [DOUBTED if row in doubted else PLAIN for row in rows]
        margins = [float(findings.margins[row]) for row in rows]
        bars = [
            Bar(self._label(row), margin, colour)
            for row, margin, colour in zip(rows, margins, colours, strict=True)
        ]
        ax = axes_for(ax, height=bars_height(len(bars)))
        draw_bars(ax, bars)
        title = f"Most doubtful labels: {len(doubted):,} of {len(train):,} doubted, in red"
        if findings.refusal:
            title = "No label is doubted: the model knows nothing of them"
        if train.labels is None:
            across = [
                "how far inside 3.5 robust deviations (target units)",
                "negative = further off than that",
            ]
        else:
            across = [margins_of(findings)[1], "negative = the model without it prefers another class"]
        label_axes(ax, title, across)
        return ax

    def removal(self, *, ax: "Axes | None" = None) -> "Axes":
        """Return axes with the exact mean loss on the queries, without more and more of the examples."""
        removal, n = self.findings.redundant, len(self.findings.train)
        ax = axes_for(ax)
        ax.plot([100 * share for share in removal.shares], removal.loss, "o-", color=HELPFUL, markersize=5)
        ax.axhline(removal.loss[0], color=PLAIN, linewidth=0.8)
        title = "Nothing can be removed without loss"
        if removal.stop:
            share = 100 * removal.stop / n
            ax.axvline(share, color=GUIDE, linestyle="--", linewidth=1)
            title = f"{removal.stop:,} of {n:,} examples could go ({share:.0f} %), up to the dashed line"
        units = self.findings.scores.attrs["units"]
        label_axes(
            ax,
            title,
            ["share of training examples removed together (%)"],
            f"mean loss on the queries\n({units})",
        )
        return ax

    def margins(self, *, ax: "Axes | None" = None) -> "Axes":
        """Return axes with a histogram of left-out margins, or for numbers of residuals; doubted ones in red.

        Raises:
            OptionError: no label was asked about.
        """
        self._check_labels()
        margins, across = margins_of(self.findings)
        doubted = np.zeros(len(margins), dtype=bool)
        doubted[[suspect.row for suspect in self.findings.suspects]] = True
        # Zero is an edge: no bar holds both an agreement and a doubt.
        low, high = min(0.0, float(margins.min())), max(0.0, float(margins.max()))
        width = (high - low) / min(BINS, max(4, len(margins) // 4)) or 1.0
        edges = width * np.arange(np.floor(low / width), max(np.ceil(high / width), 1) + 1)
        edges[0], edges[-1] = min(low, edges[0]), max(high, edges[-1])
        ax = axes_for(ax)
        parts = {"doubted": (margins[doubted], DOUBTED), "not doubted": (margins[~doubted], PLAIN)}
        parts = {name: part for name, part in parts.items() if len(part[0])}
        counted, colours = zip(*parts.values(), strict=True)
        ax.hist(counted, bins=edges.tolist(), stacked=True, color=colours, label=list(parts))
        ax.axvline(0, color=GUIDE, linewidth=0.8)
        ax.locator_params(axis="y", integer=True)
        ax.legend(frameon=False)
        signs = [] if self.findings.train.labels is None else ["positive = the model without it agrees"]
        label_axes(ax, f"{len(margins):,} training examples", [across, *signs], "training examples")
        return ax

    def influence(self, query: str | int | None = None, *, top: int = 10, ax: "Axes | None" = None) -> "Axes":
        """Return axes with the examples that helped and harmed a query most; None takes the mean over all.

        Args:
            query: its id, or its number among the queries, from 0.

        Raises:
            OptionError: no such query.
        """
        scores = self.findings.scores.isel(at=-1)
        if query is None:
            return plot(scores, top=top, ax=ax)
        ids = self.findings.query.ids
        place = ids.index(query) if query in ids else query
        if not is_whole(place) or not 0 <= int(place) < len(ids):
            raise OptionError(
                f"`query` must be the id of a query, such as {shown(ids[0])}, or its number, from 0 to "
                f"{len(ids) - 1}; got {shown(query)}."
            )
        return plot(scores.isel(query=int(place)), top=top, ax=ax)

    def _check_labels(self) -> None:
        if not self.findings.doubts_labels:
            raise OptionError(f"There are no margins to draw. {self.findings.label_note}")

    def _label(self, row: int) -> str:
        """Return the name of an example, its label, and the suggestion where it is another."""
        said, name = self.findings.label_scores, plain(self.findings.train.ids[row], 20)
        if said is None:
            return name
        digits = self.findings.train.target_digits
        given, suggested = _text(said.given[row], digits), _text(said.suggested[row], digits)
        return f"{name}: {given}" if given == suggested else f"{name}: {given} → {suggested}"


def _text(label: object, digits: int) -> str:
    """Return a class or a number as it stands beside a bar."""
    return target_number(label, digits) if isinstance(label, float) else plain(label, 14)
