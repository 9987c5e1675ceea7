"""Kernels that see labels: leaving one out teaches them again, against machines built from nothing."""

import gc
import weakref

import numpy as np
import pytest
import torch

import leftout as lo
from leftout.attribution.engine.refit_each import RefitEach
from leftout.core.errors import DataError, NotPositiveError, OptionError
from leftout.curation.subclasses import subclasses_by
from leftout.kernels.pairwise.label_aware import LabelAware
from oracles.refit_kernel import predictions
from problems.label_kernels import LEARNED, REGRESSED, M, N, points, worst

ESTIMATORS = ("kr-v1", "kr-v2", "fjlt-v1", "fjlt-v2")


def problem(estimator, *, classes=2, strength=0.1, ridge=0.5, seed=0, rule=None, **more):
    rows, labels = points(seed, N + M, classes)
    kernel = LabelAware(lo.kernels.ReLU(1), estimator, strength, **more)
    fitted = lo.fit(kernel, (rows[:N], labels[:N]), rule=rule or lo.Ridge(ridge))
    return fitted, (rows[N:], labels[N:])


def losses(said: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return ((said - targets) ** 2).sum(-1) / 2


def fresh(fitted, keep, query, labels=None):
    """Predictions of a model made of some examples and nothing else."""
    train = fitted.train if labels is None else fitted.train.with_labels(labels)
    model = lo.fit(fitted.kernel.options, train.select(torch.tensor(keep)), rule=fitted.rule)
    return model.predict(query).numpy()


@pytest.mark.parametrize("classes", [2, 3])
def test_leaving_one_out_is_teaching_by_the_others_from_the_definition(classes):
    rows, labels = points(3, N + M, classes)
    fitted, query = problem("kr-v1", classes=classes, seed=3, strength=0.3)
    base = lo.kernels.From(lambda a, b: lo.kernels.ReLU(1).block(a, b))
    gram = base.block(torch.tensor(rows), torch.tensor(rows)).numpy()
    encoding = fitted.train.encoding
    targets = encoding.encode(torch.tensor(labels)).numpy()
    asked = np.arange(N, N + M)

    def said(train):
        return predictions(gram, labels, targets, train, asked, strength=0.3, ridge=fitted.rule.ridge)

    everyone = np.arange(N)
    before = losses(said(everyone), targets[asked])
    expected = np.stack(
        [losses(said(np.delete(everyone, i)), targets[asked]) - before for i in range(N)], axis=1
    )
    assert worst(lo.leave_one_out(fitted, query).values, expected) < REGRESSED
    own = [
        predictions(
            gram,
            labels,
            targets,
            np.delete(everyone, i),
            np.array([i]),
            strength=0.3,
            ridge=fitted.rule.ridge,
        )[0]
        for i in range(N)
    ]
    assert worst(lo.out_of_sample(fitted), own) < REGRESSED


@pytest.mark.parametrize("rule", [lo.Ridge(0.5), lo.Ridge(0.05, loss="mean")], ids=["sum", "mean"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_leaving_one_out_is_a_fit_of_the_others(estimator, rule):
    fitted, query = problem(estimator, rule=rule)
    found = lo.leave_one_out(fitted, query, of="prediction").values[..., 0]
    before = fitted.predict(query[0]).numpy()
    for i in range(N):
        keep = [j for j in range(N) if j != i]
        assert worst(found[:, i], (before - fresh(fitted, keep, query[0]))[:, 0]) < LEARNED


def test_at_a_training_time_too():
    fitted, query = problem("kr-v1", strength=0.001, rule=lo.GradientFlow(1.0))
    found = lo.leave_one_out(fitted, query, at=[0.5, 3.0], of="prediction").values[..., 0]
    for i in (0, 5):
        keep = [j for j in range(N) if j != i]
        other = lo.fit(fitted.kernel.options, fitted.train.select(torch.tensor(keep)), rule=fitted.rule)
        for position, at in enumerate((0.5, 3.0)):
            change = (fitted.predict(query[0], at) - other.predict(query[0], at))[:, 0]
            assert worst(found[position, :, i], change) < LEARNED


@pytest.mark.parametrize("estimator", ["kr-v1", "fjlt-v1"])
def test_groups_and_labels_are_taught_again(estimator):
    fitted, query = problem(estimator)
    before = fitted.predict(query[0]).numpy()
    groups = [[0], [1, 2, 5]]
    found = lo.leave_out(fitted, query, groups, of="prediction").values[..., 0]
    for column, group in enumerate(groups):
        keep = [j for j in range(N) if j not in group]
        assert worst(found[:, column], (before - fresh(fitted, keep, query[0]))[:, 0]) < LEARNED
    labels = fitted.train.labels.clone()
    labels[3] = 1 - labels[3]
    other = fresh(fitted, list(range(N)), query[0], labels)
    found = lo.relabel(fitted, query, 3, int(labels[3]), of="prediction").values[:, 0, 0]
    assert worst(found, (before - other)[:, 0]) < LEARNED


def test_a_group_of_one_is_that_one():
    fitted, query = problem("kr-v2")
    one = lo.leave_one_out(fitted, query).values
    groups = lo.leave_out(fitted, query, [[i] for i in range(N)]).values
    assert worst(groups, one) < REGRESSED


def test_the_same_label_again_changes_nothing():
    fitted, query = problem("kr-v1")
    again = lo.relabel(fitted, query, 2, int(fitted.train.labels[2])).values
    assert np.abs(again).max() < 1e-12


def test_without_all_examples_the_network_stays_where_it_began():
    fitted, query = problem("kr-v1")
    found = lo.leave_out(fitted, query, [list(range(N))], of="prediction").values[:, 0]
    assert worst(found, fitted.predict(query[0])) < REGRESSED


def test_at_strength_0_it_is_the_base():
    fitted, query = problem("fjlt-v1", strength=0.0)
    rows, labels = points(0, N + M)
    base = lo.fit(lo.kernels.ReLU(1), (rows[:N], labels[:N]), rule=lo.Ridge(0.5))
    assert worst(lo.leave_one_out(fitted, query), lo.leave_one_out(base, query)) < REGRESSED


def test_names_of_classes_mean_nothing():
    rows, labels = points(0, N + M)
    scores = []
    for named in (labels, 1 - labels):
        fitted = lo.fit(LabelAware(lo.kernels.ReLU(1), "kr-v1"), (rows[:N], named[:N]))
        scores.append(lo.leave_one_out(fitted, (rows[N:], named[N:])).values)
    assert worst(scores[0], scores[1]) < REGRESSED


def test_frozen_labels_are_another_question_and_say_so():
    fitted, query = problem("kr-v1", strength=0.3)
    frozen, _ = problem("kr-v1", strength=0.3, frozen=True)
    true = lo.leave_one_out(fitted, query)
    kept = lo.leave_one_out(frozen, query)
    assert np.abs(true - kept).max() > 1e-3 * np.abs(true).max()
    assert '"frozen": true' in kept.attrs["kernel"]
    assert '"frozen": false' in true.attrs["kernel"]
    assert worst(lo.leave_one_out(fitted.freeze_labels(), query), kept) == 0
    # By the textbook formula, of the kernel matrix as it is.
    inverse = np.linalg.inv(frozen.gram.numpy() + 0.5 * np.eye(N))
    alpha = inverse @ frozen.train.targets.numpy()
    cross = frozen.cross(torch.tensor(query[0])).numpy() @ inverse
    said = cross * (alpha / np.diag(inverse)[:, None]).T
    found = lo.leave_one_out(frozen, query, of="prediction").values[..., 0]
    assert worst(found, said) < REGRESSED


def test_frozen_and_true_part_in_proportion_to_a_small_strength():
    apart = []
    for strength in (0.001, 0.002):
        fitted, query = problem("kr-v1", strength=strength)
        true = lo.leave_one_out(fitted, query).values
        apart.append(np.abs(true - lo.leave_one_out(fitted.freeze_labels(), query).values).max())
    # Second order in a strength of 0.002 is 0.2 % of the first, times what derivatives differ by.
    assert apart[1] / apart[0] == pytest.approx(2, rel=0.05)


def test_a_kernel_with_negative_eigenvalues_is_solved_and_certified():
    fitted, query = problem("fjlt-v1", strength=1.0, ridge=0.05, seed=4)
    values = np.linalg.eigvalsh(fitted.gram.numpy())
    assert values[0] < -0.05, "or the test says nothing"
    dual = np.linalg.solve(fitted.gram.numpy() + 0.05 * np.eye(N), fitted.train.targets.numpy())
    assert worst(fitted.predict(fitted.train), fitted.gram.numpy() @ dual) < LEARNED
    certificate = lo.certify(fitted, query, refit_examples=N)
    assert certificate.smallest == pytest.approx(values[0])
    sizes = np.abs(values + 0.05)
    assert certificate.condition == pytest.approx(sizes.max() / sizes.min())
    assert certificate.scale >= float(fitted.predict(query[0]).abs().max())
    assert certificate.scale >= float(fitted.predict(fitted.train).abs().max())
    assert certificate.refit_difference < 1e-5
    with pytest.raises(NotPositiveError, match="Labels have made the kernel indefinite"):
        problem("fjlt-v1", strength=1.0, seed=4, rule=lo.GradientFlow(1.0))[0].predict(fitted.train, 3.0)


@pytest.mark.parametrize(
    "ask",
    [
        lambda fitted, query: lo.information(fitted, query),
        lambda fitted, query: lo.first_order(fitted, query),
        lambda fitted, query: lo.reweight(fitted, query, 0, 2.0),
        lambda fitted, query: lo.add(fitted, query, query[0][:1], [0]),
        lambda fitted, query: lo.complexity(fitted, {"a": [0, 1]}),
        lambda fitted, query: lo.learning_curve(fitted, [100]),
        lambda fitted, query: lo.prune(fitted, query),
        lambda *_: lo.trajectory(problem("kr-v1", rule=lo.GradientFlow(1.0))[0]),
        lambda fitted, query: fitted.spectrum,
    ],
    ids=[
        "information",
        "first_order",
        "reweight",
        "add",
        "complexity",
        "learning_curve",
        "prune",
        "trajectory",
        "spectrum",
    ],
)
def test_what_takes_the_kernel_as_it_is_must_be_told_so(ask):
    fitted, query = problem("kr-v1")
    with pytest.raises(OptionError, match=r"changes without an example.*freeze_labels"):
        ask(fitted, query)


def test_numbers_have_no_classes_to_teach():
    rows, _ = points(0, N)
    with pytest.raises(DataError, match="`train` must have classes for a kernel that sees labels"):
        lo.fit(LabelAware(lo.kernels.ReLU(1)), (rows, np.linspace(0, 1, N)))


@pytest.mark.parametrize(
    "ask",
    [
        lambda fitted, query: lo.leave_one_out(
            fitted, query, spread=True, prior=lo.kernels.ReLU(1, kind="nngp")
        ),
        lambda fitted, _: subclasses_by(fitted, torch.ones(N, dtype=torch.float64)),
    ],
    ids=["spread", "subclasses"],
)
def test_nothing_is_said_of_a_kernel_that_changes_as_if_it_stayed(ask):
    fitted, query = problem("kr-v1")
    with pytest.raises(OptionError, match="freeze_labels"):
        ask(fitted, query)
    ask(fitted.freeze_labels(), query)


def test_a_model_that_was_asked_goes_when_nobody_holds_it():
    fitted, query = problem("kr-v1")
    lo.leave_one_out(fitted, query)
    lo.out_of_sample(fitted)
    lo.certify(fitted, query, refit_examples=1)
    gone = weakref.ref(fitted)
    del fitted
    gc.collect()
    assert gone() is None


def test_a_certificate_says_the_engine_s_own_numbers_where_they_are_known(monkeypatch):
    fitted, query = problem("kr-v1")
    lo.leave_one_out(fitted, query)
    true = RefitEach.singles
    monkeypatch.setattr(RefitEach, "singles", lambda *asked: 2 * true(*asked))
    assert lo.certify(fitted, query, refit_examples=2).refit_difference > 0.1


def test_a_certificate_teaches_as_often_as_it_refits(monkeypatch):
    fitted, query = problem("kr-v1")
    taught = []
    true = type(fitted.kernel).refit_labels
    monkeypatch.setattr(
        type(fitted.kernel),
        "refit_labels",
        lambda self, keep, *labels: taught.append(len(keep)) or true(self, keep, *labels),
    )
    certificate = lo.certify(fitted, query, refit_examples=2)
    assert taught == [N - 1, N - 1]
    assert len(certificate.refits) == 2
    assert certificate.refit_difference < LEARNED


def test_a_base_keeps_its_dtype():
    rows, labels = points(0, N)
    module = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    base = lo.kernels.Empirical(module, outputs="trace", weights="initial")
    fitted = lo.fit(LabelAware(base, "kr-v1"), (rows, labels))
    assert fitted.kernel_dtype == torch.float32
    assert fitted.record["kernel_dtype"] == "float32"


def test_a_class_of_one_example_cannot_teach_without_it():
    rows, labels = points(0, N)
    labels = (np.arange(N) == 0).astype(int)
    fitted = lo.fit(LabelAware(lo.kernels.ReLU(1), "kr-v1"), (rows, labels))
    with pytest.raises(DataError, match=r"Without '0' the kernel cannot be fitted to labels.*two classes"):
        lo.leave_one_out(fitted, (rows[1:3], labels[1:3]))


def test_a_kernel_that_was_taught_is_not_fitted_to_other_examples_by_mistake():
    fitted, query = problem("fjlt-v1")
    rows, labels = points(0, N + M)
    order = np.random.default_rng(5).permutation(N)
    other = (rows[order], labels[order])
    with pytest.raises(OptionError, match=r"is fitted to labels already.*kernel\.options"):
        lo.fit(fitted.kernel, other, rule=lo.Ridge(0.5))
    # Kept as it is, it compares any inputs: in another order the same model.
    kept = lo.fit(fitted.kernel.freeze_labels(), other, rule=lo.Ridge(0.5))
    assert worst(kept.predict(query[0]), fitted.predict(query[0])) < LEARNED
    few = lo.fit(fitted.kernel.freeze_labels(), (rows[:9], labels[:9]), rule=lo.Ridge(0.5))
    gram = fitted.gram.numpy()[:9, :9] + 0.5 * np.eye(9)
    cross = fitted.cross(torch.tensor(query[0])).numpy()[:, :9]
    assert worst(few.predict(query[0]), cross @ np.linalg.solve(gram, few.train.targets.numpy())) < LEARNED


def test_an_example_is_added_to_an_indefinite_model():
    frozen, query = problem("fjlt-v1", strength=1.0, frozen=True, seed=4)
    new = points(9, 1)[0]
    gram = np.block(
        [
            [frozen.gram.numpy(), frozen.cross(torch.tensor(new)).numpy().T],
            [frozen.cross(torch.tensor(new)).numpy(), frozen.kernel.diagonal(torch.tensor(new)).numpy()],
        ]
    )
    assert np.linalg.eigvalsh(gram)[0] < -0.5, "or the test says nothing"
    cross = np.concatenate(
        [
            frozen.cross(torch.tensor(query[0])).numpy(),
            frozen.rows.between(torch.tensor(query[0]), torch.tensor(new)).numpy(),
        ],
        axis=1,
    )
    targets = np.append(frozen.train.targets.numpy()[:, 0], 1.0)
    told = cross @ np.linalg.solve(gram + 0.5 * np.eye(N + 1), targets)
    found = lo.add(frozen, query, new, [1], of="prediction").values[:, 0, 0]
    assert worst(found, told - frozen.predict(query[0]).numpy()[:, 0]) < LEARNED


def test_numbers_teach_the_hierarchy():
    rows, _ = points(0, N + M)
    targets = np.random.default_rng(1).normal(size=(N + M, 1))
    asked = lo.kernels.NeuralTangentHierarchy(width=64, activation="gelu", neurons=256)
    fitted = lo.fit(asked, (rows[:N], targets[:N]), rule=lo.Ridge(0.5))
    query = (rows[N:], targets[N:])
    others = np.delete(np.arange(N), 2)
    other = lo.fit(asked, (rows[others], targets[others]), rule=lo.Ridge(0.5))
    found = lo.leave_one_out(fitted, query, of="prediction").values[:, 2, 0]
    told = (fitted.predict(query[0]) - other.predict(query[0])).numpy()[:, 0]
    assert worst(found, told) < LEARNED
    moved = targets[:N].copy()
    moved[3] += 1
    again = lo.fit(asked, (rows[:N], moved), rule=lo.Ridge(0.5))
    found = lo.relabel(fitted, query, 3, moved[3], of="prediction").values[:, 0, 0]
    told = (fitted.predict(query[0]) - again.predict(query[0])).numpy()[:, 0]
    assert worst(found, told) < LEARNED
