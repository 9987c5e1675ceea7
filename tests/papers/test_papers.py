"""Published tables and figures, run again: the commands, the records, and what each number is."""

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import leftout as lo
from leftout.cli.main import app
from leftout.storage import provenance as records
from leftout_papers import rerun as rerunning
from leftout_papers import run_papers, verdicts
from leftout_papers.exhibit import Exhibit, Outcome, Publication, Row
from leftout_papers.material import Material, Size
from leftout_papers.page import page
from leftout_papers.publications import PUBLICATIONS
from leftout_papers.rerun import record_name, rerun, verdict
from leftout_papers.rethinking_influence import density, dynamics, retraining, width
from leftout_papers.rethinking_influence.publication import RETHINKING

NAME = RETHINKING.name
RECORDS = Path(__file__).parents[2] / "records"
QUICK = Material(size=Size.QUICK)
DATA_WORDS = "--data must be digits, mnist:DIR or cifar10:DIR with the folder of the files; got"
PAPER = Publication("paper", "A paper", "Somebody", ())


LONG = {"table1", "figure1", "figure8", "proposition1"}
"""Exhibits that retrain networks: they take five times as long as all others together."""

of_exhibits = pytest.mark.parametrize(
    "exhibit",
    [pytest.param(one, marks=[pytest.mark.slow] * (one.name in LONG)) for one in RETHINKING.exhibits],
    ids=lambda one: one.name,
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Exhibits in their minute's version, on the digits, but those that take long: folder, and output."""
    out = tmp_path_factory.mktemp("papers")
    names = [one.name for one in RETHINKING.exhibits if one.name not in LONG]
    done = CliRunner().invoke(app, ["papers", NAME, *names, "--quick", "--out", str(out)])
    assert done.exit_code == 0, done.output
    return out, done.output


@pytest.fixture(scope="module")
def ran(runs):
    """Return what runs an exhibit that takes long, once, and gives the folder of all of them."""

    @cache
    def run(name):
        if name in LONG:
            done = CliRunner().invoke(app, ["papers", NAME, name, "--quick", "--out", str(runs[0])])
            assert done.exit_code == 0, done.output
        return runs

    return run


def exhibit(value, name="one", data="simulated"):
    """An exhibit that finds a number."""
    rows = (Row("a number", "1", str(value), value == 1),)
    return Exhibit(name, "One", data, 1.0, lambda _: Outcome(rows, {"value": value}))


def record(runs, name):
    return json.loads((runs[0] / name / "result.json").read_text())


def folder(exhibit):
    return exhibit.name + ("-quick" if exhibit.data == "simulated" else "-digits-quick")


@of_exhibits
def test_every_exhibit_leaves_a_record_and_a_picture(ran, exhibit):
    runs = ran(exhibit.name)
    where = runs[0] / folder(exhibit)
    kept = record(runs, folder(exhibit))
    assert {path.name for path in where.iterdir()} == {
        "command.txt",
        "environment.json",
        "result.json",
        "figure.png",
    }
    assert (where / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert kept["rows"]
    assert all(row["measured"] and row["published"] for row in kept["rows"])
    assert (where / "command.txt").read_text().split()[:4] == ["leftout", "papers", NAME, exhibit.name]


def test_digits_as_a_stand_in_are_announced(runs):
    assert "digits that ship with scikit-learn stand in" in runs[1]


def test_measured_is_printed_beside_published(runs):
    assert "published" in runs[1]
    assert "measured" in runs[1]
    assert "agrees" in runs[1]


def test_the_error_rate_falls_with_the_ridge_and_stays_above_the_bound(runs):
    for name in ("figure2-digits-quick", "figure9-digits-quick"):
        result = record(runs, name)["result"]
        assert np.all(np.diff(result["pooled_ratio_of_sums"]) < 0)
        assert np.all(np.array(result["pooled_median_rate"]) > np.array(result["bound"]))


def test_complexities_of_the_groups_are_those_of_the_public_call(runs):
    result = record(runs, "figure5-digits-quick")["result"]
    train, query = QUICK.pair(5000, 1000)
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), train, rule=lo.Ridge(1.0))
    order = np.argsort(lo.leave_one_out(fitted, query).values.mean(0), kind="stable")
    keep = np.sort(order[12:])  # without the most harmful tenth of 120
    gram, targets = fitted.gram.numpy(), fitted.residual.numpy()[:, 0]

    def norm(rows):
        return np.sqrt(targets[rows] @ np.linalg.solve(gram[np.ix_(rows, rows)], targets[rows]))

    whole = np.arange(120)
    # The Gram matrix has a condition of about 10⁴: 10·cond·eps is 1e-11 of the norm.
    assert result["complexity"][0] == pytest.approx(norm(whole) - norm(keep), abs=1e-10 * norm(whole))


