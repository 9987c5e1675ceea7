"""Embeddings take the place of the inputs, row by row; what a person looks at stays that of the data."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import leftout as lo
from leftout.core.errors import DataError, LeftoutError, OptionError, ShapeError
from leftout.curation.mislabelled import find_mislabelled
from leftout.data.load import load
from leftout.data.planted import flip_labels
from leftout.kernels.wide.default import DEFAULT_KERNEL
from problems.data_files import picture

N = 12
FEATURES = np.random.default_rng(0).standard_normal((N, 3))
FRAME = pd.DataFrame(
    {"id": [f"a{i}" for i in range(N)], "word": list("abcdefghijkl"), "kind": ["x", "y"] * 6}
)


def rows_of(examples, names):
    return torch.from_numpy(FEATURES[[names.index(name) for name in examples.ids]])


def written(folder: Path, kind: str) -> object:
    """Return the same features as an array, a tensor or a file."""
    shuffled = np.random.default_rng(1).permutation(N)
    named = {"id": [f"a{i}" for i in shuffled]}
    if kind == "array":
        return FEATURES
    if kind == "tensor":
        return torch.from_numpy(FEATURES)
    path = folder / f"features.{'npy' if kind == 'npy' else 'parquet'}"
    if kind == "npy":
        np.save(path, FEATURES)
    elif kind == "columns":
        pd.DataFrame(FEATURES, columns=["u", "v", "w"]).to_parquet(path)
    elif kind == "ids":
        pd.DataFrame(named | {f"e{j}": FEATURES[shuffled, j] for j in range(3)}).to_parquet(path)
    elif kind == "lists":
        pd.DataFrame(named | {"embedding": list(FEATURES[shuffled])}).to_parquet(path)
    return str(path)


@pytest.mark.parametrize("kind", ["array", "tensor", "npy", "columns", "ids", "lists"])
def test_every_form_gives_each_example_its_own_row(tmp_path, kind) -> None:
    sets = load(FRAME, target="kind", embeddings=written(tmp_path, kind), normalise=None)
    for examples in sets:
        assert torch.equal(examples.inputs, rows_of(examples, list(FRAME["id"])))
        # A column of words that tell single rows apart would be left out as input; a person still sees it.
        assert examples.columns == ("word",)
        assert [row[0] for row in examples.table] == [FRAME["word"][int(name[1:])] for name in examples.ids]
    matched = "by id" if kind in ("ids", "lists") else "in the order of the data"
    record = sets[0].preparation["embeddings"]
    assert (record["numbers"], record["matched"]) == (3, matched)
    assert any(f"predicted from 3 numbers for each row in {record['name']}, matched {matched}" in note
               for note in sets[0].preparation["notes"])  # fmt: skip


def test_labels_alone_are_a_table_when_embeddings_are_given() -> None:
    train, query = load(FRAME[["id", "kind"]], embeddings=FEATURES)
    assert len(train) + len(query) == N
    with pytest.raises(DataError, match="must have columns beside the target"):
        load(FRAME[["id", "kind"]])


def test_pictures_stay_to_be_looked_at_and_columns_are_standardised(tmp_path) -> None:
    random = np.random.default_rng(0)
    names = []
    for i in range(N):
        path = tmp_path / ["cat", "dog"][i % 2] / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture(random.integers(0, 256, (5, 4), dtype=np.uint8)))
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    train, query = load(str(tmp_path), embeddings=FEATURES, normalise="standard")
    assert train.images.shape == (len(train), 5, 4)
    given = rows_of(train, names)
    expected = (given - given.mean(0)) / given.std(0, correction=0)
    assert torch.allclose(train.inputs, expected, atol=1e-14)
    assert torch.allclose(
        query.inputs, (rows_of(query, names) - given.mean(0)) / given.std(0, correction=0), atol=1e-14
    )
    assert train.preparation["of"] == "columns"


def test_embedding_rows_are_of_the_data_whatever_is_chosen() -> None:
    names = [f"x[{i}]" for i in range(N)]
    pair = (np.zeros((N, 2)) + np.arange(N)[:, None], np.arange(N) % 3)
    train, query = load(pair, embeddings=FEATURES, n_train=5, n_query=2, classes=["2", "0"], normalise=None)
    for examples in (train, query):
        assert torch.equal(examples.inputs, rows_of(examples, names))


def with_nan():
    broken = FEATURES.copy()
    broken[[4, 7], 1] = np.nan
    return broken


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (FEATURES[:-1], "one row for each of the 12 rows of `data`, in their .* 'a0' to 'a11'; it has 11"),
        (with_nan(), r"must be finite; row 5 of 12, counted from 1, holds NaN or infinity \(2 rows do\)"),
        (FEATURES[:, 0], r"must have shape \(n, d\), a row for each example; got \(12,\)"),
        (FEATURES[:, :0], "at least one example and feature"),
        ([[1.0, 2.0], [1.0]], "rows of one length"),
        (np.full((N, 2), "a"), "must hold real numbers; got dtype"),
        (np.array([[1, "a"]] * N, dtype=object), "must hold real numbers; got dtype"),
        ("features.pt", r"must be an array or a file, .npy or .parquet; got 'features.pt'"),
        ("none.npy", "there is none of this name"),
    ],
)  # fmt: skip
def test_embeddings_that_do_not_fit_are_refused(given, match, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LeftoutError, match=match):
        load(FRAME, embeddings=given)


@pytest.mark.parametrize(
    ("frame", "match"),
    [
        ({"id": [f"a{i + 1}" for i in range(N)], "e": range(N)}, "1 of 12 ids are not in .*, the first 'a0'"),
        ({"id": ["a1"] * N, "e": range(N)}, "name each row once in its column 'id'; 'a1' is there twice"),
        ({"id": [f"a{i}" for i in range(N)], "e": list("abcdefghijkl")}, "column 'e' has texts"),
        ({"id": [f"a{i}" for i in range(N)], "e": [None, *range(N - 1)]}, "column 'e' has no value in row 1"),
        ({"id": [f"a{i}" for i in range(N)]}, "it has no other column"),
        ({"e": [[1.0, 2.0]] * 11 + [[1.0]]}, "lists of one length; row 1 has 2 numbers, row 12 has 1"),
        ({"e": [[1.0]] * N, "f": range(N)}, "one column of lists, or columns of numbers"),
    ],
)  # fmt: skip
def test_parquet_files_that_do_not_fit_are_refused(frame, match, tmp_path) -> None:
    pd.DataFrame(frame).to_parquet(tmp_path / "e.parquet")
    with pytest.raises(LeftoutError, match=match):
        load(FRAME, embeddings=tmp_path / "e.parquet")


def test_examples_that_are_ready_take_no_embeddings() -> None:
    pair = load("digits", n_train=20, n_query=5)
    with pytest.raises(OptionError, match="`embeddings` must be left out when the data are already Examples"):
        load(pair, embeddings=FEATURES)
    with pytest.raises(OptionError, match="`embed` must be left out with `embeddings`"):
        load(FRAME, embeddings=FEATURES, embed=lambda batch: batch)


def test_a_function_gets_the_inputs_as_the_data_have_them() -> None:
    plain, other = load("digits", n_train=70, n_query=10, normalise=None)
    sizes, modes = [], []

    def halves(batch):
        sizes.append(len(batch))
        assert 0 <= batch.min() <= batch.max() <= 1
        modes.append(torch.is_grad_enabled())
        return torch.stack([batch[:, :4].sum((1, 2)), batch[:, 4:].sum((1, 2))], dim=1)

    train, query = load("digits", n_train=70, n_query=10, normalise=None, embed=halves)
    assert not any(modes)
    assert torch.equal(train.inputs, halves(plain.inputs))
    assert torch.equal(query.inputs, halves(other.inputs))
    assert np.array_equal(train.images, plain.images)
    assert sizes[0] == 64
    assert train.preparation["embeddings"]["name"] == "halves"


def test_a_module_runs_in_eval_mode_in_its_own_precision_and_comes_back_as_it_was() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.BatchNorm1d(5), nn.Dropout(0.5)).float()
    module[1].eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    plain, _ = load("digits", n_train=20, n_query=5, normalise=None)
    train, _ = load("digits", n_train=20, n_query=5, normalise=None, embed=module)
    assert [m.training for m in module] == [True, False, True, True]
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    expected = module.eval()(plain.inputs.float()).double()
    assert torch.allclose(train.inputs, expected, atol=1e-6)


def test_whatever_holds_real_numbers_is_an_embedding() -> None:
    plain, _ = load("digits", n_train=20, n_query=5, normalise=None)
    for form in (
        Tensor.tolist,
        Tensor.numpy,
        Tensor.to_sparse,
        Tensor.half,
        lambda rows: rows.requires_grad_(),
    ):
        train, _ = load(
            "digits",
            n_train=20,
            n_query=5,
            normalise=None,
            embed=lambda b, form=form: form(16 * b.flatten(1)),
        )
        assert torch.equal(train.inputs, 16 * plain.inputs.flatten(1))


def random_numbers(batch):
    return torch.rand(len(batch), 2)


def whole_batch(batch):
    return (batch - batch.mean(0)).flatten(1)


def failing(batch):
    return nn.Linear(64, 2)(batch.flatten(1))


@pytest.mark.parametrize(
    ("embed", "match"),
    [
        (random_numbers, r"`random_numbers` must return the same numbers every time"),
        (
            whole_batch,
            r"`whole_batch` must make the numbers of a row of this row alone; .*10 others of the batch",
        ),
        (failing, r"it raised RuntimeError: .* begin with `.float\(\)`"),
        (lambda batch: batch, r"of shape \(20, d\) for a batch of 20 rows; got \(20, 8, 8\)"),
        (lambda batch: batch.flatten(1)[1:], r"for a batch of 20 rows; got \(19, 64\)"),
        (lambda batch: "no", "must return embeddings of a batch"),
        (lambda batch: sys.exit(3), "it raised SystemExit"),
        (lambda batch: batch.flatten(1) / 0, r"must be finite; digits/0\d+ holds NaN or infinity"),
        ("features", r"must be a function of a batch, or FILE.py:FUNCTION; got 'features'"),
        (3, "must be a function of a batch; got int"),
    ],
)
def test_functions_that_are_none_of_each_row_are_refused(embed, match) -> None:
    with pytest.raises(LeftoutError, match=match):
        load("digits", classes=["3", "8"], n_train=15, n_query=5, embed=embed)


def test_the_command_line_takes_both(leftout, tmp_path) -> None:
    FRAME.to_csv(tmp_path / "data.csv", index=False)
    np.save(tmp_path / "features.npy", FEATURES)
    status, out, err = leftout("influence", "data.csv", "--embeddings", "features.npy")
    assert status == 0, err
    assert (
        "note: predicted from 3 numbers for each row in features.npy, matched in the order of the data" in out
    )
    (tmp_path / "mine.py").write_text("def features(batch):\n    return batch.flatten(1)[:, ::7]\n")
    words = ("influence", "digits", "--n-train", "30", "--n-query", "5", "--embed", "mine.py:features")
    status, out, err = leftout(*words)
    assert status == 0, err
    assert "note: predicted from 10 numbers that mine.py:features makes of each row" in out
    status, _, err = leftout(*words[:-1], "mine.py:nothing")
    assert (status, "must define a function 'nothing'" in err) == (2, True)
    status, _, err = leftout("influence", "data.csv", "--embeddings", "features.txt")
    assert (status, "must be an array or a file" in err) == (2, True)


def test_a_matrix_is_refused_by_its_shape_before_it_is_copied() -> None:
    with pytest.raises(ShapeError):
        load(FRAME, embeddings=np.float64(3.0))


RESNET = """
import torch
from safetensors.torch import load_file
from leftout_papers.smooth_information.networks import ResNet20

