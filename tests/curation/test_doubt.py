"""Are labels doubted by the rule as it is written, and none where nothing is known?"""

import numpy as np
import pytest

import leftout as lo
from laws import assert_same
from leftout.core.errors import LeftoutError
from leftout.curation.calibration import calibrate
from leftout.curation.doubt import WRONG, doubts, numbers_refusal, wrong_probability
from leftout.curation.mislabelled import find_mislabelled, one_hot_scores
from oracles import doubt as oracle


def drawn(n, classes, seed, *, strength=1.0, shares=None):
    """Return scores as of one-hot targets, and labels of which some do not go with them."""
    draw = np.random.default_rng(seed)
    labels = draw.choice(classes, n, p=shares)
    labels[: 2 * classes] = np.repeat(np.arange(classes), 2)
    scores = strength * np.eye(classes)[labels] + 0.25 * draw.standard_normal((n, classes))
    wrong = draw.choice(n, n // 10, replace=False)
    labels[wrong] = (labels[wrong] + 1) % classes
    return scores, labels


@pytest.mark.parametrize("shares", [None, (0.8, 0.15, 0.05)])
@pytest.mark.parametrize("strength", [1.0, 0.3])
def test_probabilities_and_doubts_are_those_of_the_definition(strength, shares) -> None:
    scores, labels = drawn(60, 3, 1, strength=strength, shares=shares)
    q = oracle.calibrated(scores.tolist(), labels.tolist())
    found = doubts(scores, labels)
    # Both searches stop within 1e-5 of the optimum in units of one example's gradient.
    np.testing.assert_allclose(found.probabilities, q, atol=1e-3)
    np.testing.assert_allclose(found.wrong, oracle.wrong(found.probabilities, labels), rtol=1e-9, atol=1e-12)
    rows, refused, suggestions = oracle.doubted(found.probabilities.tolist(), labels.tolist())
    assert set(np.flatnonzero(found.doubted).tolist()) == rows
    assert bool(found.refusal) == refused
    assert found.suggested.tolist() == suggestions
    if strength == 1.0:
        assert rows


def test_probabilities_are_of_least_penalised_loss() -> None:
    scores, labels = drawn(80, 4, 0)
    found = calibrate(scores, labels)
    a = np.log(found.sharpness)
    least = oracle.penalised(a, found.offsets, scores, labels)
    draw = np.random.default_rng(0)
    for step in (1e-2, 1e-1, 1.0):
        for _ in range(20):
            moved = oracle.penalised(
                a + step * draw.standard_normal(),
                found.offsets + step * draw.standard_normal(4),
                scores,
                labels,
            )
            assert moved > least - 1e-8


def test_a_number_added_to_all_scores_of_an_example_changes_nothing() -> None:
    scores, labels = drawn(80, 3, 2)
    moved = scores + 100 * np.random.default_rng(0).standard_normal((80, 1))
    assert_same(doubts(moved, labels).probabilities, doubts(scores, labels).probabilities, rtol=1e-6)


def test_the_order_of_rows_and_of_classes_does_not_matter() -> None:
    scores, labels = drawn(80, 3, 3)
    order, classes = np.random.default_rng(0).permutation(80), np.array([2, 0, 1])
    straight = doubts(scores, labels)
    mixed = doubts(scores[order][:, np.argsort(classes)], classes[labels[order]])
    assert_same(mixed.probabilities[:, classes], straight.probabilities[order], rtol=1e-4)
    assert mixed.doubted.tolist() == straight.doubted[order].tolist()


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_shuffled_labels_are_not_doubted(classes) -> None:
    kernel = lo.kernels.ReLU(2, bias_variance=0.3)
    doubted, refused = 0, 0
    for seed in range(20):
        draw = np.random.default_rng(seed)
        labels = draw.permutation(np.arange(120) % classes)
        fitted = lo.fit(kernel, (draw.standard_normal((120, 5)), labels), rule=lo.Ridge("auto"))
        found = find_mislabelled(fitted)
        doubted += len(found.suspects)
        refused += bool(found.refusal)
    # One in twenty may pass the test by chance, and then doubts a few: less than 1 % of all labels.
    assert refused >= 17
    assert doubted <= 0.01 * 20 * 120


def test_where_nothing_is_known_it_is_said_and_what_helps() -> None:
    draw = np.random.default_rng(0)
    labels = draw.permutation(np.arange(100) % 2)
    found = doubts(draw.standard_normal((100, 2)), labels)
    assert not found.doubted.any()
    assert found.refusal.startswith("The model knows nothing of the labels: ")
    assert "no better than the shares of the classes" in found.refusal
    assert "Bring other features" in found.refusal


def test_unbalanced_classes_that_are_known_are_not_refused() -> None:
    scores, labels = drawn(300, 2, 0, strength=0.6, shares=(0.93, 0.07))
    assert (np.bincount(labels).max() / 300) > 0.8
    assert not doubts(scores, labels).refusal


def test_a_label_of_a_small_class_is_not_doubted_for_the_size_of_another() -> None:
    # The scores say next to nothing of the last rows; only their class is small.
    labels = np.array([0] * 90 + [1] * 10)
    scores = np.zeros((100, 2))
    scores[:90, 0] = 1.0
    scores[90:, 1] = 0.35
    scores[95:, 1] = np.array([0.0, 0.05, 0.1, 0.15, 0.2])
    found = doubts(scores, labels)
    share = np.array([0.9, 0.1])
    lift = found.probabilities / share
    for row in np.flatnonzero(found.doubted):
        assert lift[row, 0] > lift[row, 1]


def test_two_classes_in_one_column_or_in_two_are_doubted_alike() -> None:
    draw = np.random.default_rng(0)
    inputs = draw.standard_normal((100, 4))
    labels = (inputs[:, 0] > 0).astype(int)
    labels[:8] = 1 - labels[:8]
    train, _ = lo.load(((inputs, labels), (inputs[:4], labels[:4])), normalise=None)
    found = [
        find_mislabelled(lo.fit(lo.kernels.ReLU(1, bias_variance=0.3), examples, rule=lo.Ridge(0.1)))
        for examples in (train, train.in_columns(2))
    ]
    assert_same(found[0].probabilities, found[1].probabilities, rtol=1e-5)
    assert [one.row for one in found[0].suspects] == [one.row for one in found[1].suspects]
    assert {one.row for one in found[0].suspects} & set(range(8))


def test_cross_entropy_is_calibrated_as_probabilities() -> None:
    train, _ = lo.load("digits", classes=["3", "8"], n_train=60, n_query=10)
    fitted = lo.fit(lo.kernels.ReLU(1), train, rule=lo.Logistic(0.1))
    scores = one_hot_scores(fitted, lo.out_of_sample(fitted))
    assert scores.shape == (60, 2)
    assert_same(scores.sum(1), np.ones(60))
    assert find_mislabelled(fitted).probabilities is not None


def test_numbers_are_refused_where_the_mean_predicts_as_well() -> None:
    draw = np.random.default_rng(0)
    targets = draw.standard_normal((80, 1))
    noise = targets - draw.standard_normal((80, 1))
    assert "no better than their mean" in numbers_refusal(targets, noise)
    assert numbers_refusal(targets, 0.5 * targets) == ""


def test_a_gross_error_that_spoils_the_model_is_doubted_nevertheless() -> None:
    draw = np.random.default_rng(0)
    inputs = draw.standard_normal((30, 3))
    targets = inputs @ draw.standard_normal((3, 1)) + 0.1 * draw.standard_normal((30, 1))
    kernel = lo.kernels.From(lambda x, z: x @ z.T)
    shuffled = find_mislabelled(lo.fit(kernel, (inputs, draw.permutation(targets)), rule=lo.Ridge(0.05)))
    assert "knows nothing of the targets" in shuffled.refusal
    assert shuffled.suspects == ()
    targets[7] += 40.0
    found = find_mislabelled(lo.fit(kernel, (inputs, targets), rule=lo.Ridge(0.05)))
    assert 7 in [one.row for one in found.suspects]


def test_scores_that_no_number_calibrates_are_refused() -> None:
    scores, labels = drawn(40, 2, 0)
    with pytest.raises(LeftoutError, match=r"did not settle.*one-hot targets have 0 and 1"):
        calibrate(1e200 * scores, labels)


@pytest.mark.parametrize(("classes", "from_"), [(2, 0.300), (3, 0.198), (10, 0.072)])
def test_a_label_is_doubted_below_the_probability_that_the_docs_name(classes, from_) -> None:
    # w = e (1 − r) / q with q = (1 − ε) r + e (1 − r): above ¼ where q < e (1 − ε) / (e + (1 − ε − e) / 4).
    below, above = wrong_probability(np.array([from_ - 0.001, from_ + 0.001]), classes)
    assert below > WRONG > above
    e = 0.1 / (classes - 1) ** 0.75
    assert abs(from_ - e * 0.9 / (e + (0.9 - e) / 4)) < 1e-3
