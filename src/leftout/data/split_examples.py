"""Examples that are ready, split into training examples and queries; nothing else about them changes."""

from dataclasses import replace

import numpy as np

from leftout.data.data_source import DataSource, InputRows
from leftout.data.examples import Examples
from leftout.data.split import split_rows
from leftout.data.targets import RawTargets


def split_examples(
    examples: Examples, *, n_train: int | None = None, n_query: int | None = None, seed: int = 0
) -> tuple[Examples, Examples]:
    """Return training examples and queries, drawn by the seed as `load` draws them; arguments as there.

    Raises:
        OptionError: more rows than there are.
        DataError: a class with fewer than two training examples.
    """
    if examples.labels is None:
        targets = RawTargets(None, (), examples.targets.numpy())
    else:
        targets = RawTargets(examples.labels.numpy(), examples.classes or (), None)

    def read(rows: np.ndarray) -> InputRows:
        return InputRows(examples.inputs.numpy()[rows])

    source = DataSource("examples", examples.ids, targets, read)
    split = split_rows(source, classes=None, n_train=n_train, n_query=n_query, seed=seed)
    sizes = {"n_train": len(split.train), "n_query": len(split.query)}
    record = examples.preparation | {"split": "by seed", "seed": int(seed), **sizes}
    train, query = (
        replace(examples.select(rows), preparation=dict(record)) for rows in (split.train, split.query)
    )
    return train, query
