"""Examples to train on and to ask about, from the name of a source.

    digits                     ships with scikit-learn
    mnist:DIR, cifar10:DIR     the original files
    DIR, FILE.zip              pictures by split and class, or by class
    FILE.npz                   arrays
    FILE.csv, FILE.parquet     a table
    FILE.py:function           a function of yours

Rows are chosen first, then read, then scaled, then their targets are coded; each step is written
into `Examples.preparation`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from leftout.core.checks import check_choice, check_seed
from leftout.core.errors import DataError, OptionError
from leftout.data.archive import npz
from leftout.data.cifar import cifar10
from leftout.data.digits import digits
from leftout.data.encoding import CENTRES, Encoding, encoding_of_classes, encoding_of_numbers
from leftout.data.examples import Examples
from leftout.data.found import Found, Rows
from leftout.data.idx import mnist
from leftout.data.images import image_folder, image_zip
from leftout.data.module import Loaded, found_of_pair, module
from leftout.data.normalise import NORMALISATIONS, normalised
from leftout.data.options import Centre, Normalise
from leftout.data.source_name import TABLES, parse_source
from leftout.data.split import Chosen, chosen
from leftout.data.table import table
from leftout.data.targets import RawTargets

READERS: dict[str, Callable[[Path, str], Found]] = {
    "digits": lambda path, source: digits(),
    "mnist": mnist,
    "cifar10": cifar10,
    "folder": image_folder,
    ".npz": npz,
    ".zip": image_zip,
}


def load(
    source: str | Path | tuple[Any, Any] = "digits",
    *,
    classes: Sequence[str | int] | None = None,
    n_train: int | None = None,
    n_query: int | None = None,
    seed: int = 0,
    normalise: Normalise | None = "unit",
    centre: Centre | None = None,
    outputs: int | None = None,
    target: str | None = None,
    columns: Sequence[str] | None = None,
) -> tuple[Examples, Examples]:
    """Return training examples and queries.

    Args:
        source: as the module says; or a pair (train, query) of pairs (inputs, targets); or of
            Examples, which come back unchanged, however `normalise` is set.
        classes: names, or numbers where names are words; selects them and sets their order.
        n_train: how many to take, each class in its proportion; None takes all.
        n_query: likewise.
        seed: of every choice: the split, where the source has none, and the subsets.
        normalise: how inputs are scaled, see `leftout.data.normalise`.
        centre: see `leftout.data.encoding`; None is "uniform" for classes, "mean" for numbers.
        outputs: columns that classes are coded in: 2 gives two classes one each, for a network with
            two outputs; None is one column of ∓1 for two classes, and one each for more.
        target: the column of a table to predict; None is the last.
        columns: the columns of a table to predict from; None is all others.

    Raises:
        DataError: the source is missing, damaged or not what its name says.
        OptionError: an option is none, or does not go with this source.
        MemoryBudgetError: the data would not fit into the free memory.

    Cost:
        What is listed is cheap; only chosen pictures are decoded. 9 bytes a pixel in the end.
    """
    check_choice("normalise", normalise, NORMALISATIONS)
    check_choice("centre", centre, (None, *CENTRES))
    check_seed(seed)
    found = _found(source, target=target, columns=columns)
    if not isinstance(found, Found):
        _check_untouched(classes=classes, n_train=n_train, n_query=n_query, centre=centre, outputs=outputs)
        return found
    rows = chosen(found, classes=classes, n_train=n_train, n_query=n_query, seed=seed)
    return _examples(found, rows, normalise=normalise, centre=centre, outputs=outputs, seed=int(seed))


def _found(
    source: str | Path | tuple[Any, Any] | list[Any], *, target: str | None, columns: Sequence[str] | None
) -> Found | Loaded:
    """Return what the reader that `source` names finds."""
    pair = isinstance(source, tuple | list)
    text = "pair" if pair else str(source)
    kind, path = ("pair", Path()) if pair else parse_source(text)
    if kind in TABLES:
        return table(path, text, target=target, columns=columns)
    for name, option in (("target", target), ("columns", columns)):
        if option is not None:
            raise OptionError(
                f"`{name}` must be left out unless the source is a table (.csv, .parquet); got "
                f"{option!r} for `{text}`."
            )
    if isinstance(source, tuple | list):
        return found_of_pair(source, text)
    if kind == "function":
        loaded = module(text)
        return loaded if isinstance(loaded, Found) else _from_module(loaded, text)
    return READERS[kind](path, text)


def _from_module(pair: Loaded, source: str) -> Loaded:
    """Return the Examples with their source on record, if the user's function kept none."""
    train, query = (replace(part, preparation={"source": source} | part.preparation) for part in pair)
    return train, query


