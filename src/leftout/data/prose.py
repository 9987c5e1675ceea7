"""Columns of prose: texts of several words, which are compared by their words and not as a whole."""

from leftout.data.columns import Column

WORDS = 5.0
"""Words that a text has on average, from which a column holds prose: names have fewer."""

DISTINCT = 0.5
"""Share of different texts among all, above which a column holds prose and not categories."""


def is_prose(column: Column) -> bool:
    """Return whether a column holds texts of several words that are mostly different."""
    if column.kind != "text" or column.empty:
        return False
    texts = column.values[~column.gaps].tolist()
    return len(set(texts)) > DISTINCT * len(texts) and sum(len(t.split()) for t in texts) >= WORDS * len(
        texts
    )
