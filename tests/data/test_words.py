"""Prose is compared by its words, as scikit-learn weighs them; fitted to training rows alone, and said."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.kernel_ridge import KernelRidge

import leftout as lo
from laws import assert_same
from leftout.core.errors import DataError, MemoryBudgetError
from leftout.curation.mislabelled import find_mislabelled
from leftout.data import words
from leftout.data.load import load
from leftout.kernels.wide.default import DEFAULT_KERNEL

N, TRAIN = 80, 60
DRAW = np.random.default_rng(0)
SUBJECTS = {
    "sport": "ball goal team coach league match score",
    "food": "bread soup salt oven butter taste spoon",
}
COMMON = ["the", "a", "one", "with", "after", "some", "new", "about", "over", "into", "was", "has"]


def sentence(kind):
    own = DRAW.choice(SUBJECTS[kind].split(), 3)
    return " ".join(DRAW.permutation([*own, *DRAW.choice(COMMON, 6)]))


KINDS = ["sport", "food"] * (N // 2)
TEXTS = [f"{sentence(kind)} {i} ({kind[0]}{i % 7})." for i, kind in enumerate(KINDS)]
FRAME = pd.DataFrame(
    {
        "size": DRAW.normal(size=N),
        "review": TEXTS,
        "kind": KINDS,
        "split": ["train"] * TRAIN + ["test"] * (N - TRAIN),
    }
)
ONLY = FRAME[["review", "kind", "split"]]


def tf_idf(texts=TEXTS):
    """Return counts times 1 + ln((1 + n) / (1 + rows with the word)), scaled to norm 1."""
    tokens = [[word for word in text.lower().replace("(", " ").replace(")", " ").replace(".", " ").split()
               if len(word) > 1] for text in texts]  # fmt: skip
    vocabulary = sorted({word for row in tokens[:TRAIN] for word in row})
    weight = {
        word: 1 + np.log((1 + TRAIN) / (1 + sum(word in row for row in tokens[:TRAIN])))
        for word in vocabulary
    }
    rows = np.array([[row.count(word) * weight[word] for word in vocabulary] for row in tokens])
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)


@pytest.mark.parametrize("normalise", ["standard", "unit", None])
def test_prose_alone_is_its_tf_idf_rows(given, normalise) -> None:
    train, query = load(given(ONLY), target="kind", normalise=normalise, drop_constant=True)
    expected = tf_idf()
    assert np.abs(train.inputs.numpy() - expected[:TRAIN]).max() <= 1e-14
    assert np.abs(query.inputs.numpy() - expected[TRAIN:]).max() <= 1e-14
    assert [row[0] for row in train.table] == TEXTS[:TRAIN]
    assert train.preparation["input_columns"] == [f"review: {expected.shape[1]} words"]
    said = f"the words of 'review' became {expected.shape[1]} columns by TF-IDF, fitted to the training rows"
    assert any(note.startswith(said) for note in train.preparation["notes"])


def test_beside_numbers_it_counts_as_one_column_and_is_not_scaled(given) -> None:
    train, query = load(
        given(FRAME.assign(same=1.0)), target="kind", normalise="standard", drop_constant=True
    )
    size = FRAME["size"].to_numpy()
    mean, deviation = size[:TRAIN].mean(), size[:TRAIN].std()
    for part, rows in ((train, slice(0, TRAIN)), (query, slice(TRAIN, N))):
        assert_same(part.inputs[:, 0], (size[rows] - mean) / deviation)
        assert np.abs(part.inputs[:, 1:].numpy() - tf_idf()[rows]).max() <= 1e-14
    assert train.preparation["dropped_columns"] == ["same"]
    unit, _ = load(given(FRAME), target="kind", normalise="unit")
    assert_same(unit.inputs.norm(dim=1), np.ones(TRAIN))
    assert float(train.inputs[:, 1:].square().sum(1).mean()) == pytest.approx(1.0)


def linear(a, b):
    return a @ b.T


def test_left_out_predictions_are_those_of_kernel_ridge_on_scikit_learns_rows() -> None:
    vectors = TfidfVectorizer().fit(TEXTS[:TRAIN])
    rows, asked = vectors.transform(TEXTS[:TRAIN]), vectors.transform(TEXTS[TRAIN:])
    signs = np.where(np.array(KINDS) == "sport", 1.0, -1.0)[:TRAIN]
    train, query = load(ONLY, target="kind", normalise="standard")
    assert train.classes == ("food", "sport")
    fitted = lo.fit(lo.kernels.From(linear), train, rule=lo.Ridge(0.3))
    model = KernelRidge(alpha=0.3, kernel="linear")
    predictions = model.fit(rows, signs).predict(asked)
    assert np.abs(fitted.predict(query.inputs)[:, 0].numpy() - predictions).max() <= 1e-10
    left_out = lo.out_of_sample(fitted)[:, 0].numpy()
    for row in range(TRAIN):
        keep = np.arange(TRAIN) != row
        refit = model.fit(rows[keep], signs[keep]).predict(rows[row])
        assert abs(float(refit[0]) - left_out[row]) <= 1e-10


def test_what_queries_say_decides_nothing(given) -> None:
    before, _ = load(given(FRAME), target="kind", normalise="standard")
    moved = FRAME.copy()
    moved.loc[TRAIN:, "review"] = [f"words that no training row has ever held {i}" for i in range(N - TRAIN)]
    after, query = load(given(moved), target="kind", normalise="standard")
    assert torch.equal(before.inputs, after.inputs)
    assert query.inputs.shape[1] == before.inputs.shape[1]


def test_words_find_flipped_labels_and_shuffled_ones_accuse_nobody() -> None:
    flipped = ONLY.copy()
    rows = [3, 16, 29, 42]
    flipped.loc[rows, "kind"] = [{"sport": "food", "food": "sport"}[KINDS[row]] for row in rows]
    train, _ = load(flipped, target="kind", normalise="standard")
    found = find_mislabelled(lo.fit(DEFAULT_KERNEL, train, rule=lo.Ridge("auto")))
    assert sorted(suspect.row for suspect in found.suspects) == rows
    shuffled = ONLY.assign(review=DRAW.permutation(TEXTS))
    train, _ = load(shuffled, target="kind", normalise="standard")
    found = find_mislabelled(lo.fit(DEFAULT_KERNEL, train, rule=lo.Ridge("auto")))
    assert found.suspects == ()
    assert found.refusal


def test_a_missing_text_has_no_words(given) -> None:
    frame = ONLY.copy()
    frame.loc[[2, TRAIN], "review"] = None
    train, query = load(given(frame), target="kind", normalise="standard")
    assert (train.inputs[2] == 0).all()
    assert (query.inputs[0] == 0).all()
    assert train.table[2][0] == "missing"


def test_texts_beside_labels_are_prose() -> None:
    for texts in (TEXTS, pd.Series(TEXTS), np.array(TEXTS), tuple(TEXTS)):
        train, query = load((texts, KINDS), normalise="standard", seed=1)
        assert train.columns == ("text",)
        rows = [int(name.split()[1]) for name in train.ids]
        expected = TfidfVectorizer().fit_transform([TEXTS[row] for row in rows]).toarray()
        assert np.abs(train.inputs.numpy() - expected).max() <= 1e-14
        assert len(query) == N // 4
    given = (TEXTS[:TRAIN], KINDS[:TRAIN]), (TEXTS[TRAIN:], KINDS[TRAIN:])
    train, query = load(given, normalise="standard")
    assert np.abs(train.inputs.numpy() - tf_idf()[:TRAIN]).max() <= 1e-14
    assert np.abs(query.inputs.numpy() - tf_idf()[TRAIN:]).max() <= 1e-14


def test_a_table_that_ends_in_prose_or_names_is_predicted_before(given) -> None:
    frame = FRAME[["size", "kind", "review"]].assign(user=[f"u{i}" for i in range(N)])
    train, _ = load(given(frame), normalise=None)
    assert train.preparation["target"] == "kind"
    said = "the target is 'kind', the last one that holds no names or prose, as no other was named"
    assert train.preparation["notes"][0].startswith(said)


def test_names_and_categories_are_no_prose(given) -> None:
    frame = FRAME.drop(columns="review").assign(
        name=[f"Dr Ada Lovelace {i % 70}" for i in range(N)], long=["one text of many that is said often"] * N
    )
    train, _ = load(given(frame), target="kind", normalise=None)
    assert not any(name.endswith(" words") for name in train.preparation["input_columns"])


def test_prose_without_words_and_too_many_words_are_refused(monkeypatch) -> None:
    letters = [" ".join(DRAW.permutation(list("abcdefghij"))) for _ in range(N)]
    with pytest.raises(DataError, match="must have words of at least two letters in 'review'"):
        load(ONLY.assign(review=letters), target="kind")

    def refuse(name, size):
        raise MemoryBudgetError(name)

    monkeypatch.setattr(words, "check_allocation", refuse)
    with pytest.raises(MemoryBudgetError, match=r"with a column for each of \d+ words of 'review'"):
        load(ONLY, target="kind")


def test_the_command_line_audits_prose(leftout, tmp_path) -> None:
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    status, out, err = leftout("audit", "t.csv", "--target", "kind", "--out", "run")
    assert status == 0, err
    assert out.count("the words of 'review' became") == 1
    assert (tmp_path / "run" / "report.html").is_file()


def test_short_texts_that_are_all_there_is_are_compared_by_their_words() -> None:
    colours, fruits = ("red", "green", "blue"), ("apple", "pear", "plum", "fig")
    texts = [f"{colours[row % 3]} {fruits[row % 4]} {row}x" for row in range(60)]
    labels = [colours[row % 3] for row in range(60)]
    train, query = lo.load((texts, labels), normalise=None)
    fitted = lo.fit(lo.kernels.ReLU(1), train, rule=lo.Ridge(0.1))
    assert query.accuracy(fitted.predict(query)) == 1.0
    assert "TF-IDF" in " ".join(train.preparation["notes"])


def test_names_that_share_no_word_are_still_no_feature() -> None:
    texts = [f"person{row}" for row in range(60)]
    with pytest.raises(lo.LeftoutError, match="must have columns to predict from"):
        lo.load((texts, ["a", "b"] * 30))
