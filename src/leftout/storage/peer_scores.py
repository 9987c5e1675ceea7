"""Scores of other tools, with our axes and our sign: their conventions, and probes that these were kept.

    tool          axes as saved      positive means                           saved as
    dattri        (train, query)     the example helped                       torch.save, a tensor
    trak          (train, query)     the example raised the query's margin    a numpy memmap, NAME.mmap
    kronfluence   (query, train)     the example helped                       safetensors: "all_modules"
    captum        (query, train)     the example helped (a proponent)         a tensor
    pydvl         (query, train)     the example helped; a value per example  arrays
    quanda        (query, train)     as the tool inside                       torch.save, a tensor

All multiply gradients of two functions, of the training loss and of what is asked of the query. Whoever asks
of a logit or a margin where the tool expects a loss (dattri's target function, kronfluence's measurement)
gets the other sign, and a file may have been transposed before it was saved. So axes come from the numbers of
examples, and the sign is probed.
"""

import math
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float64
from safetensors.torch import load as load_safetensors

from leftout.attribution.engine.labelled_result import SIGN
from leftout.core.checks import check_choice, is_whole, shown
from leftout.core.errors import DataError, OptionError, ShapeError
from leftout.data.conversion import as_array, doubles
from leftout.data.data_name import check_file
from leftout.data.examples import Examples
from leftout.data.files import file_bytes
from leftout.diagnostics.referee.intervals import draw_resamples, measure_queries
from leftout.diagnostics.retraining.agreement import array_with_names

Source = Literal["leftout", "dattri", "trak", "kronfluence", "captum", "pydvl", "quanda"]
Orientation = Literal["query, train", "train, query"]

AXES: dict[str, Orientation] = {
    "leftout": "query, train",
    "dattri": "train, query",
    "trak": "train, query",
    "kronfluence": "query, train",
    "captum": "query, train",
    "pydvl": "query, train",
    "quanda": "query, train",
}
"""Axes of the scores that each tool returns.

Source: dattri, algorithm/trak.py and influence_function.py: "(num_train_samples, num_test_samples)"; trak,
score_computers.py: scores of shape (n, m); kronfluence, docs: query × train; captum, TracInCP.influence:
(test, train); pyDVL, influences: test × train; quanda, Explainer.explain: one row for each test input.
"""

UNSURE = 3.0
"""Standard errors of the probe within which it says nothing."""

Who = Examples | Sequence[str] | int


def read_scores(
    scores: Any,
    *,
    source: Source,
    train: Who | None = None,
    query: Who | None = None,
    reference: Any = None,
    orientation: Orientation | None = None,
    sign: Literal[1, -1] = 1,
    key: str | None = None,
) -> xr.DataArray:
    """Return scores of another tool as (query, train), positive = the example helped, with names.

    Args:
        scores: a file (.npy, .mmap, .npz, .safetensors, .pt, .pth, or a folder .zarr of ours), or an array or
            tensor. One value per training example (pyDVL) is a single query, "all".
        source: the tool, whose conventions are taken.
        train: the training examples, in the tool's order: Examples, ids, or how many there are.
        query: the queries, likewise.
        reference: scores (query, train) with our sign, such as `leave_one_out` of a quick kernel: the probe
            of the sign. Without it classes are the probe, where `train` and `query` are Examples of classes.
        orientation: of the array; needed where there are as many queries as training examples.
        sign: −1 where the tool was asked of a logit or a margin instead of a loss; it is turned then.
        key: of the array, in a file that holds several.

    Returns:
        A DataArray (query, train). Attributes: the source, the orientation as found, the sign, and what the
        probe of the sign said (`sign_probe`).

    Raises:
        DataError: no such file, a damaged one, no real numbers, NaN or infinity; or a probe that contradicts
            the sign: it says so, with both numbers.
        ShapeError: axes that are none of these examples'.
        OptionError: an orientation that cannot be told; a file of several arrays without `key`.

    Cost:
        the file, twice.

    Source:
        the modules named in `AXES`; Pruthi et al. 2020 (proponents and opponents).

    Example:
        >>> import numpy as np
        >>> by_trak = np.array([[2.0, -1.0], [0.5, 0.0], [1.0, 3.0]])  # 3 training examples, 2 queries
        >>> read_scores(by_trak, source="trak", train=3, query=2).values.tolist()
        [[2.0, 0.5, 1.0], [-1.0, 0.0, 3.0]]
    """
    check_choice("source", source, tuple(AXES))
    check_choice("sign", sign, (1, -1))
    if orientation is not None:
        check_choice("orientation", orientation, ("query, train", "train, query"))
    array = _numbers(scores, key)
    if array.ndim == 1:
        array, orientation, query = array[None], "query, train", ["all"] if query is None else query
    if array.ndim != 2:
        raise ShapeError(f"`scores` must have two axes, queries and training examples; got {array.shape}.")
    found = _orientation(array.shape, source, orientation, _count(train), _count(query))
    values = sign * (array if found == "query, train" else array.T)
    finite = np.isfinite(values).all(1)
    if not finite.all():
        raise DataError(f"`scores` must be finite; query {int(np.argmin(finite))} has NaN or infinity.")
    probe = _probe(values, train, query, reference)
    return xr.DataArray(
        values,
        dims=("query", "train"),
        coords={"query": _names(query, len(values)), "train": _names(train, values.shape[1])},
        attrs={
            "method": source,
            "source": source,
            "of": "loss",
            "sign": SIGN["loss"],
            "sign_probe": probe,
            "sign_turned": int(sign < 0),
            "orientation": "rows are queries, columns training examples",
            "orientation_of_source": found,
            "units": "of the tool",
        }
        | _fingerprints(train, query),
        name="scores",
    )


