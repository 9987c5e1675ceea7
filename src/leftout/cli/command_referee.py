"""`leftout referee`: how good scores are, against training that was really done again or exact refits."""

from pathlib import Path
from typing import Any, TypeVar

import xarray as xr
from rich.console import Console
from rich.table import Table
from rich.text import Text

from leftout.attribution.leave_one_out import leave_one_out
from leftout.audit.run_folder import open as open_run
from leftout.cli.commands import RefereeArguments
from leftout.cli.model import fit_model, kernel_of, load_examples, rule_for
from leftout.core.errors import DataError, OptionError
from leftout.core.wording import count, number, number_with_interval, plain
from leftout.data.data_name import check_file
from leftout.data.examples import Examples
from leftout.diagnostics.referee.referee import referee
from leftout.dynamics.fitted import Fitted
from leftout.storage.csv_table import save_csv
from leftout.storage.peer_scores import read_scores

Labelled = TypeVar("Labelled", xr.DataArray, xr.Dataset)

COLUMNS = (
    *("scores", "measure", "estimate", "low", "high", "ceiling", "ceiling_low", "ceiling_high"),
    "verdict",
)


def referee_command(arguments: RefereeArguments) -> None:
    """Print one table of all scores and measures, and save it where asked."""
    kernel = kernel_of(arguments)
    train, query = load_examples(arguments, kernel)
    truth = None if arguments.truth is None else open_truth(arguments.truth)
    wrong = None if arguments.wrong_labels is None else _rows_of_ids(arguments.wrong_labels, train)
    fitted = None
    if truth is None or not arguments.scores:
        fitted = fit_model(arguments, kernel, train, rule_for(arguments, kernel, train))
    print(_truth_sentence(arguments, truth, train))
    rows = []
    for name, scores in _judged(arguments, fitted, truth, train, query).items():
        verdict = referee(
            scores,
            fitted if truth is None else truth,
            query=query,
            wrong_labels=None if isinstance(scores, Fitted) else wrong,
            top=arguments.top,
            subsets=arguments.subsets,
            resamples=arguments.resamples,
            level=arguments.confidence,
            seed=arguments.seed,
        )
        for measure in verdict["measure"].values.tolist():
            row = verdict.sel(measure=measure)
            rows.append([name, measure, *(row[column].item() for column in COLUMNS[2:])])
    if arguments.out is not None:
        save_csv(arguments.out, COLUMNS, [list(map(str, row)) for row in rows])
    Console().print(_table(rows, arguments.confidence))


def open_truth(path: Path) -> xr.Dataset | xr.DataArray:
    """Return losses of subsets, effects of leaving examples out, or the scores of a run.

    Raises:
        DataError: no such folder, or none of these in it.
    """
    place = path.expanduser()
    if (place / "run.json").exists():
        scores: xr.DataArray = open_run(place).scores
        last: xr.DataArray = scores.isel(at=-1, drop=True) if "at" in scores.dims else scores
        return _without_fingerprints(last)
    if not place.is_dir():
        raise DataError(f"--truth must be a folder .zarr or that of a run; there is no folder {str(path)!r}.")
    try:
        stored: xr.Dataset = xr.open_zarr(place, consolidated=False).load()
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"--truth {str(path)!r} must be a folder that to_zarr wrote; got {error}.") from None
    if {"loss", "kept"} <= set(stored):
        return _without_fingerprints(stored)
    effects = [name for name in stored if {"query", "train"} <= set(stored[name].dims)]
    if len(effects) != 1:
        raise DataError(
            f"--truth {str(path)!r} must hold losses of retrain_subsets or effects (query, train) of "
            f"retrain; it holds {', '.join(map(str, stored)) or 'nothing'}."
        )
    effect: xr.DataArray = stored[effects[0]]
    return _without_fingerprints(effect)


def _judged(
    arguments: RefereeArguments,
    fitted: Fitted | None,
    truth: xr.Dataset | xr.DataArray | None,
    train: Examples,
    query: Examples,
) -> dict[str, xr.DataArray | Fitted]:
    """Return the scores that are judged, by name: files, or what the kernel says."""
    if not arguments.scores:
        assert fitted is not None
        scores: dict[str, xr.DataArray | Fitted] = {
            "leave-one-out of the kernel": _without_fingerprints(leave_one_out(fitted, query))
        }
        return scores | ({"exact refits of the kernel": fitted} if isinstance(truth, xr.Dataset) else {})
    return {
        path.name: _without_fingerprints(
            read_scores(
                path, source=arguments.source, train=train, query=query, orientation=arguments.orientation
            )
        )
        for path in arguments.scores
    }


def _without_fingerprints(array: Labelled) -> Labelled:
    """Return the same without hashes of the data: ids are compared, for a network may see other scalings."""
    kept = {name: text for name, text in array.attrs.items() if not str(name).endswith("_fingerprint")}
    array = array.copy(deep=False)
    array.attrs = kept
    return array


def _rows_of_ids(path: Path, train: Examples) -> list[int]:
    check_file(path.expanduser())
    ids = path.expanduser().read_text(encoding="utf-8").splitlines()
    rows = {name: row for row, name in enumerate(train.ids)}
    unknown = [name for name in ids if name not in rows]
    if unknown:
        raise OptionError(
            f"--wrong-labels must hold ids of training examples; {plain(unknown[0])!r} is none. They are "
            f"such as {', '.join(map(repr, train.ids[:3]))}."
        )
    return [rows[name] for name in ids]


def _truth_sentence(
    arguments: RefereeArguments, truth: xr.Dataset | xr.DataArray | None, train: Examples
) -> str:
    if truth is None:
        return (
            f"Truth: {count(arguments.subsets, 'random half', 'random halves')} of "
            f"{count(len(train), 'example')}, the kernel fitted to each exactly, and each example left out."
        )
    place = plain(arguments.truth, 400)
    if isinstance(truth, xr.Dataset):
        seeds = count(truth.sizes.get("seed", 1), "seed")
        return f"Truth: {count(truth.sizes['subset'], 'subset')}, {seeds} each, from {place}."
    return f"Truth: {count(truth.sizes['train'], 'example')} left out, from {place}."


def _table(rows: list[list[Any]], confidence: float) -> Table:
    """Return all measures as a table."""
    table = Table("scores", "measure", f"{confidence:.0%} interval", "at most", "verdict")
    for name, measure, estimate, low, high, ceiling, ceiling_low, ceiling_high, verdict in rows:
        exact = ceiling_low == ceiling_high
        table.add_row(
            Text(plain(name)),
            measure.replace("_", " "),
            number_with_interval(estimate, low, high),
            number(ceiling) if exact else number_with_interval(ceiling, ceiling_low, ceiling_high),
            Text(verdict.partition(": ")[2] or verdict.partition("; ")[2]),
        )
    return table
