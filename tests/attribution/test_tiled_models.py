"""A model in tiles answers what the dense one does, and what models fitted without examples say."""

import pytest
import torch

import leftout as lo
from laws import assert_same, difference
from leftout.core.errors import LeftoutError, OptionError
from leftout.solvers.tiled import triangle

KERNEL = lo.kernels.ReLU(2, bias_variance=0.3)
RIDGE = 0.1


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch) -> None:
    """Several tiles on a side, of which the last is smaller."""
    monkeypatch.setattr(triangle, "SIDES", (32,))


@pytest.fixture(scope="module")
def data():
    return lo.load("digits", n_train=110, n_query=12)


def model(train, dtype=torch.float64, rule=None, **options):
    return lo.fit(KERNEL, train, rule=rule or lo.Ridge(RIDGE), solver="tiled", tile_dtype=dtype, **options)


def refitted(train, query, without):
    """Return predictions by a dense solve without some examples, from the definition."""
    keep = torch.ones(len(train), dtype=torch.bool)
    keep[without] = False
    x, y = train.inputs[keep], train.targets[keep]
    gram = KERNEL.block(x, x) + RIDGE * torch.eye(len(x), dtype=torch.float64)
    return KERNEL.block(query.inputs, x) @ torch.linalg.solve(gram, y)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_leaving_out_is_fitting_without(data, dtype, rtol) -> None:
    train, query = data
    fitted = model(train, dtype)
    loss = lo.leave_one_out(fitted, query).values
    prediction = lo.leave_one_out(fitted, query, of="prediction").values
    left_out = lo.out_of_sample(fitted)
    full = refitted(train, query, [])
    assert_same(fitted.predict(query), full, 1e-10)  # refined: tiles of few digits do not show
    for row in (0, 31, 32, 77, 109):
        without = refitted(train, query, [row])
        want = 0.5 * ((without - query.targets) ** 2 - (full - query.targets) ** 2).sum(1)
        assert difference(loss[:, row], want) <= rtol
        assert difference(prediction[:, row], full - without) <= rtol
        assert difference(left_out[row], refitted(train, train.select(torch.tensor([row])), [row])[0]) <= rtol
    groups = [[1, 2, 3], list(range(20, 90))]
    changed = lo.leave_out(fitted, query, groups, of="prediction").values
    for place, group in enumerate(groups):
        assert difference(changed[:, place], full - refitted(train, query, group)) <= rtol


QUESTIONS = {
    "loss": lambda fitted, query: lo.leave_one_out(fitted, query).values,
    "mean": lambda fitted, query: lo.leave_one_out(fitted, query, mean=True).values,
    "top": lambda fitted, query: lo.leave_one_out(fitted, query, top=3)["helpful"].values,
    "first order": lambda fitted, query: lo.first_order(fitted, query).values,
    "relabel": lambda fitted, query: lo.relabel(fitted, query, [3, 40], [1, 2]).values,
    "reweight": lambda fitted, query: lo.reweight(fitted, query, [3, 40], 0.5).values,
    "weights": lambda fitted, query: lo.information(fitted, query)["weights"].values,
    "function": lambda fitted, query: lo.information(fitted, query)["function"].values,
    "complexity": lambda fitted, query: lo.complexity(fitted, [[1, 2], [50]], of="fitted").values,
    "removal": lambda fitted, query: lo.prune(fitted, query, shares=[0.2]).loss,
    "outliers": lambda fitted, query: [o.similarity for o in lo.outliers(fitted)],
    "subset": lambda fitted, query: lo.leave_one_out(fitted.subset(torch.arange(0, 110, 2)), query).values,
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_has_the_answer_of_the_dense_model(data, name) -> None:
    train, query = data
    dense = lo.fit(KERNEL, train, rule=lo.Ridge(RIDGE), solver="dense")
    assert_same(QUESTIONS[name](model(train), query), QUESTIONS[name](dense, query), 1e-9)


def test_a_mean_loss_changes_the_ridge_without_an_example(data) -> None:
    train, query = data
    rule = lo.Ridge(RIDGE / 110, loss="mean")
    dense = lo.fit(KERNEL, train, rule=rule)
    assert_same(lo.leave_one_out(model(train, rule=rule), query), lo.leave_one_out(dense, query), 1e-9)


def test_the_certificate_measures_tiles_of_few_digits(data) -> None:
    train, query = data
    certificate = lo.certify(model(train, torch.float32), query, refit_examples=5)
    dense = lo.certify(lo.fit(KERNEL, train, rule=lo.Ridge(RIDGE)), query, refit_examples=5)
    assert "float32" in certificate.dtype
    assert 1e-9 < certificate.refit_difference < 1e-4
    assert certificate.residual < 1e-12
    assert certificate.rounding == max(abs(refit.engine - refit.refit) for refit in certificate.refits)
    for name in ("condition", "effective_rank", "scale"):
        assert_same(getattr(certificate, name), getattr(dense, name), 1e-3)
    assert [refit.train for refit in certificate.refits] == [refit.train for refit in dense.refits]


def test_an_order_of_examples_changes_nothing_else(data) -> None:
    train, query = data
    order = torch.randperm(110, generator=torch.Generator().manual_seed(1))
    permuted = lo.leave_one_out(model(train.select(order)), query).values
    assert_same(permuted, lo.leave_one_out(model(train), query).values[:, order], 1e-9)


def test_it_is_chosen_where_whole_matrices_do_not_fit(data) -> None:
    train, _ = data
    assert not lo.fit(KERNEL, train, memory="4MB").is_tiled
    small = lo.fit(KERNEL, train, memory=200_000)
    assert small.is_tiled
    assert small.solved_in == "float64"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rule": lo.GradientFlow(1.0)}, "of the end of training by squared loss with a ridge"),
        ({"rule": lo.Ridge(0.0)}, "pass a `ridge` > 0"),
        ({"rule": lo.Logistic(0.1)}, "of the end of training by squared loss"),
        ({"tile_dtype": torch.float16}, "`tile_dtype` must be one of"),
    ],
)
def test_what_has_no_tiles_is_refused_in_a_sentence(data, options, words) -> None:
    with pytest.raises(OptionError, match=words):
        lo.fit(KERNEL, data[0], **{"solver": "tiled", **options})


