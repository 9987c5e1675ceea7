import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leftout.core.errors import DataError, OptionError
from leftout.data.data_source import DataSource, InputRows
from leftout.data.split import allotment, class_number, named_splits, split_rows
from leftout.data.targets import RawTargets


def found_of(sizes, *, is_query=None, names=None) -> DataSource:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    n = len(labels)
    return DataSource(
        name="source",
        ids=[f"row {row}" for row in range(n)],
        targets=RawTargets(labels, names or tuple("abcdefghij"[: len(sizes)]), None),
        read=lambda rows: InputRows(inputs=rows[:, None].astype(float)),
        is_query=is_query,
    )


def choose(found, *, classes=None, n_train=None, n_query=None, seed=0):
    return split_rows(found, classes=classes, n_train=n_train, n_query=n_query, seed=seed)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(0, 2), st.data())
@settings(max_examples=200, deadline=None)
def test_an_allotment_adds_up_and_takes_no_more_than_there_is(sizes, spare, data) -> None:
    sizes = np.array(sizes)
    count = data.draw(st.integers(1, int(sizes.sum())))
    taken = allotment(sizes, count, spare=spare)
    assert taken.sum() == count
    assert (taken >= 0).all()
    assert (taken <= sizes).all()
    if not spare and count >= np.minimum(sizes, 2).sum():
        assert (taken >= np.minimum(sizes, 2)).all()
    if spare and count <= np.maximum(sizes - spare, 0).sum():
        assert (sizes - taken >= np.minimum(spare, sizes)).all()


def test_an_allotment_is_proportional() -> None:
    assert allotment(np.array([600, 300, 100]), 100).tolist() == [60, 30, 10]
    assert allotment(np.array([10, 10, 10]), 10).tolist() == [4, 3, 3]


def test_a_rare_class_keeps_two_training_examples_when_the_count_allows() -> None:
    assert allotment(np.array([1000, 3]), 20).tolist() == [18, 2]
    assert allotment(np.array([1000, 3]), 500, spare=2).tolist() == [499, 1]


def test_a_split_by_seed_is_disjoint_stratified_and_sorted() -> None:
    rows = choose(found_of([40, 20, 20]))
    assert len(np.intersect1d(rows.train, rows.query)) == 0
    assert len(rows.train) + len(rows.query) == 80
    assert np.bincount(rows.query_targets.labels).tolist() == [10, 5, 5]
    assert (np.diff(rows.train) > 0).all()
    assert (np.diff(rows.query) > 0).all()


def test_the_same_seed_chooses_the_same_rows_and_another_seed_others() -> None:
    one, two, other = (choose(found_of([40, 40]), n_train=20, seed=seed) for seed in (3, 3, 4))
    assert one.train.tolist() == two.train.tolist()
    assert one.query.tolist() == two.query.tolist()
    assert one.train.tolist() != other.train.tolist()


def test_queries_do_not_depend_on_how_many_train() -> None:
    few, many = (choose(found_of([40, 40]), n_train=n) for n in (10, 50))
    assert few.query.tolist() == many.query.tolist()


def test_the_official_split_is_kept() -> None:
    is_query = np.arange(80) % 4 == 0
    rows = choose(found_of([40, 40], is_query=is_query), n_train=20, n_query=10)
    assert not is_query[rows.train].any()
    assert is_query[rows.query].all()
    assert np.bincount(rows.train_targets.labels).tolist() == [10, 10]
    assert np.bincount(rows.query_targets.labels).tolist() == [5, 5]


def test_classes_are_selected_and_ordered_by_name() -> None:
    rows = choose(found_of([10, 10, 10]), classes=["c", "a"])
    assert rows.train_targets.classes == ("c", "a")
    assert set(rows.train[rows.train_targets.labels == 0]) <= set(range(20, 30))
    assert set(rows.train[rows.train_targets.labels == 1]) <= set(range(10))