def _check_untouched(**options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            raise OptionError(
                f"`{name}` must be left out when the source is already Examples, which are used "
                f"unchanged; got {value!r}. Choose rows with `Examples.select`."
            )


def _examples(
    found: Found,
    rows: Chosen,
    *,
    normalise: Normalise | None,
    centre: Centre | None,
    outputs: int | None,
    seed: int,
) -> tuple[Examples, Examples]:
    """Return the chosen rows, read, scaled and coded."""
    n = len(rows.train)
    whole = found.read(torch.cat([torch.from_numpy(rows.train), torch.from_numpy(rows.query)]).numpy())
    parts = whole.part(slice(0, n)), whole.part(slice(n, None))
    ids = tuple(tuple(found.ids[row] for row in part) for part in (rows.train, rows.query))
    inputs = [_finite(part.inputs, names) for part, names in zip(parts, ids, strict=True)]
    train, query, scaling = normalised(
        inputs[0],
        inputs[1],
        normalise=normalise,
        pictures=whole.images is not None,
        ids=(ids[0], ids[1]),
        columns=whole.columns,
    )
    encoding = _encoding(rows.train_targets, centre, outputs, ids[0])
    preparation = {
        "source": found.source,
        **found.record,
        **scaling,
        "centre": encoding.centre,
        "seed": seed,
        "split": "by seed" if found.queried is None else "of the source",
        "n_train": n,
        "n_query": len(rows.query),
        "classes": None if encoding.classes is None else list(encoding.classes),
    }
    return (
        _part(parts[0], train, rows.train_targets, encoding, ids[0], preparation),
        _part(parts[1], query, rows.query_targets, encoding, ids[1], preparation),
    )


def _part(
    rows: Rows,
    inputs: Tensor,
    raw: RawTargets,
    encoding: Encoding,
    ids: tuple[str, ...],
    preparation: dict[str, Any],
) -> Examples:
    if raw.labels is None:
        assert raw.numbers is not None
        labels = None
        targets = _finite(raw.numbers, ids, name="targets")
        targets = targets - torch.tensor(encoding.offset, dtype=torch.float64)
    else:
        labels = torch.from_numpy(raw.labels)
        targets = encoding.encode(labels)
    return Examples(
        inputs=inputs,
        targets=targets,
        encoding=encoding,
        labels=labels,
        ids=ids,
        images=rows.images,
        table=rows.table,
        columns=rows.columns,
        preparation=dict(preparation),
    )


def _encoding(raw: RawTargets, centre: Centre | None, outputs: int | None, ids: Sequence[str]) -> Encoding:
    if raw.labels is None:
        assert raw.numbers is not None
        if outputs not in (None, raw.numbers.shape[1]):
            raise OptionError(
                f"`outputs` must be left out, or {raw.numbers.shape[1]}, the columns of numbers to "
                f"predict; got {outputs}."
            )
        numbers = _finite(raw.numbers, ids, name="targets")
        return encoding_of_numbers(numbers, centre=centre or "mean")
    return encoding_of_classes(
        torch.from_numpy(raw.labels), raw.classes, centre=centre or "uniform", outputs=outputs
    )


def _finite(array: Any, ids: Sequence[str], *, name: str = "inputs") -> Tensor:
    """Return an array as a tensor; raise at the first example that is not finite, by its id."""
    tensor = torch.from_numpy(array)
    bad = (~torch.isfinite(tensor.reshape(len(tensor), -1))).any(1).nonzero().flatten()
    if len(bad):
        raise DataError(
            f"`{name}` must be finite; {ids[int(bad[0])]} holds NaN or infinity ({len(bad)} of "
            f"{len(tensor)} examples do). Repair or drop them."
        )
    return tensor
