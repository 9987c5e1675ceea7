"""`lo.suspects`: the same rule for anybody's probabilities, in cleanlab's columns."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

import leftout as lo
from leftout.core.errors import DataError, OptionError, ShapeError
from oracles import doubt as oracle


@pytest.fixture(scope="module")
def probabilities():
    """Labels of which the first ten are wrong, and probabilities of five folds."""
    draw = np.random.default_rng(0)
    inputs = draw.standard_normal((150, 3))
    labels = (inputs @ np.array([[2.0, 0, -2], [0, 2, -2]]).T).argmax(1) + 2 * (inputs[:, 2] > 1)
    labels = np.minimum(labels, 2)
    labels[:10] = (labels[:10] + 1) % 3
    found = cross_val_predict(LogisticRegression(), inputs, labels, cv=5, method="predict_proba")
    return labels, found


def test_doubts_scores_and_labels_are_those_of_the_rule(probabilities) -> None:
    labels, p = probabilities
    frame = lo.suspects(labels, p)
    q = oracle.calibrated(p.tolist(), labels.tolist())
    np.testing.assert_allclose(frame["label_score"], q[np.arange(150), labels], atol=1e-3)
    rows, refused, _ = oracle.doubted(q.tolist(), labels.tolist())
    assert set(np.flatnonzero(frame["is_label_issue"]).tolist()) == rows
    assert not refused
    assert frame.attrs["refusal"] == ""
    assert len(rows & set(range(10))) >= 6
    others = np.where(np.eye(3, dtype=bool)[labels], -1, p).max(1)
    np.testing.assert_allclose(frame["margin"], p[np.arange(150), labels] - others)
    assert frame["predicted_label"].tolist() == q.argmax(1).tolist()
    assert frame["given_label"].tolist() == labels.tolist()


def test_the_columns_are_cleanlabs_and_more(probabilities) -> None:
    assert lo.suspects(*probabilities).columns.tolist() == [
        "is_label_issue",
        "label_score",
        "given_label",
        "predicted_label",
        "predicted_score",
        "margin",
    ]


def test_names_of_classes_may_come_from_labels_a_frame_or_be_given(probabilities) -> None:
    labels, p = probabilities
    plain = lo.suspects(labels, p)
    names = np.array(["ape", "bee", "cat"])
    for given, table, classes in (
        (names[labels].tolist(), p, None),
        (
            pd.Series(names[labels], index=[f"row {i}" for i in range(150)]),
            pd.DataFrame(p, columns=names),
            None,
        ),
        (names[labels], p[:, [2, 0, 1]], ["cat", "ape", "bee"]),
        (labels + 1, p, None),
    ):
        frame = lo.suspects(given, table, classes=classes)
        assert frame["is_label_issue"].tolist() == plain["is_label_issue"].tolist()
        assert frame["given_label"].tolist() == list(given)
    assert lo.suspects(pd.Series(labels, index=range(5, 155)), p).index.tolist() == list(range(5, 155))


def test_probabilities_by_chance_doubt_nothing_and_say_so() -> None:
    draw = np.random.default_rng(0)
    frame = lo.suspects(draw.integers(0, 3, 200), draw.dirichlet(np.ones(3), 200))
    assert not frame["is_label_issue"].any()
    assert "knows nothing of the labels" in frame.attrs["refusal"]


@pytest.mark.parametrize(
    ("labels", "table", "options", "error", "match"),
    [
        ([0, 1], [[0.5, 0.5]] * 3, {}, ShapeError, r"`labels` must have shape \(3,\)"),
        ([0, 1], [0.5, 0.5], {}, ShapeError, "pass both columns"),
        ([0, 1], [[0.5, 0.5], [1.5, -0.5]], {}, DataError, "row 1 has .*softmax"),
        ([0, 1], [[0.5, 0.5], [0.5, np.nan]], {}, DataError, "row 1 has"),
        ([0, 1], [["a", "b"], ["c", "d"]], {}, DataError, "must be numbers"),
        (["a", "b", "c"], [[0.5, 0.5]] * 3, {}, OptionError, "3 distinct labels do not name 2 columns"),
        (["a", "z"], [[0.5, 0.5]] * 2, {"classes": ["a", "b"]}, DataError, "row 1 is 'z'"),
        (["a", "b"], [[0.5, 0.5]] * 2, {"classes": ["a", "a"]}, OptionError, "each of the 2 columns"),
    ],
)
def test_what_is_no_answer_is_refused(labels, table, options, error, match) -> None:
    with pytest.raises(error, match=match):
        lo.suspects(labels, table, **options)
