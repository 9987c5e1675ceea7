import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Generator

from leftout.core.errors import OptionError
from leftout.data.load import load
from leftout.data.pairs import examples_of
from leftout.data.planted import flip_labels, plant_duplicates, plant_outliers, thin_class


@pytest.fixture(scope="module")
def digits():
    return load("digits", n_train=300)[0]


@pytest.fixture
def table():
    x = np.random.default_rng(0).normal(size=(20, 3))
    return load(((x, x[:, 0]), (x, x[:, 0])), normalise=None)[0]


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def test_as_many_labels_as_asked_are_flipped_and_the_truth_is_kept(digits) -> None:
    before = digits.fingerprint
    planted = flip_labels(digits, 0.1, generator=seeded())
    changed = (planted.examples.labels != digits.labels).nonzero().flatten()
    assert changed.tolist() == planted.rows.tolist()
    assert len(planted.rows) == 30
    assert planted.truth.tolist() == digits.labels.tolist()
    expected = digits.encoding.encode(planted.examples.labels)
    assert torch.equal(planted.examples.targets, expected)
    assert torch.equal(planted.examples.inputs, digits.inputs)
    assert planted.examples.preparation["planted"] == [{"flip_labels": 0.1}]
    assert digits.fingerprint == before


def test_flips_go_to_every_other_class_alike() -> None:
    n = 40_000
    examples = examples_of((torch.ones(n, 1), torch.arange(n) % 5))
    planted = flip_labels(examples, 0.5, generator=seeded())
    shift = (planted.examples.labels - planted.truth)[planted.rows] % 5
    counts = torch.bincount(shift, minlength=5)
    assert counts[0] == 0
    assert chisquare(counts[1:].numpy()).pvalue > 1e-4


def test_the_generator_decides(digits) -> None:
    one, two, other = (flip_labels(digits, 0.1, generator=seeded(s)) for s in (1, 1, 2))
    assert one.examples.fingerprint == two.examples.fingerprint
    assert one.rows.tolist() != other.rows.tolist()


@pytest.mark.parametrize("conflicting", [False, True])
def test_duplicates_are_at_the_end_and_point_to_their_originals(digits, conflicting) -> None:
    planted = plant_duplicates(digits, 25, conflicting=conflicting, generator=seeded())
    longer = planted.examples
    assert planted.rows.tolist() == list(range(300, 325))
    assert torch.equal(longer.inputs[planted.rows], digits.inputs[planted.originals])
    assert np.array_equal(longer.images[300:], digits.images[planted.originals.numpy()])
    agree = longer.labels[planted.rows] == digits.labels[planted.originals]
    assert bool((agree != conflicting).all())
    assert torch.equal(planted.truth[planted.rows], digits.labels[planted.originals])
    assert torch.equal(longer.targets, digits.encoding.encode(longer.labels))
    assert longer.ids[300] == f"{digits.ids[int(planted.originals[0])]} (copy)"
    assert len(set(longer.ids)) == 325


def test_outliers_are_noise_of_the_same_norm(digits) -> None:
    planted = plant_outliers(digits, 10, generator=seeded())
    norms = planted.examples.inputs.flatten(1).norm(dim=1)
    assert torch.allclose(norms, torch.ones_like(norms), rtol=1e-14, atol=0)
    same = (planted.examples.inputs == digits.inputs).flatten(1).all(1)
    assert (~same).nonzero().flatten().tolist() == planted.rows.tolist()
    shown = (planted.examples.images == digits.images).reshape(300, -1).all(1)
    assert np.flatnonzero(~shown).tolist() == planted.rows.tolist()
    assert torch.equal(planted.examples.labels, digits.labels)


def test_outliers_and_duplicates_in_a_table_need_no_classes(table) -> None:
    planted = plant_outliers(table, 4, generator=seeded())
    assert planted.truth is None
    changed = (planted.examples.table != table.table).any(1)
    assert np.flatnonzero(changed).tolist() == planted.rows.tolist()
    copies = plant_duplicates(table, 4, conflicting=False, generator=seeded())
    assert np.array_equal(copies.examples.table[20:], table.table[copies.originals.numpy()])
    with pytest.raises(OptionError, match="must have classes for labels to be changed"):
        plant_duplicates(table, 4, conflicting=True, generator=seeded())
    with pytest.raises(OptionError, match="must have classes for labels to be changed"):
        flip_labels(table, 0.1, generator=seeded())


@pytest.mark.parametrize("cls", ["3", 3])
def test_a_thinned_class_has_as_many_as_asked_and_the_others_all(digits, cls) -> None:
    planted = thin_class(digits, cls, 4, generator=seeded())
    thin = planted.examples
    counts, before = (torch.bincount(part.labels) for part in (thin, digits))
    assert counts[3] == 4
    assert torch.equal(counts[torch.arange(10) != 3], before[torch.arange(10) != 3])
    assert (thin.labels == 3).nonzero().flatten().tolist() == planted.rows.tolist()
    assert set(thin.ids) <= set(digits.ids)
    assert torch.equal(planted.truth, thin.labels)


def test_corruptions_add_up_in_the_record(digits) -> None:
    twice = plant_outliers(flip_labels(digits, 0.1, generator=seeded()).examples, 5, generator=seeded())
    assert [next(iter(step)) for step in twice.examples.preparation["planted"]] == [
        "flip_labels",
        "plant_outliers",
    ]


def test_impossible_amounts_are_refused(digits) -> None:
    with pytest.raises(OptionError, match=r"`fraction` must lie in \(0, 1\); got 1.5"):
        flip_labels(digits, 1.5, generator=seeded())
    with pytest.raises(OptionError, match="`fraction` must choose from 1 to 300 examples; got 0"):
        flip_labels(digits, 0.001, generator=seeded())
    with pytest.raises(OptionError, match="`count` must choose from 1 to 300 examples; got 301"):
        plant_outliers(digits, 301, generator=seeded())
    with pytest.raises(OptionError, match="`keep` must choose from 1 to"):
        thin_class(digits, "3", 0, generator=seeded())
    with pytest.raises(OptionError, match="there is no '11'"):
        thin_class(digits, "11", 3, generator=seeded())
