"""The lists of the explorer are those of a full sort, and end where the sign changes."""

import numpy as np

from leftout.report import ranking
from problems import synthetic_findings as made


def test_the_strongest_of_each_side_are_those_of_a_full_sort() -> None:
    found = made.digits_findings(150, 25, times=(1.0, np.inf))
    asked = np.array([0, 3, 24])
    kept = ranking.rank_influences(found, asked)
    labels = found.train.labels.numpy()
    for at in range(2):
        for place, q in enumerate(asked):
            scores = found.scores.values[at, q]
            order = sorted(range(150), key=lambda i: (-scores[i], i))
            assert kept.rows[at, place, 0].tolist() == order[: ranking.LENGTH]
            assert kept.rows[at, place, 1].tolist() == order[::-1][: ranking.LENGTH]
            of_three = [i for i in order if labels[i] == 3 and scores[i] > 0][: ranking.PER_CLASS]
            listed = [i for i in kept.class_rows[at, place, 3, 0].tolist() if i >= 0]
            assert listed == of_three
            values = kept.strengths[at, place, 0]
            np.testing.assert_array_equal(values, scores[order[:12]].astype(np.float32))
    np.testing.assert_allclose(kept.mean, found.scores.values.mean(1), rtol=1e-12, atol=1e-15)


def test_a_helpful_list_ends_where_the_sign_changes() -> None:
    rows, values = ranking._strongest(np.array([[-1.0, 0.0, 2.0, -3.0, 2.0]]), None, 4)
    assert rows.tolist() == [[[2, 4, -1, -1], [3, 0, -1, -1]]]
    assert values.tolist() == [[[2.0, 2.0, 0.0, 0.0], [-3.0, -1.0, 0.0, 0.0]]]
