"""What curation answers once more, from its definition: fit again without, every time that it is asked.

No code shared with the package. A model is its dual (see `oracles`); an example is `each` rows of its
kernel matrix, side by side, which leave together.
"""

import numpy as np

from oracles import definitions as oracles


def rows_of(examples, each):
    return (np.asarray(examples)[:, None] * each + np.arange(each)).ravel().astype(int)


def information(gram, cross, residual, training, queries, each=1):
    """½ mean over queries of ‖Δf‖², and ½ ‖Δw‖² = ½ Δᵀ K Δ, for each example left out."""
    whole = oracles.dual(gram, residual, training)
    function, weights = [], []
    for example in range(len(gram) // each):
        keep = np.setdiff1d(np.arange(len(gram)), rows_of([example], each))
        change = whole.copy()
        change[keep] -= _dual(gram[np.ix_(keep, keep)], residual[keep], training, each)
        function.append(((cross @ change) ** 2).sum() / (2 * queries))
        weights.append(np.trace(change.T @ gram @ change) / 2)
    return {"function": np.array(function), "weights": np.array(weights)}


def _dual(gram, residual, training, each):
    return oracles.dual(gram, residual, training) if len(gram) else np.zeros_like(residual)


def iterative_order(gram, cross, residual, training, queries, by, step, share, each=1):
    """Least informative first, asked again of what remains until a share has gone; then as they are."""
    n = len(gram) // each
    left, order = np.arange(n), []
    while len(left):
        rows = rows_of(left, each)
        found = information(
            gram[np.ix_(rows, rows)], cross[:, rows], residual[rows], training, queries, each
        )[by]
        gone = np.argsort(found, kind="stable")
        count = max(1, int(step * len(left)))
        if len(order) + count < min(n - 1, round(share * n)):
            gone = gone[:count]
        order += left[gone].tolist()
        left = np.delete(left, gone)
    return order


def prediction_without(gram, cross, residual, training, examples, each=1):
    """f − f_0 at the queries' rows of the model fitted without some examples."""
    keep = np.setdiff1d(np.arange(len(gram)), rows_of(examples, each))
    dual = _dual(gram[np.ix_(keep, keep)], residual[keep], training, each)
    return cross[:, keep] @ dual
