"""The readers on the files that people have, where those are at hand."""

import numpy as np
import pytest

from leftout.data.load import load


@pytest.fixture(scope="module")
def mnist(shared_data):
    folder = shared_data / "mnist"
    if not folder.is_dir():
        pytest.skip(f"no mnist in {shared_data}")
    return f"mnist:{folder}"


@pytest.fixture(scope="module")
def cifar(shared_data):
    path = shared_data / "cifar10.zip"
    if not path.is_file():
        pytest.skip(f"no cifar10.zip in {shared_data}")
    return path


def test_mnist_is_whole(mnist) -> None:
    train, query = load(mnist, classes=[7, 9], normalise=None)
    # Counts as published with the data set.
    assert np.bincount(train.labels).tolist() == [6265, 5949]
    assert np.bincount(query.labels).tolist() == [1028, 1009]
    assert train.inputs.shape[1:] == (28, 28)


def test_mnist_subsets_are_stratified_and_repeat(mnist) -> None:
    train, query = load(mnist, n_train=3000, n_query=500, seed=1)
    share = np.array([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]) / 20
    assert np.abs(np.bincount(train.labels) - share).max() < 1
    assert train.ids[0].startswith("train/")
    again, _ = load(mnist, n_train=3000, n_query=500, seed=1)
    assert again.fingerprint == train.fingerprint
    assert len(query) == 500


def test_cifar_pictures_are_found_by_split_and_class(cifar) -> None:
    train, query = load(cifar, classes=["ship", "cat"], n_train=40, n_query=20, normalise=None)
    assert train.inputs.shape == (40, 3, 32, 32)
    assert train.classes == ("ship", "cat")
    for part, split in ((train, "train"), (query, "test")):
        for name, label in zip(part.ids, part.labels.tolist(), strict=True):
            assert name.startswith(f"cifar10/{split}/{part.classes[label]}/")
    assert np.bincount(train.labels).tolist() == [20, 20]
