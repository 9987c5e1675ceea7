import sys

import numpy as np
import pytest
import torch

from leftout.core.errors import DataError, OptionError
from leftout.data.load import load

HEAD = "import numpy as np\nimport torch\nfrom leftout.data.pairs import examples_of\n"
PAIR = "(np.arange(1.0, 25.0).reshape(12, 2), np.arange(12) % 2)"


@pytest.fixture
def written(tmp_path):
    def write(body: str) -> str:
        (tmp_path / "mine.py").write_text(HEAD + "def data():\n    " + body + "\n")
        return f"{tmp_path}/mine.py:data"

    return write


def refused(source, match, error=DataError, **options):
    with pytest.raises(error, match=match) as caught:
        load(source, **options)
    return caught.value


def test_pairs_are_chosen_from_scaled_and_coded(written) -> None:
    source = written(f"return {PAIR}, {PAIR}")
    train, query = load(source, n_train=6, normalise="unit", classes=["1", "0"])
    assert len(train) == 6
    assert len(query) == 12
    assert train.classes == ("1", "0")
    assert torch.allclose(train.inputs.norm(dim=1), torch.ones(6).double())
    assert query.ids[3] == "query[3]"
    assert train.preparation["data"] == source


def test_a_dataset_and_pictures_are_welcome(written) -> None:
    source = written(
        "x = torch.arange(12 * 4 * 5).reshape(12, 4, 5)\n"
        "    return torch.utils.data.TensorDataset(x, torch.arange(12) % 3), (x, x[:, 0, 0] % 3)"
    )
    train, _ = load(source, normalise=None, pictures=True)
    assert train.images.shape == (12, 4, 5)
    assert np.array_equal(train.inputs.numpy() * 255, np.arange(240).reshape(12, 4, 5))


def test_examples_come_back_unchanged(written) -> None:
    source = written(f"a = examples_of({PAIR})\n    return a, a.select([0, 1])")
    train, query = load(source, normalise="unit")
    assert train.inputs[0].tolist() == [1, 2]
    assert query.ids == ("0", "1")
    refused(source, "`n_train` must be left out when the data are already", OptionError, n_train=3)


def test_a_file_may_import_its_neighbours_and_leaves_no_trace(tmp_path) -> None:
    (tmp_path / "beside_it.py").write_text(f"import numpy as np\npair = {PAIR}\n")
    (tmp_path / "mine.py").write_text("import beside_it\ndef data():\n    return (beside_it.pair,) * 2\n")
    before = list(sys.path)
    assert len(load(f"{tmp_path}/mine.py:data")[0]) == 12
    assert sys.path == before
    del sys.modules["beside_it"]


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ("raise KeyError('mine')", "must return .train, query.; it raised KeyError: 'mine'"),
        ("raise SystemExit(3)", "it raised SystemExit: 3"),
        ("return 3", "must be a pair .train, query., .* got int"),
        ("return (1, 2, 3)", "got tuple of 3"),
        ("return (1, 2)", "`train` must be Examples, a pair .* got int"),
        (f"return examples_of({PAIR}), {PAIR}", "must be two Examples, or two pairs"),
        (
            f"return examples_of({PAIR}), examples_of((np.ones((2, 2)), np.ones(2)))",
            "must code training and query targets alike",
        ),
        ("return (1) + ", "it raised SyntaxError"),
    ],
)
def test_what_goes_wrong_is_told_with_its_cause(written, body, match) -> None:
    error = refused(written(body), match)
    if "it raised" in match:
        assert error.__cause__ is not None


def test_missing_files_and_functions_are_named(tmp_path, written) -> None:
    refused(f"{tmp_path}/no.py:data", "no.py` must be a file; there is none")
    refused(written("pass").replace(":data", ":more"), "must define a function 'more'; it does not")
