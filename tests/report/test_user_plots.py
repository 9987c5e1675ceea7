"""Plots in a notebook: bars are the numbers, and axes say sign and unit."""

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr

import leftout as lo
from leftout.core.errors import DataError, OptionError
from leftout.report.audit_plots import AuditPlots
from leftout.report.axes import DOUBTED, HARMFUL, HELPFUL, PLAIN
from problems.runs import curve_audits

mpl.use("Agg")

from matplotlib import colors, pyplot


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def audit():
    return lo.audit("digits", n_train=80, n_query=20)


def bars(ax):
    """Return names and lengths of the bars, from above, and their colours."""
    ax.figure.draw_without_rendering()  # a warning of the layout is an error here
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert len(names) == len(ax.patches)
    lengths = [patch.get_width() for patch in ax.patches]
    assert sorted(ax.get_ylim(), reverse=True) == list(ax.get_ylim()), "the first is above"
    return names, lengths, [colors.to_hex(patch.get_facecolor()) for patch in ax.patches]


def array(n, queries=None):
    draw = np.random.default_rng(n)
    attrs = {"units": "loss units", "sign": "loss without minus loss with: positive = the example helped"}
    names = {"train": [f"row {row}" for row in range(n)]}
    if queries is None:
        return xr.DataArray(draw.standard_t(3, n), dims="train", coords=names, attrs=attrs)
    coords = {"query": [f"q{row}" for row in range(queries)], **names}
    return xr.DataArray(draw.standard_t(3, (queries, n)), dims=("query", "train"), coords=coords, attrs=attrs)


@pytest.mark.parametrize("n", [1, 3, 20, 21, 3000])
def test_bars_are_the_scores_sorted_with_the_ends_of_many(n) -> None:
    scores = array(n)
    names, lengths, hues = bars(lo.plot(scores))
    order = np.argsort(-scores.values, kind="stable")
    wanted = [*order] if n <= 20 else [*order[:10], None, *order[-10:]]
    assert names == [f"… {n - 20:,} between" if row is None else f"row {row}" for row in wanted]
    assert lengths == [0.0 if row is None else scores.values[row] for row in wanted]
    signs = zip(hues, lengths, strict=True)
    assert all(hue == (HELPFUL if length >= 0 else HARMFUL) for hue, length in signs if length)


def test_many_queries_are_their_mean_and_times_the_last() -> None:
    scores = array(6, queries=4)
    mean = scores.values.mean(0)
    assert np.allclose(bars(lo.plot(scores))[1], sorted(mean, reverse=True), rtol=1e-14)
    ax = lo.plot(xr.concat([scores * 0, scores], dim=xr.IndexVariable("at", [1.0, 5.0])))
    assert np.allclose(bars(ax)[1], sorted(mean, reverse=True), rtol=1e-14)
    assert ax.get_title(loc="left") == "Mean influence over 4 queries at time 5"
    one = lo.plot(scores.isel(query=2))
    assert bars(one)[1] == sorted(scores.values[2], reverse=True)
    assert one.get_title(loc="left") == "Influence on q2"


def test_sign_and_unit_are_those_of_the_scores(audit) -> None:
    ax = lo.plot(audit.findings.scores)
    attrs = audit.findings.scores.attrs
    assert ax.get_xlabel().split("\n") == [f"influence ({attrs['units']})", *attrs["sign"].split(": ")]
    groups = lo.plot(lo.leave_out(audit.fitted, audit.findings.query, [[0, 1], [2]]))
    assert sorted(bars(groups)[0]) == ["0", "1"]
    bare = lo.plot(array(3).drop_attrs())
    assert "neither sign nor unit" in bare.get_xlabel()


def test_axes_that_are_given_are_drawn_on(audit) -> None:
    figure, places = pyplot.subplots(2, 2)
    drawn = [
        audit.plot.suspects(ax=places[0, 0]),
        audit.plot.margins(ax=places[0, 1]),
        audit.plot.removal(ax=places[1, 0]),
        audit.plot.influence(ax=places[1, 1]),
    ]
    assert drawn == places.flatten().tolist()
    assert pyplot.get_fignums() == [figure.number]


def test_suspects_are_the_first_rows_of_the_table(audit) -> None:
    table = audit.suspects.head(12)
    names, lengths, hues = bars(audit.plot.suspects(top=12))
    assert lengths == table["margin"].tolist()
    assert hues == [DOUBTED if issue else PLAIN for issue in table["is_label_issue"]]
    for name, entry in zip(names, table.itertuples(), strict=True):
        changed = entry.given != entry.suggested
        assert name == f"{entry.id}: {entry.given}" + (f" → {entry.suggested}" if changed else "")
    assert "target units" in audit.plot.suspects().get_xlabel()


def test_margins_are_counted_once_and_those_doubted_apart(audit) -> None:
    ax = audit.plot.margins()
    issues, rest = ax.containers
    counts = [sum(bar.get_height() for bar in part) for part in (issues, rest)]
    doubted = int(audit.suspects["is_label_issue"].sum())
    assert counts == [doubted, 80 - doubted]
    edges = [bar.get_x() for bar in rest]
    assert min(abs(edge) for edge in edges) < 1e-12, "zero is an edge"


