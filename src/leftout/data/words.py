"""Prose as numbers: the TF-IDF rows of scikit-learn, whose inner products are cosines between texts.

A word counts the more the fewer training rows have it (smoothed logarithm), a row has norm 1, and 0 where it
holds no word of the training rows. As a whole it counts as much as one standardised column of numbers, so it
is not scaled again. Words are of at least two letters or digits, in lower case.

Only training rows decide on vocabulary and weights. They stay as they are when an example is left out, as
means and deviations of columns do.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from leftout.core.errors import DataError
from leftout.data.files import BYTES_PER_NUMBER, check_allocation


def word_columns(name: str, texts: Sequence[str], train: int, source: str) -> np.ndarray:
    """Return the TF-IDF rows of texts, (n, vocabulary).

    Args:
        name: of the column, for messages.
        texts: those of training first.
        train: how many of them are training rows.

    Raises:
        DataError: no words in the training rows.
        MemoryBudgetError: more words than memory has room for.

    Source:
        `sklearn.feature_extraction.text.TfidfVectorizer`, with its defaults.
    """
    vectorizer = TfidfVectorizer(dtype=np.float64)
    try:
        vectorizer.fit(texts[:train])
    except ValueError as error:
        raise DataError(
            f"`{source}` must have words of at least two letters in {name!r}; the training rows have none "
            f"({error}). Leave the column out with `drop` (--drop)."
        ) from error
    rows = vectorizer.transform(texts)
    check_allocation(
        f"`{source}`, with a column for each of {rows.shape[1]} words of {name!r},",
        BYTES_PER_NUMBER * rows.shape[0] * rows.shape[1],
    )
    return np.asarray(rows.toarray())
