import math

import pytest
import torch
from torch.testing import assert_close

from leftout.core.errors import DataError
from leftout.data.normalise import normalise_inputs

IDS = (["a", "b", "c"], ["q"])


def scaled(train, query, normalise, *, pictures=False, columns=None):
    return normalise_inputs(train, query, normalise=normalise, pictures=pictures, ids=IDS, columns=columns)


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)
    train = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
    return train, torch.randn(1, 4, 5, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("normalise", "norm"), [("unit", 1.0), ("sphere", math.sqrt(20))])
def test_norms_are_as_asked_and_directions_stay(inputs, normalise, norm) -> None:
    train, query, record = scaled(*inputs, normalise)
    for before, after in zip(inputs, (train, query), strict=True):
        assert after.shape == before.shape
        norms = after.flatten(1).norm(dim=1)
        # A norm of 20 squares, a division and a product: a few roundings each.
        assert_close(norms, torch.full_like(norms, norm), rtol=1e-14, atol=0)
        cosine = (before * after).sum((1, 2)) / (norms * before.flatten(1).norm(dim=1))
        assert_close(cosine, torch.ones_like(cosine), rtol=1e-14, atol=0)
    assert record == {"normalise": normalise}


@pytest.mark.parametrize("size", [1e200, 1e-200, 5e-324])
def test_huge_and_tiny_inputs_get_norm_one(size) -> None:
    train = torch.full((3, 4), size, dtype=torch.float64)
    train, _, _ = scaled(train, torch.ones(1, 4, dtype=torch.float64), "unit")
    assert_close(train, torch.full((3, 4), 0.5, dtype=torch.float64), rtol=1e-15, atol=0)


def test_a_zero_input_is_refused_by_its_id() -> None:
    train = torch.ones(3, 4, dtype=torch.float64)
    train[1] = 0
    with pytest.raises(DataError, match=r"must not be zero to be scaled .*; b is \(1 of 3 are\)"):
        scaled(train, torch.ones(1, 4, dtype=torch.float64), "unit")
    with pytest.raises(DataError, match=r"; q is"):
        scaled(torch.ones(3, 4).double(), torch.zeros(1, 4).double(), "sphere")


def test_columns_are_standardised_by_the_training_examples() -> None:
    train = torch.tensor([[0.0, 5.0], [2.0, 5.0], [4.0, 5.0]], dtype=torch.float64)
    query = torch.tensor([[2.0, 6.0]], dtype=torch.float64)
    after, asked, record = scaled(train, query, "standard", columns=("x", "flat"))
    sd = math.sqrt(8 / 3)
    assert_close(after[:, 0], torch.tensor([-2, 0, 2], dtype=torch.float64) / sd)
    assert after[:, 1].tolist() == [0, 0, 0]
    assert asked.tolist() == [[0.0, 1.0]]  # a constant column is centred, in its own units
    assert record["constant_columns"] == ["flat"]
    assert record["mean"] == [2.0, 5.0]
    assert record["scale"] == pytest.approx([sd, 1.0])


def test_a_constant_column_whose_mean_rounds_is_still_constant() -> None:
    train = torch.full((3, 1), 0.1, dtype=torch.float64)
    assert float(train.std(correction=0)) < 1e-15
    _, _, record = scaled(train, train[:1], "standard")
    assert record["constant_columns"] == ["0"]


def test_pictures_have_one_mean_and_one_scale(inputs) -> None:
    train, query, record = scaled(*inputs, "standard", pictures=True)
    assert_close(train.mean(), torch.tensor(0.0, dtype=torch.float64), atol=1e-15, rtol=0)
    assert float(train.std(correction=0)) == pytest.approx(1)
    assert_close(query, (inputs[1] - record["mean"]) / record["scale"])
    assert record["of"] == "pixels"


def test_pictures_of_one_value_are_refused() -> None:
    train = torch.ones(3, 2, 2, dtype=torch.float64)
    with pytest.raises(DataError, match="must differ to be standardised; all pixels have one"):
        scaled(train, train[:1], "standard", pictures=True)


def test_nothing_is_changed_when_nothing_is_asked(inputs) -> None:
    train, query, record = scaled(*inputs, None)
    assert train is inputs[0]
    assert query is inputs[1]
    assert record == {"normalise": None}
