"""The report as a file: its structure, its texts, its bytes and its size."""

import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from leftout.core.errors import DataError, ShapeError
from leftout.curation.loss_change import LossChange
from leftout.data.corrections import correct
from leftout.report import ranking, report
from leftout.report.decisions import decisions, more_data
from leftout.report.example_lists import review_data
from leftout.report.explorer import query_losses
from leftout.report.report import html, write_report
from problems import synthetic_findings as made

VOID = {"meta", "link", "input", "img", "br", "hr"}
SIGN = "positive = the example helped (loss without it minus loss with it)"
KINDS = {
    "ten classes, three times": lambda: made.digits_findings(120, 20),
    "two classes, once": lambda: made.digits_findings(90, 15, two=True, times=(np.inf,)),
    "colour": lambda: made.colour_findings(80, 10),
    "table": made.iris_findings,
    "regression": made.diabetes_findings,
    "two outputs, two times": lambda: made.diabetes_findings(outputs=2, times=(1.0, np.inf)),
    "kinds and sources": made.sources_findings,
    "hostile": made.hostile_findings,
    "bare": made.bare_findings,
}


class Page(HTMLParser):
    """Elements, attributes and text of a page; refuses what is not nested."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        assert len(attrs) == len(dict(attrs)), f"<{tag}> repeats an attribute"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> does not close what is open"

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.text.append(data)

    def named(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def words(self):
        return re.sub(r"[ \n\t]+", " ", " ".join(self.text))


@pytest.fixture(scope="module")
def pages():
    return {name: html(kind()) for name, kind in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_well_formed_and_its_ids_are_unique(pages, kind) -> None:
    page = Page(pages[kind])
    assert page.open == []
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in page.elements:
        for name in ("aria-labelledby", "for"):
            assert set(attrs.get(name, "").split()) <= set(ids)


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_loads_nothing_from_anywhere(pages, kind) -> None:
    page = Page(pages[kind])
    (policy,) = [m["content"] for m in page.named("meta") if "http-equiv" in m]
    assert policy.startswith("default-src 'none'; img-src data:;")
    for _, attrs in page.elements:
        assert "src" not in attrs
        assert "srcset" not in attrs
        assert not [name for name in attrs if name.startswith("on")]
        href = attrs.get("href", "#")
        assert href.startswith("#") or href == "data:,"
        assert attrs.get("type", "") != "module"
    style = pages[kind].split("<style>")[1].split("</style>")[0]
    assert "@import" not in style
    assert all(url.startswith(("#", '"data:image/')) for url in re.findall(r"url\(([^)]*)", style))


@pytest.mark.parametrize("kind", KINDS)
def test_every_picture_and_plot_has_words(pages, kind) -> None:
    page = Page(pages[kind])
    for tag, attrs in page.elements:
        if attrs.get("role") == "img" or tag in ("svg", "img"):
            words = attrs.get("aria-label") or attrs.get("aria-labelledby") or attrs.get("alt")
            assert words or attrs.get("aria-hidden") == "true"
    thumbs = [a for a in page.named("span") if "thumb" in a.get("class", "")]
    assert all(thumb["aria-label"].startswith("training example ") for thumb in thumbs)
    pictured = ("ten classes, three times", "two classes, once", "colour", "kinds and sources")
    assert bool(thumbs) == (kind in pictured)


@pytest.mark.parametrize("kind", KINDS)
def test_every_plot_says_the_sign_rule(pages, kind) -> None:
    figures = re.findall(r"<figure>.*?</figure>", pages[kind], re.DOTALL)
    assert len(figures) >= 2
    for figure in figures:
        assert SIGN in figure
        assert figure.count("<svg") == 1
    assert f"{SIGN}, in loss units" in Page(pages[kind]).words  # the explorer's bars


@pytest.mark.parametrize("kind", KINDS)
def test_every_control_has_a_name(pages, kind) -> None:
    page = Page(pages[kind])
    labelled = {attrs.get("for") for attrs in page.named("label")}
    inside = re.findall(r"<label[^>]*>[^<]*<(?:input|select)[^>]*id=\"([\w-]+)\"", pages[kind])
    for tag in ("input", "select"):
        for attrs in page.named(tag):
            assert attrs["id"] in labelled | set(inside)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_findings_give_the_same_bytes(pages, kind) -> None:
    assert html(KINDS[kind]()) == pages[kind]


def test_page_one_is_three_decisions_with_their_numbers_and_how_far_to_trust_them(pages) -> None:
    found = KINDS["ten classes, three times"]()
    source = pages["ten classes, three times"]
    top = Page(source.split("<main>")[1].split("</header>")[0]).words
    now, removal = found.at_last_time, found.redundant
    assert f"Check {len(found.suspects)} labels of 120." in top
    first = found.suspects[0]
    assert f"First {found.train.ids[first.row]}: given {first.given}, suggested {first.suggested}." in top
    assert "1\u00a0group of identical examples has more than one label." in top
    assert f"{removal.stop}\u00a0example" in top
    assert "of 120 could go." in top
    assert f"More examples like these {len(found.rare)} would help." in top
    right = f"right on {100 * now.left_out_accuracy:.1f}\u202f% of the examples left out (95 % interval "
    assert right in top
    largest = np.bincount(found.train.labels.numpy()).max() / 120
    assert f"the largest class is {100 * largest:.1f}\u202f%)" in top
    assert "its answers changed as computed but for 6.0\u00a0×\u00a010⁻¹² of the largest change." in top
    assert source.count('class="decision"') == 3
    words = Page(source).words
    assert f"Right on queries {100 * now.query_accuracy:.1f}\u202f%" in words
    assert "They agree to about 11\u00a0digits." in words
    for name, value in (("kernel", "TwoLayerReLU()"), ("loss", "sum"), ("date", "2026-03-02")):
        assert f"{name} {value}" in words
    assert "Losses are added up: removing an example changes nothing for the others." in words


@pytest.mark.parametrize("kind", KINDS)
def test_where_ids_are_too_long_for_a_page_it_says_who_has_them(monkeypatch, kind) -> None:
    found = KINDS[kind]()
    said = "keep.txt is in the folder of the run, which --out (lo.audit(…, out=FOLDER)) makes."
    removal = decisions(found)["decisions"][1]
    assert said not in removal["note"]
    monkeypatch.setattr("leftout.report.decisions.FILE_BYTES", 1)
    removal = decisions(found)["decisions"][1]
    assert removal["file"] == ""
    assert removal["note"].endswith(said) == (found.redundant.stop > 0)


@pytest.mark.parametrize("kind", KINDS)
def test_what_page_one_leads_to_is_there(pages, kind) -> None:
    source, found = pages[kind], KINDS[kind]()
    page = Page(source)
    ids = {attrs["id"] for _, attrs in page.elements if "id" in attrs}
    assert {attrs["href"][1:] for attrs in page.named("a")} <= ids
    data = json.loads(source.split('id="page-data">')[1].split("</script>")[0])
    offered = {attrs["data-file"] for attrs in page.named("button") if "data-file" in attrs}
    assert offered == set(data["files"]) | ({"reviewed.csv"} if found.suspects else set())
    assert ("keep.txt" in offered) == (found.redundant.stop > 0)
    if "keep.txt" in offered:
        gone = set(found.redundant.order[: found.redundant.stop])
        kept = [name for row, name in enumerate(found.train.ids) if row not in gone]
        assert len(data["files"]["keep.txt"].splitlines()) == len(kept)
        if kind != "hostile":
            assert data["files"]["keep.txt"].splitlines() == kept
    if "more-like-these.csv" in offered:
        rows = list(csv.DictReader(data["files"]["more-like-these.csv"].splitlines()))
        assert len(rows) == len(found.rare)
    assert [item["id"] for item in data["review"]["items"]] == [
        found.train.ids[s.row] for s in found.suspects
    ]


def test_where_the_model_knows_nothing_page_one_says_so_first_and_accuses_nothing() -> None:
    found = KINDS["table"]()
    reason = "The model knows nothing of these labels."
    silent = replace(found, refusal=reason, suspects=(), redundant=replace(found.redundant, stop=0))
    top = Page(html(silent).split("<main>")[1].split("</header>")[0]).words
    for later in ("No label is accused.", "Nothing is called removable."):
        assert top.index(reason) < top.index(later)
    assert top.count(reason) == 1


def test_a_class_keeps_its_hyphens_and_numbers_have_a_minus() -> None:
    change = LossChange("", 9, 1.0, -0.02, -0.03, -0.01, 0.01)
    found = KINDS["table"]()
    of_three, of_five = (change, replace(change, of="non-toxic")), (replace(change, change=9.0),)
    removal = replace(found.redundant, counts=(0, 3, 5), stop=3, changes=(of_three, of_five))
    sentence = decisions(replace(found, redundant=removal))["decisions"][1]["note"]
    rise = "−2.00% (−3.00% to −1.00%)"
    assert sentence == f"Mean query loss without them: {rise}, of class non-toxic {rise}."


@pytest.mark.parametrize(("low", "unsure"), [(0.5, ", which holds no change at all"), (0.65, "")])
def test_page_one_says_what_twice_the_examples_bring_and_whether_that_is_sure(low, unsure) -> None:
    found = KINDS["table"]()
    curve = SimpleNamespace(
        examples=100,
        n=(100, 200, 300),
        accuracy=(0.6, 0.7, 0.9),
        accuracy_low=(0.5, low, 0.8),
        accuracy_high=(0.7, 0.8, 0.95),
        measured=(SimpleNamespace(accuracy=0.3), SimpleNamespace(accuracy=0.6)),
    )
    sentence = more_data(replace(found, learning_curve=curve)).replace("\u202f", " ").replace("\u00a0", " ")
    assert sentence == (
        "With 200 examples instead of 100 the model would be right on 70.0 % instead of 60.0 % "
        f"(95 % interval {100 * low:.1f} % to 80.0 %{unsure})."
    )
    assert more_data(replace(found, learning_curve=SimpleNamespace(examples=100, n=(50, 100)))) == ""


def test_the_reading_of_the_loss_is_explained_when_it_is_a_mean() -> None:
    found = replace(KINDS["table"](), settings={"loss": "mean"})
    assert "Losses are averaged: removing an example also changes" in Page(html(found)).words


def test_regression_shows_errors_numbers_and_no_class_filter(pages) -> None:
    found = KINDS["regression"]()
    words = Page(pages["regression"]).words
    rmse = (2 * found.at_times[0].query_loss) ** 0.5
    assert f"Error on queries {rmse:#.3g}".rstrip(".") in words
    assert "The targets are numbers, so there are no classes to filter by." in words
    assert "left-out residual: target minus prediction (target units)" in words
    assert 'id="train-class"' not in pages["regression"]
    assert "neighbours that agree" not in words
    first = found.suspects[0]
    assert f"given {first.given} → suggested {first.suggested}" in words
    cell = found.columns.cells(first.row, [near.row for near in first.opposing])[0]
    assert f"{cell.name} {cell.text} (neighbours {cell.neighbours})" in words


def test_the_error_of_a_regression_stands_beside_that_of_the_mean(pages) -> None:
    found = KINDS["regression"]()
    top = Page(pages["regression"].split("<main>")[1].split("</header>")[0]).words
    y = found.train.targets.numpy()[:, 0]
    without = [y[row] - np.delete(y, row).mean() for row in range(len(y))]
    assert f", and {np.sqrt(np.mean(np.square(without))):.1f} of their mean;" in top


def test_what_is_missing_is_a_sentence(pages) -> None:
    words = Page(pages["bare"]).words
    for sentence in (
        "No label is in doubt.",
        "No removal was tried. Too few examples.",
        "No example was found to be under-sampled.",
        "No outlier was found.",
        "No two training examples have identical inputs.",
        "No settings were recorded with this audit.",
        "No example was really left out to compare with.",
        "no example was really left out to compare with.",
    ):
        assert sentence in words


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_took_time_has_a_panel_on_when_it_learned(pages, kind) -> None:
    page = Page(pages[kind])
    found = KINDS[kind]()
    sections = [a.get("id") for a in page.named("section")]
    there = found.learned is not None
    assert there == (kind != "bare")
    assert ("learned" in sections) == there
    assert ("When was it learned?" in page.words) == there
    if there:
        words = page.words.replace("t\u00a0=\u00a0", "t = ")
        assert found.learned.stop.reason in words
        assert ("Who leads, over time" in words) == (len(found.at_times) > 1)
        assert sum('id="plot-learned-' in line for line in pages[kind].splitlines()) == 4


def test_steps_of_descent_are_called_steps() -> None:
    found = KINDS["table"]()
    scores = found.scores.assign_attrs(rule="GradientDescent(rate=0.1)")
    words = Page(html(replace(found, scores=scores))).words
    assert "At the end," in words
    assert "stop: step\u00a0" in words
    assert "training step, on a logarithmic scale" in words


def test_suspects_beyond_the_first_have_their_reason_alone() -> None:
    found = made.digits_findings(120, 10, times=(np.inf,))
    many = tuple(replace(found.suspects[0], row=row, reason=f"reason {row}") for row in range(75))
    source = html(replace(found, suspects=many))
    page = Page(source)
    assert sum("suspect" in li.get("class", "") for li in page.named("li")) == 75
    assert source.count('aria-label="Left-out scores"') == 60
    assert "reason 74" in page.words


@pytest.mark.parametrize("text", made.HOSTILE[:5])
def test_a_hostile_name_is_text(pages, text) -> None:
    source = pages["hostile"]
    assert text in Page(source).words
    plain_scripts = [attrs for attrs in Page(source).named("script")]
    assert plain_scripts == [
        *({"type": "application/json", "id": f"{name}-data"} for name in ("explorer", "page")),
        {},
    ]
    assert "onerror" not in [name for _, attrs in Page(source).elements for name in attrs]


def test_data_in_the_script_cannot_close_it(pages) -> None:
    source = pages["hostile"]
    data, more = (
        source.split(f'id="{name}-data">')[1].split("</script>")[0] for name in ("explorer", "page")
    )
    assert not set(data + more) & set("<>&\u2028\u2029")
    ids = json.loads(data)["train"]["ids"]
    assert ids[0].startswith("<script>alert(1)</script> ")
    assert any("abc\\u202egnp.exe \\u0000\\u001b[31m \\ud800" in name for name in ids)


def test_a_report_appears_whole_under_its_name(tmp_path) -> None:
    found = KINDS["table"]()
    path = write_report(found, tmp_path / "report.html")
    assert path == tmp_path / "report.html"
    assert path.read_bytes() == html(found).encode()
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_failure_leaves_the_old_report(tmp_path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    found = KINDS["table"]()
    broken = replace(found, scores=found.scores[:, :3])
    with pytest.raises(ShapeError, match=r"`scores` must have dims \('at', 'query', 'train'\)"):
        write_report(broken, path)
    assert path.read_text() == "old"


def test_scores_that_are_not_finite_are_refused() -> None:
    found = KINDS["table"]()
    scores = found.scores.copy(deep=True)
    scores[1, 7, 3] = np.nan
    with pytest.raises(DataError, match="`scores` must be finite; row 7 holds NaN"):
        html(replace(found, scores=scores))


def test_scores_are_read_in_blocks_and_blocks_change_nothing(pages, monkeypatch) -> None:
    found = KINDS["ten classes, three times"]()
    seen: list[int] = []

    class Recorded(xr.backends.BackendArray):
        shape, dtype = found.scores.shape, found.scores.dtype

        def __getitem__(self, key):
            support = xr.core.indexing.IndexingSupport.BASIC
            return xr.core.indexing.explicit_indexing_adapter(key, self.shape, support, self.read)

        def read(self, key):
            block = found.scores.values[key]
            seen.append(block.size)
            return block

    lazy = xr.Variable(found.scores.dims, xr.core.indexing.LazilyIndexedArray(Recorded()))
    monkeypatch.setattr(ranking, "BLOCK_BYTES", 7 * 8 * 120)
    page = html(replace(found, scores=xr.DataArray(lazy, attrs=found.scores.attrs)))
    assert max(seen) == 7 * 120
    assert sum(seen) == found.scores.size  # each score once
    # Sums over blocks of other sizes may differ in the last bit, which no digit shown can see.
    assert page == pages["ten classes, three times"]


def test_a_thousand_queries_at_five_times_stay_under_ten_megabytes() -> None:
    found = made.random_findings(5000, 1000, 5, (28, 28))
    page = html(found)
    assert len(page.encode()) <= report.LIMIT == 10_000_000
    words = Page(page).words
    assert "so that this file stays under 10 MB" in words
    length = json.loads(page.split('id="explorer-data">')[1].split("</script>")[0])["lists"]["length"]
    assert 2 <= length < ranking.LENGTH
    assert f"Each list shows at most the {length} strongest of 5\u202f000\u00a0training" in words


def test_colour_pictures_stay_under_ten_megabytes() -> None:
    found = made.random_findings(2000, 400, 2, (32, 32, 3))
    page = html(found)
    assert len(page.encode()) <= report.LIMIT
    assert "data:image/jpeg;base64," in page


def test_where_nothing_else_helps_the_worst_queries_stay(monkeypatch) -> None:
    found = made.random_findings(64, 300, 1, (28, 28))
    monkeypatch.setattr(report, "LIMIT", 300_000)
    page = html(found)
    assert len(page.encode()) <= 300_000
    data = json.loads(page.split('id="explorer-data">')[1].split("</script>")[0])
    kept = len(data["query"]["ids"])
    assert kept < 300
    assert f"{kept}\u00a0queries of 300 can be picked: those with the largest loss." in Page(page).words
    losses = query_losses(found)[0]
    worst = {found.query.ids[q] for q in np.argsort(-losses)[:kept]}
    assert set(data["query"]["ids"]) == worst


def test_a_reviewed_number_that_nobody_changed_is_read_back_as_it_was() -> None:
    found = made.diabetes_findings()
    exact = found.train.targets * 1.2345678 + 1e5  # more digits than a page shows
    train = replace(found.train, targets=exact, coded_from="")
    found = replace(found, train=train)
    assert found.suspects
    items = review_data(found)["items"]
    unchanged = {item["id"]: item["given"] for item in items}
    corrected, _ = correct((train, found.query), unchanged, "reviewed.csv")
    assert corrected.preparation["corrected"]["changed"] == 0
    assert bool((corrected.targets == train.targets).all())