def _numbers(scores: Any, key: str | None) -> Float64[np.ndarray, "*axes"]:
    """Return the numbers of a file or an array."""
    if isinstance(scores, str | PathLike):
        scores = _file_content(Path(scores).expanduser(), key)
    elif {"values", "indices"} <= set(dir(scores)) and not isinstance(scores, torch.Tensor):
        # A ValuationResult of pyDVL, which may be sorted.
        order = np.argsort(np.asarray(scores.indices))
        scores = np.asarray(scores.values)[order]
    elif key is not None:
        raise OptionError("`key` names an array in a file; `scores` is an array. Leave it out.")
    array = scores.values if isinstance(scores, xr.DataArray) else as_array("scores", scores)
    if array.dtype.kind not in "biuf":
        raise DataError(f"`scores` must hold real numbers; got dtype {array.dtype}.")
    return doubles(array)


def _file_content(path: Path, key: str | None) -> Any:
    """Return the array of a file, without running code from it."""
    suffix = path.suffix.lower()
    if suffix == ".zarr":
        return _our_scores(path)
    check_file(path)
    try:
        if suffix == ".safetensors":
            arrays: Any = load_safetensors(file_bytes(path))
        elif suffix in (".pt", ".pth"):
            arrays = torch.load(path, weights_only=True, map_location="cpu")
        elif suffix in (".npy", ".mmap", ".npz"):
            with path.open("rb") as file:
                loaded = np.load(file, allow_pickle=False)
                arrays = loaded if isinstance(loaded, np.ndarray) else dict(loaded)
        else:
            raise OptionError(
                f"`scores` must be a file .npy, .mmap, .npz, .safetensors, .pt, .pth or .zarr; got "
                f"{str(path)!r}."
            )
    except OptionError:
        raise
    except Exception as error:  # whatever a reader of foreign bytes may stumble over
        raise DataError(
            f"`{path}` must hold scores: an array, without pickled objects; reading it raised "
            f"{type(error).__name__}."
        ) from error
    return _one_array(arrays, path, key) if isinstance(arrays, dict) else arrays


def _one_array(arrays: dict[Any, Any], path: Path, key: str | None) -> Any:
    """Return the array that is meant of those in a file; scores by module are added up."""
    names = list(map(str, arrays))
    listed = ", ".join(map(repr, names[:5])) + (", …" if len(names) > 5 else "")
    if key is not None:
        if key not in arrays:
            raise OptionError(f"`key` must be one of {listed}, the arrays in `{path}`; got {key!r}.")
        return arrays[key]
    if "all_modules" in arrays:  # kronfluence
        return arrays["all_modules"]
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    raise OptionError(
        f"`{path}` holds several arrays, {listed}: say which by `key`. Of kronfluence's scores by module, "
        "add up the modules that are meant and pass the array."
    )


def _our_scores(path: Path) -> xr.DataArray:
    try:
        stored = xr.open_zarr(path, consolidated=False).load()
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"`{path}` must be a folder of scores as leftout saves it; got {error}.") from None
    matrices = [name for name in stored if {"query", "train"} <= set(stored[name].dims)]
    if len(matrices) != 1 or stored[matrices[0]].squeeze().ndim != 2:
        raise ShapeError(
            f"`{path}` must hold one array (query, train); it has {', '.join(map(str, stored))}."
        )
    matrix: xr.DataArray = stored[matrices[0]].squeeze().transpose("query", "train")
    return matrix


