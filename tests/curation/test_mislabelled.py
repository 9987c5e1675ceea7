"""Which labels are wrong? The margins are those of refits, the reasons add up, flips are found."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

import leftout as lo
from laws import assert_same
from leftout.curation.mislabelled import FENCE, find_mislabelled
from leftout.data.planted import flip_labels
from oracles import definitions as oracles
from oracles import doubt as oracle
from problems.curated import BINARY, THREE, classified, coded, fitted_to, learnable, margin, scores_without
from problems.small import problem, training

RULES = {
    "ridge": (lo.Ridge(0.05), None),
    "mean ridge": (lo.Ridge(0.003, "mean"), None),
    "flow": (lo.GradientFlow(1.0, 0.01), 30.0),
    "descent": (lo.GradientDescent(0.9), 40),
}


@pytest.fixture(scope="module")
def digits():
    return lo.load("digits")[0]


@pytest.mark.parametrize("classes", [BINARY, THREE])
@pytest.mark.parametrize(("rule", "time"), RULES.values(), ids=RULES)
def test_margins_and_scores_are_those_of_refits(rule, time, classes) -> None:
    made, labels, _ = learnable(classes)
    found = find_mislabelled(fitted_to(made, labels, rule), at=time)
    scores = scores_without(made, labels, classes, training(rule, time))
    want = np.array([margin(scores[i], labels[i]) for i in range(made.n)])
    assert_same(found.margins, want)
    for one in found.suspects:
        assert_same(one.scores, scores[one.row])
        assert one.given == str(labels[one.row])
        q = found.probabilities[one.row]
        assert one.suggested == str(max(set(range(classes)) - {labels[one.row]}, key=lambda c, q=q: q[c]))
        assert one.probability == float(q[labels[one.row]])
        assert one.margin == float(found.margins[one.row])


@pytest.mark.parametrize("classes", [BINARY, THREE])
def test_all_and_only_what_calibrated_refits_doubt_is_doubted_the_lowest_margin_first(classes) -> None:
    made, labels, _ = learnable(classes)
    found = find_mislabelled(fitted_to(made, labels, lo.Ridge(0.05)))
    scores = scores_without(made, labels, classes, training(lo.Ridge(0.05)))
    # Two classes in one column are −1 and +1, twice as far apart as one-hot targets.
    q = oracle.calibrated((scores / (2 if classes == BINARY else 1)).tolist(), labels[: made.n].tolist())
    rows, refused, _ = oracle.doubted(q.tolist(), labels[: made.n].tolist())
    assert not refused
    assert rows, "nothing to see in this problem"
    np.testing.assert_allclose(found.probabilities, q, atol=1e-3)  # two searches, each to 1e-5 of a gradient
    margins = found.margins.numpy()
    assert [one.row for one in found.suspects] == sorted(rows, key=lambda i: margins[i])


def test_labels_that_have_nothing_to_do_with_the_kernel_are_not_doubted() -> None:
    made, labels = classified(THREE)
    found = find_mislabelled(fitted_to(made, labels, lo.Ridge(0.05)))
    assert (found.margins < 0).any()
    assert found.suspects == ()
    assert "knows nothing of the labels" in found.refusal


@pytest.mark.parametrize("classes", [BINARY, THREE])
@pytest.mark.parametrize(("rule", "time"), RULES.values(), ids=RULES)
def test_pulls_are_terms_of_the_left_out_prediction_and_add_up(rule, time, classes) -> None:
    made, labels, _ = learnable(classes)
    targets = coded(labels[: made.n], classes)
    suspects = find_mislabelled(fitted_to(made, labels, rule), at=time).suspects
    assert suspects
    for one in suspects:
        keep = np.setdiff1d(np.arange(made.n), [one.row])
        dual = oracles.dual(made.gram[np.ix_(keep, keep)], targets[keep], training(rule, time))
        scores = np.hstack([-dual, dual]) if classes == BINARY else dual
        toward = scores[:, int(one.suggested)] - scores[:, int(one.given)]
        terms = made.gram[one.row, keep] * toward
        # The law: over all training examples the pulls are the difference of the scores.
        gap = one.scores[int(one.suggested)] - one.scores[int(one.given)]
        assert_same(terms.sum(), gap, rtol=1e-8)  # terms cancel: a digit is lost in their sum
        best = np.argsort(-terms, kind="stable")[:5]
        best = [j for j in best if terms[j] > 0]
        assert [near.row for near in one.opposing] == keep[best].tolist()
        assert_same([near.pull for near in one.opposing], terms[best])


def test_pulls_miss_the_centre_alone_where_targets_are_centred_by_their_mean() -> None:
    train, _ = lo.load("digits", n_train=60, n_query=10, centre="mean")
    train = flip_labels(train, 0.1, generator=torch.Generator().manual_seed(0)).examples
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), train, rule=lo.Ridge(0.1))
    offset = train.targets.new_tensor(train.encoding.offset)
    found = find_mislabelled(fitted).suspects
    assert found
    for one in found:
        keep = torch.arange(60) != one.row
        shifted = fitted.gram[keep][:, keep] + 0.1 * torch.eye(59, dtype=torch.float64)
        dual = torch.linalg.solve(shifted, train.targets[keep])
        to, away = (train.classes.index(name) for name in (one.suggested, one.given))
        pulls = fitted.gram[one.row, keep] * (dual[:, to] - dual[:, away])
        assert_same(pulls.sum(), one.scores[to] - one.scores[away] - (offset[to] - offset[away]))


@pytest.mark.parametrize("n", [23, 24])
@pytest.mark.parametrize(("rule", "time"), RULES.values(), ids=RULES)
def test_the_margin_of_a_number_is_how_far_it_stays_inside_the_fence(rule, time, n) -> None:
    made = problem(n=n, k=2)
    predicted = oracles.out_of_sample(made.gram, made.residual, training(rule, time))
    residual = made.residual - predicted
    spread = np.abs(residual - np.median(residual, axis=0))
    inside = FENCE * 1.4826 * np.median(spread, axis=0) - spread
    found = find_mislabelled(made.fitted(rule), at=time)
    assert_same(found.margins, inside.min(1))


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_number_with_a_gross_error_is_doubted_first_and_nearly_restored(outputs) -> None:
    draw = np.random.default_rng(0)
    inputs = draw.standard_normal((80, 3))
    targets = inputs @ draw.standard_normal((3, outputs)) + 7.0
    wrong = targets.copy()
    wrong[31, outputs - 1] += 25.0
    kernel = lo.kernels.From(lambda x, z: x @ z.T + 1.0)
    found = find_mislabelled(lo.fit(kernel, (inputs, wrong), rule=lo.Ridge(1e-6)))
    first = found.suspects[0]
    assert first.row == 31
    assert first.given == f"{wrong[31, outputs - 1]:.6g}"
    # The model is linear as the data are, and never saw the error: only the ridge is in the way.
    assert_same(float(first.suggested), targets[31, outputs - 1], rtol=1e-4)
    assert_same(first.scores, targets[31], rtol=1e-4)
    assert "further off than 3.5 robust standard deviations" in first.reason


def test_pulls_of_a_number_point_to_what_is_suggested() -> None:
    draw = np.random.default_rng(0)
    inputs = draw.standard_normal((30, 3))
    targets = inputs @ draw.standard_normal((3, 1)) + 0.1 * draw.standard_normal((30, 1))
    targets[7] += 40.0
    fitted = lo.fit(lo.kernels.From(lambda x, z: x @ z.T), (inputs, targets), rule=lo.Ridge(0.05))
    (one,) = (one for one in find_mislabelled(fitted).suspects if one.row == 7)
    keep, gram = np.setdiff1d(np.arange(30), [7]), inputs @ inputs.T
    dual = np.linalg.solve(gram[np.ix_(keep, keep)] + 0.05 * np.eye(29), targets[keep])
    sign = np.sign(one.scores[0] - targets[7, 0])
    terms = sign * gram[7, keep] * dual[:, 0]
    best = np.argsort(-terms)[:5]
    best = [j for j in best if terms[j] > 0]
    assert [near.row for near in one.opposing] == keep[best].tolist()
    assert_same([near.pull for near in one.opposing], terms[best], rtol=1e-7)  # the dual is ill-conditioned


def test_equal_numbers_are_not_doubted() -> None:
    inputs = np.random.default_rng(0).standard_normal((30, 3))
    kernel = lo.kernels.From(lambda x, z: x @ z.T)
    found = find_mislabelled(lo.fit(kernel, (inputs, np.zeros(30)), rule=lo.Ridge(1.0)))
    assert found.suspects == ()
    assert_same(found.margins, np.zeros(30))


@pytest.mark.parametrize("classes", [BINARY, THREE])
def test_before_training_nobody_is_doubted(classes) -> None:
    made, labels = classified(classes)
    found = find_mislabelled(fitted_to(made, labels, lo.GradientFlow(1.0)), at=0)
    assert found.suspects == ()
    assert_same(found.margins, np.zeros(made.n))


def test_late_flow_doubts_what_ridge_doubts() -> None:
    made, labels = classified(THREE)
    late = find_mislabelled(fitted_to(made, labels, lo.GradientFlow(1.0, 0.05)), at=1e4)
    end = find_mislabelled(fitted_to(made, labels, lo.Ridge(0.05)))
    assert_same(late.margins, end.margins)
    assert [one.row for one in late.suspects] == [one.row for one in end.suspects]


@pytest.mark.parametrize("time", [None, 30.0])
def test_the_order_of_the_rows_does_not_matter(time) -> None:
    train, _ = lo.load("digits", n_train=80, n_query=10)
    order = np.random.default_rng(0).permutation(len(train))
    rule = lo.GradientFlow(1.0, 0.1)
    kernel = lo.kernels.TwoLayerReLU()
    straight = find_mislabelled(lo.fit(kernel, train, rule=rule), at=time)
    shuffled = find_mislabelled(lo.fit(kernel, train.select(order), rule=rule), at=time)
    assert_same(shuffled.margins, straight.margins[torch.from_numpy(order)])
    assert [int(order[one.row]) for one in shuffled.suspects] == [one.row for one in straight.suspects]
    assert [one.reason for one in shuffled.suspects] == [one.reason for one in straight.suspects]


def test_two_examples_of_two_classes_can_be_judged() -> None:
    pair = (torch.eye(2, dtype=torch.float64), np.array([0, 1]))
    kernel = lo.kernels.From(lambda x, z: x @ z.T + 1.0)
    found = find_mislabelled(lo.fit(kernel, pair, rule=lo.Ridge(0.1)))
    # Each is predicted by the other, which is of the other class: f = ±1/(2.1), margin −2·f.
    assert_same(found.margins, [-2 / 2.1, -2 / 2.1])
    assert found.suspects == ()
    assert found.refusal


def test_class_names_and_ids_stand_in_reasons_as_they_are() -> None:
    across = np.linspace(0.0, 0.4, 12)[:, None]
    inputs = np.vstack([np.hstack([1 - across, across]), np.hstack([across, 1 - across]), [[0.95, 0.1]]])
    labels = np.array(["<script>"] * 12 + ["[bold red]"] * 13)
    kernel = lo.kernels.From(lambda x, z: x @ z.T)
    (one,) = find_mislabelled(lo.fit(kernel, (inputs, labels), rule=lo.Ridge(0.1))).suspects
    assert (one.row, one.given, one.suggested) == (24, "[bold red]", "<script>")
    assert re.search(r"the model says <script> \(\d\d%\) rather than \[bold red\] \(\d+%\)", one.reason)
    speaking = ", ".join(str(near.row) for near in one.opposing[:3])
    assert one.reason.endswith(f"Speaking most for <script>: {speaking}.")


def measured(train, ridge, seed):
    """Return the area under the curve of −margin, shares of right suggestions, and how doubts do.

    Suggestions of the flips among as many rows of least margin as there are flips; and of all flips. Then the
    share of the doubted that are flips, and of the flips that are doubted.
    """
    planted = flip_labels(train, 0.1, generator=torch.Generator().manual_seed(seed))
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), planted.examples, rule=lo.Ridge(ridge))
    found = find_mislabelled(fitted)
    flips = set(planted.rows.tolist())
    wrong = [i in flips for i in range(len(train))]
    area = roc_auc_score(wrong, -found.margins.numpy())
    truth = [train.classes[c] for c in planted.truth.tolist()]
    best = found.probabilities.clone()
    best[torch.arange(len(train)), planted.examples.labels] = -1
    right = {row for row in flips if train.classes[int(best[row].argmax())] == truth[row]}
    first = [row for row in found.margins.argsort().tolist()[: len(flips)] if row in flips]
    doubted = {one.row for one in found.suspects}
    among_found = sum(row in right for row in first) / len(first)
    found_right = len(doubted & flips)
    return area, among_found, len(right) / len(flips), found_right / len(doubted), found_right / len(flips)


def test_flipped_digits_are_found_and_rightly_renamed(digits) -> None:
    found = np.array([measured(digits, 0.1, seed) for seed in range(3)])
    assert found[:, 0].min() >= 0.999, found
    assert found[:, 1].mean() >= 0.97, found
    assert found[:, 2].mean() >= 0.97, found
    assert found[:, 3].mean() >= 0.95, found
    assert found[:, 4].mean() >= 0.95, found


@pytest.mark.slow
def test_flipped_mnist_images_are_found_and_rightly_renamed(shared_data: Path) -> None:
    found = []
    for seed in range(3):
        train, _ = lo.load(f"mnist:{shared_data / 'mnist'}", n_train=3000, n_query=10, seed=seed)
        found.append([measured(train, ridge, seed) for ridge in (0.03, 0.1)])
    areas, among_found = np.array(found)[:, :, 0], np.array(found)[:, :, 1]
    assert areas.min() >= 0.996, found
    assert among_found[:, 0].mean() >= 0.97, found