def test_what_takes_the_whole_matrix_is_refused(data) -> None:
    train, _ = data
    fitted = model(train)
    for ask in (lambda: fitted.spectrum, lambda: lo.learning_curve(fitted, [200])):
        with pytest.raises(OptionError, match="takes the kernel matrix as a whole"):
            ask()
    with pytest.raises(OptionError, match='is of solver="tiled"'):
        lo.fit(KERNEL, train, solver="dense", tile_dtype=torch.float32)
    with pytest.raises(LeftoutError):
        lo.fit(KERNEL, train, solver="tilde")


def test_the_ridge_of_a_sample_is_said_to_be_one(data, monkeypatch) -> None:
    from leftout.dynamics import fit

    monkeypatch.setattr(fit, "SAMPLE", 60)
    ridges = []
    for loss in ("sum", "mean"):
        rule = lo.Ridge("auto", loss)
        fitted = lo.fit(KERNEL, data[0], rule=rule, solver="tiled")
        assert "in 60 examples drawn at random" in fitted.ridge_choice.text
        ridges.append(fitted.rule.effective_ridge(110))
    # The ridge on the matrix is that of the sample, however losses are added up (a mean: to one in sixty,
    # as of 60 examples one is left out).
    assert ridges[1] == pytest.approx(ridges[0], rel=1.1 / 60)


def test_features_choose_their_ridge_from_all_examples_where_a_matrix_does_not_fit(data, monkeypatch) -> None:
    """They have a spectrum: only a model in tiles has to take a sample."""
    from leftout.dynamics import fit

    monkeypatch.setattr(fit, "SAMPLE", 30)
    kernel = lo.kernels.LinearFeatures()
    small = data[0].inputs.flatten(1)[:, 10:15], data[0].targets
    by_all = lo.fit(kernel, small, rule=lo.Ridge("auto"), solver="dense").ridge_choice
    found = lo.fit(kernel, small, rule=lo.Ridge("auto"), memory=200_000)
    assert not found.is_tiled
    assert found.ridge_choice.sample is None
    assert found.ridge_choice.ridge == by_all.ridge


def test_tiles_of_another_kernel_are_not_taken_for_those_of_this_one(data, tmp_path) -> None:
    fitted = model(data[0])
    fitted.factorisations.tiles_folder = tmp_path
    fitted.inverse(RIDGE)
    other = lo.fit(lo.kernels.ReLU(1), data[0], rule=lo.Ridge(RIDGE), solver="tiled")
    other.factorisations.tiles_folder = tmp_path
    with pytest.raises(LeftoutError, match="belongs to another model"):
        other.inverse(RIDGE)


@pytest.mark.parametrize("loss", ["sum", "mean"])
def test_a_ridge_of_all_examples_is_found_from_one_of_a_sample(data, monkeypatch, loss) -> None:
    """With wrong labels a sample of a few asks for another ridge than all examples do."""
    from leftout.dynamics import fit

    monkeypatch.setattr(fit, "SAMPLE", 20)
    train = data[0].inputs, data[0].labels.clone()
    train[1][::4] = train[1][::4].flip(0)
    wanted = lo.choose_ridge(KERNEL, train, loss=loss, solver="dense")
    sampled = lo.fit(KERNEL, train, rule=lo.Ridge("auto", loss), solver="tiled").ridge_choice
    found = lo.choose_ridge(KERNEL, train, loss=loss, solver="tiled", tile_dtype=torch.float32)
    by_ridge = dict(zip(wanted.ridges, wanted.losses, strict=True))
    assert sampled.ridge < wanted.ridge / 10
    assert found.sample is None
    assert found.ridge == pytest.approx(wanted.ridge, rel=1e-3)
    assert min(found.losses) == pytest.approx(by_ridge[wanted.ridge], rel=1e-4)
    assert found.ridges.index(found.ridge) not in (0, len(found.ridges) - 1)