def test_the_dominant_example_is_the_one_with_the_largest_influence_either_way():
    train, query = QUICK.pair(5000, 1000)
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), train, rule=lo.GradientFlow())
    scores = lo.leave_one_out(fitted, query, at=[0.1, 10.0]).values
    largest, helpful = dynamics.dominant(fitted, query, [0.1, 10.0])
    np.testing.assert_array_equal(largest, np.abs(scores).argmax(2))
    np.testing.assert_array_equal(helpful, scores.argmax(2))


def test_the_density_of_a_point_leaves_its_own_bump_out():
    points = np.random.default_rng(0).standard_normal((60, 3))
    centred = points - points.mean(0)
    left, _, _ = np.linalg.svd(centred, full_matrices=False)
    white = left * np.sqrt(len(points) - 1)
    bandwidth = len(points) ** (-1 / 7)
    square = ((white[:, None] - white[None]) ** 2).sum(2)
    bumps = np.exp(-square / (2 * bandwidth**2)) / (bandwidth * np.sqrt(2 * np.pi)) ** 3
    np.fill_diagonal(bumps, 0)
    # The subtraction of the own bump loses the digits by which it exceeds the others, here < 1e3.
    np.testing.assert_allclose(density.log_density(points), np.log(bumps.sum(1) / 59), atol=1e-9)


def test_the_exponent_is_that_of_a_power_law():
    widths = (100, 200, 400)
    values = np.array(widths)[:, None] ** -0.5 * np.array([[0.9, 1.1]])
    slope, low, high = width.exponent(widths, values)
    assert slope == pytest.approx(-0.5)
    assert low < -0.5 < high


def test_one_page_shows_all_records_with_their_pictures(runs):
    text = (runs[0] / "index.md").read_text()
    there = [one for one in RETHINKING.exhibits if (runs[0] / folder(one)).is_dir()]
    assert len(there) >= len(RETHINKING.exhibits) - len(LONG)
    for exhibit in there:
        assert f"## {exhibit.name}: " in text
        assert f"]({folder(exhibit)}/figure.png)" in text
        for row in record(runs, folder(exhibit))["rows"]:
            assert row["measured"].replace("|", "\\|") in text


@pytest.mark.skipif(not RECORDS.is_dir(), reason="the checkout's records are not here")
def test_the_page_in_the_docs_is_that_of_the_records():
    kept = sorted(RECORDS.glob(f"*-{NAME}"))[-1]
    written = (RECORDS.parent / "docs" / "papers" / f"{NAME}.md").read_text()
    assert written == page(RETHINKING, kept, prefix=f"../../records/{kept.name}/")


def test_pairs_are_the_classes_of_the_paper():
    train, query = QUICK.pair(5000, 1000)
    assert train.classes == ("7", "9")
    assert (len(train), len(query)) == (120, 40)


def test_all_digits_there_are_stand_in_for_the_thousands_of_the_paper():
    train, query = Material().pair(5000, 1000)
    labels = lo.load("digits", classes=("7", "9"))
    assert (len(train), len(query)) == tuple(map(len, labels))


def test_the_real_images_are_read(shared_data):
    train, _ = Material(f"mnist:{shared_data / 'mnist'}", Size.QUICK).pair(5000, 1000)
    assert train.classes == ("7", "9")
    train, _ = Material(f"cifar10:{shared_data / 'cifar10.zip'}", Size.QUICK).pair(5000, 1000)
    assert train.classes == ("automobile", "airplane")


