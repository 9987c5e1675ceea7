"""The report in a real browser: click, filter, slide, search, keyboard, print, dark."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leftout.data.corrections import correct, read_corrections
from leftout.report.report import write_report
from problems import synthetic_findings as made

pytestmark = pytest.mark.browser

CHROMIUM = next(
    (p for p in map(Path, ("/usr/bin/chromium", "/usr/bin/chromium-browser")) if p.exists()), None
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("reports")
    write_report(made.digits_findings(150, 60), place / "digits.html")
    write_report(made.hostile_findings(), place / "hostile.html")
    write_report(made.diabetes_findings(times=(1.0, np.inf)), place / "numbers.html")
    write_report(made.bare_findings(), place / "bare.html")
    return place


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium at /usr/bin/chromium: the report was not tried in a browser")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser, folder):
    """Open a report; whatever the console says, and every request but the file, is a failure."""
    opened = []

    def go(name, **options):
        page = browser.new_page(**options)
        trouble: list[str] = []
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
        allowed = ("file://", "data:", "blob:")
        page.on("request", lambda r: r.url.startswith(allowed) or trouble.append(r.url))
        page.goto((folder / f"{name}.html").as_uri())
        opened.append((page, trouble))
        return page

    yield go
    for page, trouble in opened:
        page.close()
        assert trouble == []


def chosen(page) -> str:
    return page.locator("#query-card h3").inner_text()


def helped(page) -> list[str]:
    return page.locator("#helped li").all_inner_texts()


def test_a_click_on_a_query_shows_its_own_examples(visit) -> None:
    page = visit("digits")
    before = helped(page)
    page.locator("#strip button").nth(5).click()
    assert chosen(page) == "digitsquery/00005"
    assert page.locator("#strip button").nth(5).get_attribute("aria-pressed") == "true"
    assert helped(page) != before
    assert len(helped(page)) == 12
    assert "loss" in page.locator("#status").inner_text()


def test_the_numbers_shown_are_the_scores(visit) -> None:
    found = made.digits_findings(150, 60)
    page = visit("digits")
    page.locator("#strip button").nth(7).click()
    scores = found.scores.values[2, 7]
    best, worst = int(scores.argmax()), int(scores.argmin())
    assert found.train.ids[best] in helped(page)[0]
    assert f"+{scores[best]:.3g}"[:6] in helped(page)[0]
    first = page.locator("#harmed li").first.inner_text()
    assert found.train.ids[worst] in first
    assert f"−{-scores[worst]:.2f}"[:5] in first


def test_the_pictures_shown_are_those_of_the_examples(visit) -> None:
    found = made.digits_findings(150, 60)
    page = visit("digits")
    page.locator("#strip button").nth(9).click()
    best = int(found.scores.values[2, 9].argmax())
    for place, picture in (
        (page.locator("#query-card .thumb"), found.query.images[9]),
        (page.locator("#helped .thumb").first, found.train.images[best]),
        (page.locator("#suspects .thumb").first, found.train.images[found.suspects[0].row]),
    ):
        shown = np.asarray(Image.open(io.BytesIO(place.screenshot())).convert("L")).astype(int)
        step = shown.shape[0] / 8
        middles = ((np.arange(8) + 0.5) * step).astype(int)
        assert np.abs(shown[np.ix_(middles, middles)] - picture).max() <= 1


def test_arrow_keys_walk_through_the_queries(visit) -> None:
    page = visit("digits")
    page.locator("#strip button").first.focus()
    for _ in range(41):  # over the end of the first page of 40
        page.keyboard.press("ArrowRight")
    assert chosen(page) == "digitsquery/00041"
    focused = page.evaluate("document.activeElement.dataset.query")
    assert focused == "41"
    page.keyboard.press("ArrowLeft")
    assert chosen(page) == "digitsquery/00040"
    page.keyboard.press("End")
    assert chosen(page) == "digitsquery/00059"
    assert page.locator("#next").is_disabled()
    page.keyboard.press("Home")
    assert chosen(page) == "digitsquery/00000"
    assert page.locator("#previous").is_disabled()
    page.locator("#next").click()
    assert chosen(page) == "digitsquery/00001"


def test_focus_can_be_seen(visit) -> None:
    page = visit("digits")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the decisions"
    page.locator("#search").focus()
    page.keyboard.press("Tab")
    style = "getComputedStyle(document.activeElement)"
    assert page.evaluate(f"{style}.outlineStyle") == "solid"
    assert page.evaluate(f"parseFloat({style}.outlineWidth)") >= 2


def test_search_and_class_filter_narrow_the_queries(visit) -> None:
    found = made.digits_findings(150, 60)
    page = visit("digits")
    page.locator("#search").fill("00003")
    assert chosen(page) == "digitsquery/00003"
    assert page.locator("#position").inner_text().startswith("Query 1 of 1 found among 60")
    page.locator("#search").fill("nothing like this")
    assert "No query matches." in page.locator("#position").inner_text()
    assert not page.locator("#query-card").is_visible()
    page.locator("#search").fill("")
    page.locator("#query-class").select_option(label="4")
    fours = int((found.query.labels == 4).sum())
    assert page.locator("#strip button").count() == fours
    assert "◆ target 4" in page.locator("#query-card").inner_text()


def test_only_wrong_predictions_can_be_shown(visit) -> None:
    found = made.digits_findings(150, 60)
    page = visit("digits")
    page.locator("#wrong").check()
    decided = found.query.encoding.decode(found.at_times[2].predictions)
    missed = (decided != found.query.labels).nonzero().flatten().tolist()
    assert missed
    assert page.locator("#strip button").count() == len(missed)
    assert "✕ wrong" in page.locator("#query-card").inner_text()


def test_largest_loss_first_starts_with_the_largest(visit) -> None:
    found = made.digits_findings(150, 60)
    page = visit("digits")
    page.locator("#order").select_option("loss")
    gaps = (found.at_times[2].predictions - found.query.targets).square().sum(1)
    assert chosen(page) == found.query.ids[int(gaps.argmax())]


def test_training_examples_are_filtered_by_class(visit) -> None:
    page = visit("digits")
    page.locator("#train-class").select_option(label="7")
    for text in (*helped(page), *page.locator("#harmed li").all_inner_texts()):
        assert text.startswith("7")
    assert len(helped(page)) == 4
    page.locator("#train-class").select_option("-1")
    assert len(helped(page)) == 12


def test_the_slider_moves_through_training(visit) -> None:
    page = visit("digits")
    at_end = helped(page)
    slider = page.locator("#time")
    assert page.locator("#time-label").inner_text() == "end of training"
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#time-label").inner_text() == "time 100"
    page.keyboard.press("Home")
    assert page.locator("#time-label").inner_text() == "time 10"
    assert slider.get_attribute("aria-valuetext") == "time 10"
    assert helped(page) != at_end
    assert "time 10" in page.locator("#query-card").inner_text()


def test_hostile_names_are_text_in_the_browser(visit) -> None:
    page = visit("hostile")
    assert chosen(page) == "<script>alert(1)</script> 0"
    assert page.locator("script").count() == 3
    assert page.locator("img").count() == 0
    page.locator("#search").fill("alert(2)")
    assert chosen(page).startswith("</script><script>alert(2)</script>")
    page.locator("#train-class").select_option(label='"><img src=x onerror=alert(3)>')
    page.locator("#strip button").last.click()
    assert page.locator("#explorer [onerror], #explorer img").count() == 0


def test_tables_show_rows_and_numbers_have_no_class_filter(visit) -> None:
    page = visit("numbers")
    found = made.diabetes_findings(times=(1.0, np.inf))
    best = int(found.scores.values[1, 0].argmax())
    assert found.columns.line(best) in helped(page)[0]
    assert page.locator("#train-class").count() == 0
    assert "predicted" in page.locator("#query-card .bars").inner_text()
    page.locator("#time").focus()
    page.keyboard.press("Home")
    assert page.locator("#time-label").inner_text() == "time 1"


def test_page_one_fits_a_laptop_and_the_report_six_screens(visit) -> None:
    page = visit("digits", viewport={"width": 1366, "height": 768})
    for place in (*page.locator(".decision").all(), page.locator("#trust")):
        box = place.bounding_box()
        assert 0 < box["y"] < box["y"] + box["height"] <= 768
    assert page.evaluate("document.getElementById('suspects').getBoundingClientRect().top") >= 740
    page.set_viewport_size({"width": 1440, "height": 900})
    assert page.evaluate("document.documentElement.scrollHeight") <= 6 * 900


def test_a_button_opens_the_list_behind_a_decision(visit) -> None:
    page = visit("digits")
    assert not page.locator("#redundant .plot").first.is_visible()
    page.locator("#decide-removal .button").click()
    assert page.locator("#redundant .plot").first.is_visible()
    assert not page.locator("#decide-labels .why p").is_visible()
    page.locator("#decide-labels .why summary").click()
    assert "look first" in page.locator("#decide-labels .why p").inner_text()


def reviewed(page) -> list[dict[str, str]]:
    with page.expect_download() as waiting:
        page.locator("#review-controls button").click()
    assert waiting.value.suggested_filename == "reviewed.csv"
    return list(csv.DictReader(Path(waiting.value.path()).read_text().splitlines()))


def test_a_review_by_keyboard_is_kept_and_becomes_corrections(visit, folder, tmp_path) -> None:
    found = made.digits_findings(150, 60)
    page = visit("digits")
    chosen = page.locator("#review .chosen")
    first, second, third, fourth = found.suspects[:4]
    assert found.train.ids[first.row] in chosen.inner_text()
    assert page.locator("#review .body:visible").count() == 1
    page.locator("#decide-labels .button").click()
    page.wait_for_function("document.activeElement.classList.contains('chosen')")
    for key in "cku":
        page.keyboard.press(key)
    page.keyboard.press("c")
    page.keyboard.press("z")  # takes the last one back
    assert found.train.ids[fourth.row] in chosen.inner_text()
    assert page.locator("#review-progress").inner_text() == f"3 of {len(found.suspects)} decided."
    other = next(name for name in found.train.classes if name not in (fourth.given, fourth.suggested))
    page.locator(".other select").select_option(other)
    rows = reviewed(page)
    assert [row["decision"] for row in rows[:5]] == ["change", "keep", "unsure", "change", ""]
    given = [suspect.given for suspect in (first, second, third, fourth)]
    assert [row["label"] for row in rows[:4]] == [first.suggested, *given[1:3], other]
    assert [row["id"] for row in rows] == [found.train.ids[suspect.row] for suspect in found.suspects]
    assert all(row["label"] == row["given"] for row in rows[4:])
    page.reload()
    assert [row["decision"] for row in reviewed(page)] == [row["decision"] for row in rows]
    file = tmp_path / "reviewed.csv"
    file.write_text("\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]) + "\n")
    corrected, _ = correct((found.train, found.query), read_corrections(file), "reviewed.csv")
    before = corrected.preparation["corrected"]["before"]
    assert before == {found.train.ids[first.row]: first.given, found.train.ids[fourth.row]: fourth.given}


def test_the_review_is_sorted_and_filtered(visit) -> None:
    found = made.digits_findings(150, 60)
    page = visit("digits")
    page.locator("#review-sort").select_option("given")
    shown = page.locator("#review .suspect:visible .head b:first-of-type").all_inner_texts()
    assert shown[::2] == sorted(shown[::2])
    name = found.train.ids[found.suspects[1].row]
    page.locator("#review-search").fill(name)
    assert page.locator("#review .suspect:visible .id").all_inner_texts() == [name]
    page.get_by_role("button", name="Unsure").locator("visible=true").click()
    page.locator("#review-search").fill("")
    page.locator("#review-show").select_option("unsure")
    assert page.locator("#review .suspect:visible .id").all_inner_texts() == [name]
    page.locator("#review-search").fill("nothing like this")
    assert page.locator("#review-none").is_visible()


def test_files_of_page_one_are_what_the_page_says(visit) -> None:
    found = made.digits_findings(150, 60)
    page = visit("digits")
    with page.expect_download() as waiting:
        page.locator("#decide-removal button").click()
    gone = set(found.redundant.order[: found.redundant.stop])
    kept = [name for row, name in enumerate(found.train.ids) if row not in gone]
    assert Path(waiting.value.path()).read_text().splitlines() == kept


@pytest.mark.parametrize("name", ["digits", "hostile", "numbers", "bare"])
def test_nothing_sticks_out_sideways(visit, name) -> None:
    page = visit(name)
    for width in (320, 390, 768, 1280):
        page.set_viewport_size({"width": width, "height": 700})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_and_light_follow_the_system_and_the_button(visit) -> None:
    page = visit("digits", color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.locator("#theme").click()
    light = page.evaluate(ground)
    assert (dark, light) == ("rgb(21, 23, 27)", "rgb(255, 255, 255)")
    page.locator("#theme").click()
    assert page.evaluate(ground) == dark
    page.emulate_media(color_scheme="light")
    assert page.evaluate(ground) == dark  # the button wins over the system


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(visit, scheme) -> None:
    page = visit("digits", color_scheme=scheme)
    ratios = page.evaluate(
        """() => {
          const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
          const shares = [0.2126, 0.7152, 0.0722];
          const light = (rgb) => rgb.reduce((sum, c, i) => sum + shares[i] * linear(c / 255), 0);
          const rgb = (name) => {
            const probe = document.createElement("span");
            probe.style.color = `var(--${name})`;
            document.body.append(probe);
            const found = getComputedStyle(probe).color.match(/\\d+/g).slice(0, 3).map(Number);
            probe.remove();
            return found;
          };
          const contrast = (a, b) => {
            const [x, y] = [light(rgb(a)), light(rgb(b))].sort((p, q) => q - p);
            return (x + 0.05) / (y + 0.05);
          };
          const grounds = ["paper", "panel"];
          return ["ink", "muted", "harm"].flatMap((name) => grounds.map((ground) => contrast(name, ground)));
        }"""
    )
    assert min(ratios) >= 4.5  # WCAG 2.1, 1.4.3: text of ordinary size


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_panel_on_learning_draws_its_curves_and_opens_its_table(visit, scheme) -> None:
    page = visit("digits", color_scheme=scheme)
    page.get_by_text("When was it learned?").click()
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    for name in ("line.b", "line.c", "area.others", "area.rest", "band"):
        shape = page.locator(f"#learned svg .{name}")
        assert shape.is_visible()
        style = shape.evaluate("(e) => [getComputedStyle(e).fill, getComputedStyle(e).stroke]")
        assert any(colour not in (ground, "none") for colour in style)
    table = page.locator("#learned table").first
    assert not table.is_visible()
    page.locator("#learned .inside summary").click()
    assert table.locator("tbody tr").count() == len(made.digits_findings(150, 60).learned.times)
    assert page.locator("#learned .gallery .thumb").first.is_visible()
    assert page.locator("#learned .leaders tbody tr").count() == 3


def test_it_prints_on_white_with_its_bars_and_without_its_controls(visit) -> None:
    page = visit("digits", color_scheme="dark")
    page.locator("#strip button").nth(3).click()
    page.emulate_media(media="print")
    ground = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--paper')")
    assert ground.strip() == "#ffffff"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    assert not page.locator("#strip").is_visible()
    assert page.locator("#query-card").is_visible()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")  # as printing does
    assert page.locator("#distributions .bar.help").first.is_visible()
    assert page.locator("#suspects .bars").last.is_visible()
    assert not page.locator("#review-controls").is_visible()
    assert len(page.pdf(format="A4")) > 10_000


def test_without_scripts_the_page_still_stands(browser, folder) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((folder / "digits.html").as_uri())
    assert page.locator("#suspects .bars").last.is_visible()
    assert not page.locator("button[data-file]").first.is_visible()
    assert "needs JavaScript" in page.locator("noscript").inner_text()
    assert not page.locator("#strip").is_visible()
    context.close()