def _orientation(
    shape: tuple[int, ...], source: str, orientation: Orientation | None, n: int | None, m: int | None
) -> Orientation:
    """Return which axis is which: by the numbers of examples, as far as these are known."""
    sizes: dict[Orientation, tuple[int | None, int | None]] = {"query, train": (m, n), "train, query": (n, m)}
    fits = {
        axes: size
        for axes, size in sizes.items()
        if all(known in (None, length) for known, length in zip(size, shape, strict=True))
    }
    if orientation is not None:
        fits = {axes: size for axes, size in fits.items() if axes == orientation}
    if not fits:
        counts = f"{'any number of' if m is None else m} queries and {'any number of' if n is None else n}"
        axes = f" as ({orientation})" if orientation is not None else ""
        raise ShapeError(
            f"`scores` must have an axis for {counts} training examples{axes}; got {tuple(shape)}. Pass the "
            "`train` and `query` that the tool was given."
        )
    if len(fits) == 1:
        return next(iter(fits))
    if shape[0] == shape[1]:
        raise OptionError(
            "`orientation` must be given, 'query, train' or 'train, query': there are as many queries as "
            f"training examples, {shape[0]}, so that the array may be either way. {source} returns "
            f"({AXES[source]})."
        )
    return AXES[source]


def _probe(values: Float64[np.ndarray, "m n"], train: Any, query: Any, reference: Any) -> str:
    """Return what a probe says of the sign, in words.

    Raises:
        DataError: it contradicts the sign.
    """
    if reference is not None:
        against = doubles(array_with_names("reference", reference).values)
        if against.shape != values.shape:
            raise ShapeError(
                f"`reference` must have the shape of the scores, {values.shape}; got {against.shape}."
            )
        subject = "mean Spearman correlation with the reference"
        evidence = measure_queries(
            "spearman", values, against, draw_resamples(values.shape[1], len(values), 1, 0)
        )
        numbers = evidence.estimate
    elif _labelled(train) and _labelled(query):
        same = query.labels.numpy()[:, None] == train.labels.numpy()[None]
        subject = "mean difference, in standard deviations, of scores within the query's class and outside it"
        numbers = _class_differences(values, same)
    else:
        return "none: pass `reference`, or `train` and `query` with classes"
    numbers = numbers[np.isfinite(numbers)]
    mean = float(numbers.mean()) if len(numbers) else 0.0
    error = float(numbers.std(ddof=1) / math.sqrt(len(numbers))) if len(numbers) > 1 else math.inf
    text = f"{subject} {mean:.3f} ± {error:.3f}"
    if mean < -UNSURE * error:
        raise DataError(
            f"`scores` must be positive where an example helped, and these look turned: {text}. If the tool "
            "was asked of a logit or a margin instead of a loss, pass sign=-1; if they are right and the "
            "probe is not, pass scores as a DataArray of your own."
        )
    return f"{'confirmed' if mean > UNSURE * error else 'unclear'}: {text}"


def _class_differences(values: Float64[np.ndarray, "m n"], same: np.ndarray) -> Float64[np.ndarray, " m"]:
    """Return for each query the mean score in its class less that outside, in standard deviations."""
    inside, outside = same.sum(1), (~same).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        differences: np.ndarray = (values * same).sum(1) / inside - (values * ~same).sum(1) / outside
        differences /= values.std(1)
    return differences


def _labelled(examples: Any) -> bool:
    return isinstance(examples, Examples) and examples.labels is not None


def _count(who: Any) -> int | None:
    if who is None or is_whole(who):
        return who if who is None else int(who)
    if isinstance(who, str | bytes) or not hasattr(who, "__len__"):
        raise OptionError(f"`train` and `query` must be Examples, ids or a number of them; got {shown(who)}.")
    return len(who)


def _names(who: Any, count: int) -> list[str]:
    if isinstance(who, Examples):
        return list(who.ids)
    return [str(name) for name in (range(count) if who is None or is_whole(who) else who)]


def _fingerprints(train: Any, query: Any) -> dict[str, str]:
    both = {"train_fingerprint": train, "query_fingerprint": query}
    return {name: who.fingerprint for name, who in both.items() if isinstance(who, Examples)}