network = ResNet20().eval()
network.load_state_dict(load_file("{weights}"), strict=False)
network.linear = torch.nn.Identity()
MEAN, DEVIATION = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)


def features(pixels):
    return network((pixels.float() - MEAN) / DEVIATION)
"""


def flips_missed(train) -> float:
    """Return the share of 10 % flipped labels that are not doubted."""
    planted = flip_labels(train, 0.1, generator=torch.Generator().manual_seed(0))
    doubted = find_mislabelled(lo.fit(DEFAULT_KERNEL, planted.examples, rule=lo.Ridge("auto"))).suspects
    return 1 - len({s.row for s in doubted} & set(planted.rows.tolist())) / len(planted.rows)


@pytest.mark.slow
def test_flipped_labels_of_cifar_are_found_on_features_of_a_pretrained_network(shared_data, tmp_path) -> None:
    weights = shared_data / "resnet20-cifar10" / "resnet20.safetensors"
    (tmp_path / "resnet.py").write_text(RESNET.format(weights=weights))
    options = {"n_train": 1500, "n_query": 50, "normalise": "standard", "drop_constant": True}
    cifar = str(shared_data / "cifar10.zip")
    train, _ = load(cifar, embed=f"{tmp_path}/resnet.py:features", **options)
    assert train.inputs.shape == (1500, 64)
    assert train.images.shape == (1500, 32, 32, 3)
    assert flips_missed(train) <= 0.26
    # The control: features that say nothing of the picture find next to nothing.
    noise = torch.randn(60_000, 64, generator=torch.Generator().manual_seed(1))
    assert flips_missed(load(cifar, embeddings=noise, **options)[0]) >= 0.9
