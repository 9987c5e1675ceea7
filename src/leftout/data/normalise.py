"""Scaling of inputs before a kernel sees them: one step, which the record names.

"unit"      every input to norm 1, over all its features
"sphere"    every input to norm √d, d features
"standard"  minus the mean, over the standard deviation of the *training* inputs: feature by
            feature in tables, one number for all pixels in pictures
None        as read
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.errors import DataError
from leftout.data.options import Normalise

NORMALISATIONS: tuple[Normalise | None, ...] = ("unit", "sphere", "standard", None)


def to_norm(inputs: Float64[Tensor, "n ..."], ids: Sequence[str], *, norm: float) -> Float64[Tensor, "n ..."]:
    """Return the inputs, each scaled to this norm.

    Raises:
        DataError: an input is zero everywhere, so that it has no direction; its id is named.
    """
    rows = inputs.flatten(1)  # (n, d)
    largest = rows.abs().amax(1, keepdim=True)
    zero = (largest[:, 0] == 0).nonzero().flatten()
    if len(zero):
        raise DataError(
            f"`inputs` must not be zero to be scaled to a norm; {ids[int(zero[0])]} is "
            f"({len(zero)} of {len(rows)} are). Drop it; or use "
            "`normalise='standard'` or None with a kernel for rows of any norm, such as ReLU (--kernel relu)."
        )
    rows = rows / largest  # first, so that the squares neither overflow nor vanish
    rows = rows * (norm / torch.linalg.vector_norm(rows, dim=1, keepdim=True))
    return torch.reshape(rows, inputs.shape)


def normalise_inputs(
    train: Float64[Tensor, "n ..."],
    query: Float64[Tensor, "m ..."],
    *,
    normalise: Normalise | None,
    pictures: bool,
    ids: tuple[Sequence[str], Sequence[str]],
    columns: Sequence[str] | None = None,
    drop_constant: bool = False,
    words: int = 0,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Return training inputs and queries scaled by the rule `normalise`, and the record of the step.

    With `drop_constant`, columns that have one value in all training rows are left out first, and listed
    under `dropped_columns`: their deviation is 0, and a query that differs there would be far from all.
    The last `words` columns are those of prose: rows of norm 1 already, they are neither standardised nor
    left out, so that their inner products stay cosines.
    "standard" centres a constant column but leaves its scale, and lists it in the record under
    `constant_columns`.
    """
    if words:
        return _beside_words(
            train,
            query,
            normalise=normalise,
            ids=ids,
            columns=None if columns is None else columns[:-words],
            drop_constant=drop_constant,
            words=words,
        )
    record: dict[str, Any] = {"normalise": normalise}
    if drop_constant and train.ndim == 2 and not pictures:
        varies = train.amax(0) != train.amin(0)
        names = columns or [str(place) for place in range(len(varies))]
        if not bool(varies.any()):
            raise DataError(
                "`inputs` must differ to be predicted from; every column has one value in all training rows."
            )
        record["dropped_columns"] = [names[place] for place in (~varies).nonzero().flatten().tolist()]
        columns = [names[place] for place in varies.nonzero().flatten().tolist()]
        train, query = train[:, varies], query[:, varies]
    if normalise in ("unit", "sphere"):
        norm = 1.0 if normalise == "unit" else train[0].numel() ** 0.5
        return to_norm(train, ids[0], norm=norm), to_norm(query, ids[1], norm=norm), record
    if normalise == "standard":
        axes = tuple(range(train.ndim)) if pictures else (0,)
        mean = train.mean(axes)
        spread = train.std(axes, correction=0)
        # Tested by equal values: the mean of equal values may round, and leave a spread of 1e-17.
        constant = train.amax(axes) == train.amin(axes)
        scale = torch.where(constant, torch.ones_like(spread), spread)
        record |= {"mean": mean.tolist(), "scale": scale.tolist(), "of": "pixels" if pictures else "columns"}
        if not pictures:
            names = columns or [str(place) for place in range(constant.numel())]
            which = constant.flatten().nonzero().flatten().tolist()
            record["constant_columns"] = [names[place] for place in which]
        elif bool(constant):
            raise DataError(
                "`inputs` must differ to be standardised; all pixels have one value in all training inputs. "
                "Take other examples."
            )
        train, query = (train - mean) / scale, (query - mean) / scale
    return train, query, record


def _beside_words(
    train: Float64[Tensor, "n d"],
    query: Float64[Tensor, "m d"],
    *,
    normalise: Normalise | None,
    ids: tuple[Sequence[str], Sequence[str]],
    columns: Sequence[str] | None,
    drop_constant: bool,
    words: int,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Return the same with the columns of words as they are, except for the norm of whole rows."""
    of_columns: Normalise | None = "standard" if normalise == "standard" else None
    sides, record = [train, query], {"normalise": normalise}
    if train.shape[1] > words:
        first, second, scaling = normalise_inputs(
            train[:, :-words],
            query[:, :-words],
            normalise=of_columns,
            pictures=False,
            ids=ids,
            columns=columns,
            drop_constant=drop_constant,
        )
        record = scaling | record
        sides = [
            torch.cat([part, side[:, -words:]], dim=1) for part, side in ((first, train), (second, query))
        ]
    if normalise == of_columns:
        return sides[0], sides[1], record
    scaled = normalise_inputs(sides[0], sides[1], normalise=normalise, pictures=False, ids=ids)
    return scaled[0], scaled[1], record