def test_a_list_of_all_exhibits_is_shown_when_none_is_named():
    done = CliRunner().invoke(app, ["papers"])
    assert done.exit_code == 0
    for publication in PUBLICATIONS:
        for exhibit in publication.exhibits:
            assert exhibit.name in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["nothing"],
            "`name` must be a publication, rethinking-influence-functions, "
            "smooth-unique-information, review-wide-networks-and-learnability, label-aware-ntk; "
            "got 'nothing'",
        ),
        ([NAME, "figure99"], "`exhibits` must be among table1, figure1"),
        *(
            ([NAME, "figure2", "--data", source], f"{DATA_WORDS} {source!r}.")
            for source in ("svhn:x", "mnist", "mnist:", "digits:xx", "")
        ),
        ([NAME, "figure2", "--jobs", "0"], "`--jobs` must be a whole number ≥ 1; got 0."),
        ([NAME, "figure2", "--memory", "much"], "`memory` must be a number of bytes or a size"),
        ([NAME, "figure2", "--device", "nowhere"], "`device` must be one that this machine has"),
        ([NAME, "figure2", "--seed", "-1"], "--seed must be a whole number from 0 to 2³² − 1"),
        ([NAME, "figure2", "--quick", "--paper-size"], "--quick and --paper-size exclude each other"),
        ([NAME, "figure2", "--data", "mnist:/nowhere"], "/nowhere"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_written(tmp_path, words, said):
    done = CliRunner().invoke(app, ["papers", *words, "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, lo.LeftoutError | OSError)
    assert said in str(done.exception)
    assert not list(tmp_path.glob("out/*"))


def test_an_older_record_is_replaced_whole(tmp_path):
    for value in (1, 2):
        made = rerun(PAPER, exhibit(value), QUICK, tmp_path)
    assert json.loads((made / "result.json").read_text())["result"] == {"value": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["one-quick"]


def test_randomness_is_that_of_the_seed():
    one, other, third = (
        torch.randn(3, generator=Material(seed=seed).generator(salt))
        for seed, salt in ((1, 0), (1, 0), (1, 1))
    )
    torch.testing.assert_close(one, other)
    assert not torch.equal(one, third)


# Sizes


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        pytest.param(name, outputs, marks=[pytest.mark.slow] * (name in LONG))
        for name, outputs in {
            "table1": 1,
            "figure1": 1,
            "figure8": 10,
            "theorem1": 1,
            "proposition1": 1,
        }.items()
    ],
)
def test_a_record_says_the_size_that_it_was_made_of(ran, name, outputs) -> None:
    kept = record(ran(name), f"{name}-digits-quick")
    n, m = kept["result"]["examples"], kept["result"]["queries"]
    few = min(100, 120) if outputs == 1 else 200
    assert (n, m) == (few, 40 if outputs == 1 else 50)
    said = [note for note in kept["notes"] if "networks on n = 5000" in note]
    if name in ("table1", "figure1", "figure8"):
        assert said == [
            f"The paper trains 41 networks on n = 5000; here {1 + retraining.POINTS[Size.QUICK]} on n = {n}, "
            f"with {m} queries, which two cores can do. --paper-size runs the paper's own on a GPU."
        ]


def test_a_quick_run_takes_no_more_than_an_exhibit_asks_for() -> None:
    for asked, got in (((5000, 1000), (120, 40)), ((100, 50), (100, 40)), ((20, 10), (20, 10))):
        assert tuple(map(len, QUICK.pair(*asked))) == got
    assert tuple(map(len, QUICK.classes(5000, 1000))) == (200, 50)


def test_the_largest_are_fewer_than_all() -> None:
    for points in retraining.POINTS.values():
        assert 1 <= points // retraining.TOP < points
    assert retraining.POINTS[Size.USUAL] // retraining.TOP == 10


# Records


def test_size_and_seed_are_in_the_name_where_they_are_not_the_usual() -> None:
    one, pair = exhibit(1), exhibit(1, data="binary")
    for size, seed, name in (
        (Size.USUAL, 0, ""),
        (Size.QUICK, 0, "-quick"),
        (Size.PAPER, 0, "-paper-size"),
        (Size.USUAL, 3, "-seed3"),
        (Size.QUICK, 3, "-quick-seed3"),
    ):
        assert record_name(one, Material(size=size, seed=seed)) == f"one{name}"
        assert record_name(pair, Material("mnist:x", size, seed)) == f"one-mnist{name}"


def test_records_of_other_sizes_and_seeds_stand_beside_each_other(tmp_path) -> None:
    publication = Publication("paper", "A paper", "Somebody", (exhibit(1),))
    for material in (Material(), QUICK, Material(seed=3)):
        rerun(publication, exhibit(1), material, tmp_path)
    text = page(publication, tmp_path)
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert sorted(headings) == [
        "## one: One (simulated)",
        "## one: One (simulated, a quick run)",
        "## one: One (simulated, seed 3)",
    ]


def test_what_else_lies_in_the_folder_of_a_record_stays(tmp_path) -> None:
    made = rerun(PAPER, exhibit(1), QUICK, tmp_path)
    (made / "mine").mkdir()
    (made / "mine" / "notes.txt").write_text("keep")
    (made / "figure.png").write_bytes(b"of before")
    again = rerun(PAPER, exhibit(2), QUICK, tmp_path)
    assert again == made
    assert (made / "mine" / "notes.txt").read_text() == "keep"
    assert not (made / "figure.png").exists(), "this record has none"
    assert [path.name for path in tmp_path.iterdir()] == ["one-quick"]


@pytest.mark.parametrize("moment", ["writing", "moving", "tidying"])
def test_a_record_that_was_stopped_half_way_is_the_old_or_the_new_one(tmp_path, monkeypatch, moment) -> None:
    publication = Publication("paper", "A paper", "Somebody", (exhibit(1),))
    made = rerun(publication, exhibit(1), QUICK, tmp_path)
    before = page(publication, tmp_path)

    def stop(*_, **__):
        raise KeyboardInterrupt

    real = Path.rename
    moves = []

    def second(self, target):
        moves.append(target)
        return real(self, target) if len(moves) == 1 else stop()

    where, what = {
        "writing": ((records.json, "dumps"), stop),
        "moving": ((Path, "rename"), second),
        "tidying": ((Path, "unlink"), stop),
    }[moment]
    with monkeypatch.context() as patch:
        patch.setattr(*where, what)
        with pytest.raises(KeyboardInterrupt):
            rerun(publication, exhibit(2), QUICK, tmp_path)
    if moment == "writing":
        assert page(publication, tmp_path) == before, "half a record is no section"
    records.recover_records(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["one-quick"]
    value = json.loads((made / "result.json").read_text())["result"]["value"]
    assert value == (2 if moment == "tidying" else 1)


@pytest.fixture
def published(monkeypatch):
    """A publication of two exhibits, in a checkout without changes; says what was run."""
    ran = []

    def one(name):
        made = exhibit(1, name)
        return Exhibit(name, "One", "simulated", 1.0, lambda m: ran.append(name) or made.run(m))

    publication = Publication("paper", "A paper", "Somebody", (one("one"), one("two")))
    clean = records.environment() | {"commit": "c", "changed_since": False}
    for module in (rerunning, run_papers):
        monkeypatch.setattr(module, "provenance", lambda: dict(clean))
    monkeypatch.setattr(run_papers, "PUBLICATIONS", (publication,))

    def run(*words):
        ran.clear()
        done = CliRunner().invoke(app, ["papers", "paper", *words])
        return done, list(ran)

    run.environment = clean
    return run


def test_what_has_a_record_of_the_same_command_and_code_is_not_run_again(tmp_path, published) -> None:
    out = ("--out", str(tmp_path))
    assert published("one", *out)[1] == ["one"]
    done, ran = published(*out)
    assert ran == ["two"]
    assert "one: has a record of this command and this code; --force runs it." in done.output
    assert published(*out)[1] == []
    assert published("--force", *out)[1] == ["one", "two"]
    assert published("--quick", *out)[1] == ["one", "two"]
    assert published("--seed", "1", *out)[1] == ["one", "two"]
    for key, value in (("commit", "d"), ("leftout", "0"), ("changed_since", True)):
        old = published.environment[key]
        published.environment[key] = value
        assert published(*out)[1] == ["one", "two"], key
        published.environment[key] = old
        published("--force", *out)


def test_a_stopped_run_says_whether_it_goes_on(tmp_path, published, monkeypatch) -> None:
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_papers, "rerun", stop)
    done, _ = published("--out", str(tmp_path))
    assert done.exit_code == 130
    assert "the same command continues after them." in done.output
    published.environment["changed_since"] = True
    done, _ = published("--out", str(tmp_path))
    assert "made again next time: the code has uncommitted changes." in done.output


@pytest.mark.parametrize("broken", ["result.json", "environment.json", "command.txt", "rows"])
def test_a_damaged_record_is_named_before_the_work(tmp_path, published, broken) -> None:
    out = ("--out", str(tmp_path))
    published("two", *out)
    if broken == "command.txt":
        (tmp_path / "two" / broken).unlink()
    elif broken == "rows":
        (tmp_path / "two" / "result.json").write_text('{"rows": 1}')
    else:
        (tmp_path / "two" / broken).write_text("{")
    done, ran = published("one", *out)
    assert not ran
    assert isinstance(done.exception, lo.LeftoutError)
    assert re.search(
        r"The record '.*two' is damaged: .*\. Remove this folder, and run its exhibit again\.",
        str(done.exception),
    )


def test_a_file_in_place_of_the_folder_is_refused(tmp_path) -> None:
    file = tmp_path / "file"
    file.touch()
    for out in (file, file / "below"):
        done = CliRunner().invoke(app, ["papers", NAME, "figure12", "--quick", "--out", str(out)])
        assert str(done.exception) == f"--out must be a folder; {str(file)!r} is a file."
    done = CliRunner().invoke(app, ["papers", NAME, "figure12", "--quick", "--out", "/proc/no"])
    assert "--out must be a folder that can be written; '/proc/no' cannot (" in str(done.exception)


# Randomness and verdicts


def test_networks_of_other_widths_and_seeds_have_streams_of_their_own() -> None:
    streams = {
        tuple(torch.randn(4, generator=Material(seed=seed).independent(size, number)).tolist())
        for seed in range(3)
        for size in (100, 200, 500, 600, 1000)
        for number in range(6)
    }
    assert len(streams) == 3 * 5 * 6
    again = [torch.randn(3, generator=QUICK.independent(500, 1)) for _ in range(2)]
    torch.testing.assert_close(*again, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("low", "high", "holds"),
    [
        (-0.65, -0.56, True),
        (-0.53, -0.44, True),
        (-0.49, -0.4, False),
        (-3.0, 2.0, "open"),
        (-0.6, -0.2, "open"),
    ],
)
def test_an_interval_that_excludes_nothing_does_not_agree(low, high, holds) -> None:
    assert verdicts.at_most(-0.5, low, high, beyond=-0.25) == holds


@pytest.mark.parametrize(
    ("values", "holds"),
    [
        ([0.1, 0.2, 0.3, 0.4], True),
        ([0.4, 0.3, 0.2, 0.1], False),
        ([0.1, 0.3, 0.2, 0.4], "open"),
        ([0.1, 0.9, 0.8, 0.2], "open"),
        ([0.1, 0.2], "open"),
        ([0.1], "open"),
        ([1.0] * 4, "open"),
        ([0.1, 0.2, 0.2, 0.3, 0.4, 0.5], True),
    ],
)
def test_a_trend_is_that_of_all_widths_and_not_of_the_ends(values, holds) -> None:
    assert verdicts.rises(values) == holds


def test_two_statements_hold_together_or_one_of_them_decides() -> None:
    assert verdicts.both(True, True) is True
    assert verdicts.both(True, False) is verdicts.both("open", False) is False
    assert verdicts.both(True, "open") == verdicts.both("open", "open") == "open"
    assert [verdict(one) for one in (True, False, "open", None)] == ["agrees", "differs", "cannot tell", ""]