def test_a_class_number_counts_only_where_names_are_words() -> None:
    assert class_number(("cat", "dog"), "1") == 1
    assert class_number(("3", "5"), 5) == 1
    with pytest.raises(OptionError, match=r"`classes` must be among 3, 5; there is no '0'\."):
        class_number(("3", "5"), "0")
    with pytest.raises(OptionError, match=r"among cat, dog; there is no 'cow'"):
        class_number(("cat", "dog"), "cow")


@pytest.mark.parametrize("classes", [["a"], ["a", "a"], []])
def test_fewer_than_two_classes_or_one_twice_are_refused(classes) -> None:
    with pytest.raises(OptionError, match="`classes` must name at least two classes, each once"):
        choose(found_of([10, 10]), classes=classes)


def test_more_than_there_is_is_refused_with_numbers() -> None:
    with pytest.raises(OptionError, match=r"`n_query` must be at most 20, what `source` holds"):
        choose(found_of([10, 10]), n_query=21)
    with pytest.raises(OptionError, match=r"`n_train` must be at most 15, .* beside the 5 queries"):
        choose(found_of([10, 10]), n_train=16)
    is_query = np.arange(20) % 2 == 0
    with pytest.raises(OptionError, match=r"`n_query` must be at most 10"):
        choose(found_of([10, 10], is_query=is_query), n_query=11)


@pytest.mark.parametrize("value", [0, -1])
def test_a_count_below_one_is_refused(value) -> None:
    with pytest.raises(OptionError, match=rf"`n_train` must be a whole number ≥ 1; got {value}\."):
        choose(found_of([10, 10]), n_train=value)
    with pytest.raises(OptionError, match=r"`n_query` must be a whole number ≥ 1"):
        choose(found_of([10, 10]), n_query=value)


def test_no_queries_left_is_refused() -> None:
    with pytest.raises(DataError, match=r"must hold training examples and queries; got 20 and 0"):
        choose(found_of([10, 10], is_query=np.zeros(20, dtype=bool)))


def test_a_class_with_one_training_example_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"at least 2 training examples .* class 'b' has 1\. Drop"):
        choose(found_of([10, 1]))


def test_integers_that_are_numbers_get_a_hint() -> None:
    with pytest.raises(DataError, match="--task regression"):
        choose(found_of([10, 1], names=("0", "1")))


def test_a_class_lost_to_a_small_subset_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"class 'b' has [01]"):
        choose(found_of([90, 10]), n_train=3)


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(DataError, match="must hold at least two classes; got only 'a'"):
        choose(found_of([10]))


def test_a_query_of_an_unseen_class_is_refused_by_name() -> None:
    is_query = np.array([False] * 10 + [True] * 10)
    with pytest.raises(DataError, match=r"query row 10 is of class 'b', which no training example"):
        choose(found_of([10, 10], is_query=is_query))


def test_classes_of_numbers_are_refused() -> None:
    found = DataSource(
        name="source",
        ids=["a", "b"],
        targets=RawTargets(None, (), np.zeros((2, 1))),
        read=lambda rows: InputRows(inputs=np.zeros((len(rows), 1))),
    )
    with pytest.raises(OptionError, match="`classes` must be left out for `source`"):
        choose(found, classes=["0", "1"])


def test_of_several_splits_of_queries_the_first_is_taken_and_the_rest_named() -> None:
    kept, is_query, unused = named_splits("s", ["train", "val", "Test", "train"])
    assert kept.tolist() == [0, 2, 3]
    assert is_query.tolist() == [False, True, False]
    assert unused == ["val"]


def test_unknown_or_missing_splits_are_refused() -> None:
    with pytest.raises(DataError, match=r"must name its splits 'train' and one of .* got 'holdout'"):
        named_splits("s", ["train", "holdout"])
    with pytest.raises(DataError, match=r"must have a split 'train' and one of .* only 'train'"):
        named_splits("s", ["train"])
    with pytest.raises(DataError, match="has only 'test'"):
        named_splits("s", ["test"])