@pytest.mark.parametrize("stop", [0, 8])
def test_removal_is_the_curve_and_its_stop(audit, stop) -> None:
    removal = replace(audit.findings.redundant, stop=stop)
    ax = AuditPlots(replace(audit.findings, redundant=removal)).removal()
    ax.figure.draw_without_rendering()
    assert np.allclose(ax.lines[0].get_xdata(), 100 * np.array(removal.shares))
    assert ax.lines[0].get_ydata().tolist() == list(removal.loss)
    if stop:
        assert ax.lines[2].get_xdata() == pytest.approx([10.0, 10.0])
        assert ax.get_title(loc="left") == "8 of 80 examples could go (10 %), up to the dashed line"
    else:
        assert len(ax.lines) == 2
        assert ax.get_title(loc="left") == "Nothing can be removed without loss"
    assert ax.get_xlabel() == "share of training examples removed together (%)"
    assert audit.findings.scores.attrs["units"] in ax.get_ylabel()


@pytest.mark.usefixtures("as_users_run_it")
def test_a_query_is_named_by_its_id_or_its_number(audit) -> None:
    query = audit.findings.query.ids[3]
    assert bars(audit.plot.influence(query))[1] == bars(audit.plot.influence(3))[1]
    assert audit.plot.influence(query).get_title(loc="left").startswith(f"Influence on {query}: 20 of 80")
    for wrong in ("nobody", -1, 20, 1.5, True):
        with pytest.raises(OptionError, match="`query` must be the id of a query, such as 'digits/"):
            audit.plot.influence(wrong)


def test_refused_numbers_and_few_examples_are_drawn_too() -> None:
    draw = np.random.default_rng(2)
    inputs = draw.standard_normal((60, 4))
    for targets in (draw.integers(0, 2, 60), inputs.sum(1) + 0.1 * draw.standard_normal(60)):
        audit = lo.audit(inputs, targets)
        for ax in (audit.plot.suspects(), audit.plot.margins(), audit.plot.removal(), audit.plot.influence()):
            ax.figure.draw_without_rendering()
        refused = "No label is doubted" in audit.plot.suspects().get_title(loc="left")
        assert refused == bool(audit.findings.refusal)
    pair = (inputs[:3], [0, 1, 0])
    few = lo.audit(lo.kernels.ReLU(1), pair, pair)
    assert len(bars(few.plot.suspects())[0]) == len(bars(few.plot.influence())[0]) == 3
    few.plot.margins().figure.draw_without_rendering()
    few.plot.removal().figure.draw_without_rendering()


def test_names_are_no_formulas_and_nothing_invisible(audit) -> None:
    findings = audit.findings
    ids = ("$x^{", "\u202eevil\n", "a" * 500, *findings.train.ids[3:])
    encoding = replace(findings.train.encoding, classes=("$\\frac{", *"123456789"))
    train = replace(findings.train, ids=ids, encoding=encoding)
    hostile = lo.audit(lo.kernels.ReLU(2), train, replace(findings.query, encoding=encoding))
    shown = "".join(bars(hostile.plot.suspects(top=80))[0] + bars(hostile.plot.influence(top=40))[0])
    assert "$x^{" in shown
    assert "$\\frac{" in shown
    assert not {"\u202e", "\n"} & set(shown)
    assert "a" * 61 not in shown


def test_an_audit_over_time_is_drawn_at_its_last_time() -> None:
    flow = curve_audits()["flow"]
    assert " at time 3" in flow.plot.influence().get_title(loc="left")


REFUSED = {
    "a list": ([1.0], OptionError, "`scores` must be scores with their axes"),
    "no train": (xr.DataArray(np.zeros(3), dims="x"), OptionError, "must have the axis 'train' or 'group'"),
    "outputs": (
        xr.DataArray(np.zeros((2, 3)), dims=("train", "output")),
        OptionError,
        r"of one output; choose it: scores\.isel",
    ),
    "none": (xr.DataArray(np.zeros(0), dims="train"), OptionError, "at least one number"),
    "NaN": (xr.DataArray(np.array([1.0, np.nan]), dims="train"), DataError, "1 of 2 are not"),
}


@pytest.mark.parametrize(("scores", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_drawn_is_refused_in_a_sentence(scores, kind, message) -> None:
    with pytest.raises(kind, match=message):
        lo.plot(scores)
    assert pyplot.get_fignums() == [], "no empty figure is left"


@pytest.mark.usefixtures("as_users_run_it")
def test_axes_must_be_axes_and_top_a_count() -> None:
    with pytest.raises(OptionError, match="`ax` must be axes of matplotlib"):
        lo.plot(array(3), ax=3)
    with pytest.raises(OptionError, match="`top` must be a whole number"):
        lo.plot(array(3), top=0)
