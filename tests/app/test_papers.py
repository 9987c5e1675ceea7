"""Published tables and figures, run again: the commands, the records, and what each number is."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import leftout as lo
from leftout.app.cli import app
from leftout.app.papers.exhibit import Exhibit, Outcome, Publication, Row
from leftout.app.papers.material import Material, Size
from leftout.app.papers.page import page
from leftout.app.papers.rerun import rerun
from leftout.app.papers.rethinking import density, dynamics, width
from leftout.app.papers.rethinking.publication import PUBLICATIONS, RETHINKING

NAME = RETHINKING.name
RECORDS = Path(__file__).parents[2] / "records"
QUICK = Material(size=Size.QUICK)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """All exhibits in their minute's version, on the digits."""
    out = tmp_path_factory.mktemp("papers")
    done = CliRunner().invoke(app, ["papers", NAME, "--quick", "--out", str(out)])
    assert done.exit_code == 0, done.output
    return out, done.output


def record(runs, name):
    return json.loads((runs[0] / name / "result.json").read_text())


def folder(exhibit):
    return exhibit.name if exhibit.data == "simulated" else f"{exhibit.name}-digits"


@pytest.mark.parametrize("exhibit", RETHINKING.exhibits, ids=lambda one: one.name)
def test_every_exhibit_leaves_a_record_and_a_picture(runs, exhibit):
    where = runs[0] / folder(exhibit)
    kept = record(runs, folder(exhibit))
    assert {path.name for path in where.iterdir()} == {
        "command.txt", "environment.json", "result.json", "figure.png",
    }  # fmt: skip
    assert (where / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert kept["rows"]
    assert all(row["measured"] and row["published"] for row in kept["rows"])
    assert (where / "command.txt").read_text().split()[:4] == [
        "leftout",
        "papers",
        NAME,
        exhibit.name,
    ]


def test_digits_as_a_stand_in_are_announced(runs):
    assert "digits that ship with scikit-learn stand in" in runs[1]


def test_measured_is_printed_beside_published(runs):
    assert "published" in runs[1]
    assert "measured" in runs[1]
    assert "agrees" in runs[1]


def test_the_error_rate_falls_with_the_ridge_and_stays_above_the_bound(runs):
    for name in ("figure2-digits", "figure9-digits"):
        result = record(runs, name)["result"]
        assert np.all(np.diff(result["pooled_ratio_of_sums"]) < 0)
        assert np.all(np.array(result["pooled_median_rate"]) > np.array(result["bound"]))


def test_complexities_of_the_groups_are_those_of_the_public_call(runs):
    result = record(runs, "figure5-digits")["result"]
    train, query = QUICK.pair(5000, 1000)
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), train, rule=lo.Ridge(1.0))
    order = np.argsort(lo.leave_one_out(fitted, query).values.mean(0), kind="stable")
    keep = np.sort(order[12:])  # without the most harmful tenth of 120
    gram, targets = fitted.gram.numpy(), fitted.residual.numpy()[:, 0]

    def norm(rows):
        return np.sqrt(targets[rows] @ np.linalg.solve(gram[np.ix_(rows, rows)], targets[rows]))

    whole = np.arange(120)
    # The Gram matrix has a condition of about 10⁴: 10·cond·eps is 1e-11 of the norm.
    assert result["complexity"][0] == pytest.approx(
        norm(whole) - norm(keep), abs=1e-10 * norm(whole)
    )


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
    for exhibit in RETHINKING.exhibits:
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
            "`name` must be a publication, rethinking-influence-functions; got 'nothing'",
        ),
        ([NAME, "figure99"], "`exhibits` must be among table1, figure1"),
        ([NAME, "figure2", "--data", "svhn:x"], "--data must be digits, mnist:DIR or cifar10:DIR"),
        (
            [NAME, "figure2", "--quick", "--paper-size"],
            "--quick and --paper-size exclude each other",
        ),
        ([NAME, "figure2", "--data", "mnist:/nowhere"], "/nowhere"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_written(tmp_path, words, said):
    done = CliRunner().invoke(app, ["papers", *words, "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, lo.LeftoutError | OSError)
    assert said in str(done.exception)
    assert not list(tmp_path.glob("out/*"))


def test_an_older_record_is_replaced_whole(tmp_path):
    publication = Publication("paper", "A paper", "Somebody", ())

    def exhibit(value):
        rows = (Row("a number", "1", str(value), value == 1),)
        return Exhibit("one", "One", "simulated", 1.0, lambda _: Outcome(rows, {"value": value}))

    for value in (1, 2):
        made = rerun(publication, exhibit(value), QUICK, tmp_path)
    assert json.loads((made / "result.json").read_text())["result"] == {"value": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_randomness_is_that_of_the_seed():
    one, other, third = (
        torch.randn(3, generator=Material(seed=seed).generator(salt))
        for seed, salt in ((1, 0), (1, 0), (1, 1))
    )
    torch.testing.assert_close(one, other)
    assert not torch.equal(one, third)
