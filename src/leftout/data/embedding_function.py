"""Features by a function of a person's own, from batches of the inputs as the data have them.

The function gets a tensor (b, …), pictures as (b, h, w) or (b, 3, h, w) within 0 … 1, and returns (b, d). It
must be a function of each row: the same numbers each time, whatever else is in the batch; otherwise a row
that is left out would still be there in the features of others.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from leftout.core.errors import DataError, LeftoutError, OptionError, ShapeError
from leftout.core.progress import with_progress
from leftout.core.wording import exception_text
from leftout.data.conversion import doubles
from leftout.data.data_source import DataSource, InputRows
from leftout.data.embeddings import embedding_names
from leftout.data.files import BYTES_PER_NUMBER, check_allocation
from leftout.data.module import user_function

BATCH = 64
"""Rows that the function gets at once."""

SAME = 1e-3
"""Largest difference, relative to the largest number, that another size of the batch may make: its products
in single precision round differently."""


def with_embedding_function(source: DataSource, embed: Callable[[Tensor], Any] | str) -> DataSource:
    """Return the rows of a data set with what a function makes of them as inputs.

    Args:
        embed: a module or another function of a batch, or its name, "FILE.py:FUNCTION".

    Raises:
        OptionError: neither.
        DataError: no such file or function.
    """
    name = embed if isinstance(embed, str) else getattr(embed, "__name__", type(embed).__name__)
    if isinstance(embed, str) and ".py:" not in embed:
        raise OptionError(f"`embed` must be a function of a batch, or FILE.py:FUNCTION; got {embed!r}.")
    function = user_function(embed) if isinstance(embed, str) else embed
    if not callable(function):
        raise OptionError(f"`embed` must be a function of a batch; got {type(function).__name__}.")

    def embed_inputs(rows: InputRows) -> InputRows:
        inputs = embed_rows(rows.inputs, function, name)
        note = f"predicted from {inputs.shape[1]} numbers that {name} makes of each row"
        names = embedding_names(inputs.shape[1])
        return replace(rows, inputs=inputs, input_columns=names, words=(), notes=(*rows.notes, note))

    encode = source.encode
    return replace(
        source,
        read=lambda chosen: embed_inputs(source.read(chosen)),
        encode=None if encode is None else lambda chosen, train: embed_inputs(encode(chosen, train)),
        record=source.record | {"embeddings": {"name": name, "matched": "made of the inputs"}},
    )


def embed_rows(inputs: np.ndarray, function: Callable[[Tensor], Any], name: str) -> np.ndarray:
    """Return the embeddings of rows, (n, d).

    A module runs in eval mode and gets the type of its own numbers; any other function gets float64. No
    gradient is recorded.

    Raises:
        DataError: the function fails, or is none of each row.
        ShapeError: no (b, d) numbers for b rows.
    """
    parts: list[np.ndarray] = []
    with _eval_mode(function) as (device, dtype):

        def embed_batch(rows: np.ndarray) -> np.ndarray:
            batch = torch.from_numpy(rows).to(device=device, dtype=dtype)
            return _numbers(function, batch, name)

        starts = range(0, len(inputs), BATCH)
        for start in with_progress(starts, what="embedding"):
            part = embed_batch(inputs[start : start + BATCH])
            if not parts:
                _check_function_of_rows(embed_batch, inputs[:BATCH], part, name)
                size = BYTES_PER_NUMBER * len(inputs) * part.shape[1]
                check_allocation(f"{len(inputs)} embeddings of {part.shape[1]} numbers", size)
            elif part.shape[1] != parts[0].shape[1]:
                raise ShapeError(
                    f"`{name}` must return equally many numbers for every row; got {parts[0].shape[1]}, then "
                    f"{part.shape[1]}."
                )
            parts.append(part)
    return np.concatenate(parts)


@contextmanager
def _eval_mode(function: Callable[[Tensor], Any]) -> Iterator[tuple[torch.device, torch.dtype]]:
    """Keep a module in eval mode for a while; yield where its numbers are, and of what type."""
    device, dtype = torch.device("cpu"), torch.float64
    modules = [*function.modules()] if isinstance(function, nn.Module) else []
    training = [module.training for module in modules]
    if isinstance(function, nn.Module):
        number = next((p for p in function.parameters() if p.is_floating_point()), None)
        if number is not None:
            device, dtype = number.device, number.dtype
        function.eval()
    try:
        with torch.no_grad():
            yield device, dtype
    finally:
        for module, mode in zip(modules, training, strict=True):
            module.training = mode


def _numbers(function: Callable[[Tensor], Any], batch: Tensor, name: str) -> np.ndarray:
    """Return what the function makes of a batch, checked."""
    try:
        answer = function(batch.clone())
        answer = answer if isinstance(answer, Tensor) else torch.as_tensor(answer, device="cpu")
        answer = answer.detach().to_dense().cpu()
    except LeftoutError:
        raise
    except (Exception, SystemExit) as error:
        hint = " It gets float64: begin with `.float()` if it wants single precision."
        wants = hint if batch.dtype == torch.float64 and "dtype" in str(error).lower() else ""
        raise DataError(
            f"`{name}` must return embeddings of a batch {tuple(batch.shape)}; it raised "
            f"{exception_text(error)}.{wants}"
        ) from error
    if answer.ndim != 2 or len(answer) != len(batch) or not answer.shape[1] or answer.is_complex():
        raise ShapeError(
            f"`{name}` must return real numbers of shape ({len(batch)}, d) for a batch of {len(batch)} rows; "
            f"got {tuple(answer.shape)}. `.flatten(1)` makes one row of each."
        )
    return doubles(answer.double().numpy())


def _check_function_of_rows(
    embed_batch: Callable[[np.ndarray], np.ndarray], batch: np.ndarray, first: np.ndarray, name: str
) -> None:
    """Raise where the first batch has other embeddings the second time, or beside other rows."""
    if not np.array_equal(embed_batch(batch), first, equal_nan=True):
        raise DataError(
            f"`{name}` must return the same numbers every time; those of the first {len(batch)} rows differ "
            "from one call to the next. Turn dropout and random transforms off (`.eval()`)."
        )
    half = (len(batch) + 1) // 2
    with np.errstate(all="ignore"):
        gap = np.abs(embed_batch(batch[:half]) - first[:half]).max()
        differ = gap > SAME * np.abs(first).max()
    if differ:
        raise DataError(
            f"`{name}` must make the numbers of a row of this row alone; those of the first {half} rows "
            f"change by {gap:.2g} without the {len(batch) - half} others of the batch. Put batch "
            "normalisation into eval mode, and scale by constants."
        )
