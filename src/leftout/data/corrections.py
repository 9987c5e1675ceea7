"""Labels that a person has corrected, read back by the ids of examples.

FIXED.csv     columns `id` and `label`, such as the `corrected.csv` of a run; others are not read
FIXED.json    what Label Studio exports of the `review.json` of a run, as JSON or JSON-MIN
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from leftout.core.checks import check_path
from leftout.core.errors import DataError, OptionError
from leftout.core.wording import name_list
from leftout.data.data_name import check_file
from leftout.data.examples import Examples

CHOICE, EXAMPLE = "label", "example"
"""Name of the choice in a labelling task, and of the example's id among the data of the task."""

Corrections = dict[str, str]
"""Labels by id."""


def read_corrections(path: str | Path) -> Corrections:
    """Return labels by id.

    Raises:
        OptionError: neither a .csv nor a .json.
        DataError: no such file, no table with these columns, no export of labelling tasks, or an id with two
            labels; names the file and the first such id.
    """
    check_path("labels", path)
    file = Path(path).expanduser()
    readers = {".csv": _of_table, ".json": _of_tasks}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise OptionError(
            f"`labels` must be a .csv with columns id and label, or a .json that Label Studio exports; got "
            f"{str(path)!r}."
        )
    check_file(file)
    corrections: Corrections = {}
    for name, label in reader(file):
        if corrections.setdefault(name, label) != label:
            raise DataError(
                f"`{path}` must give each example one label; {name!r} has {corrections[name]!r} and "
                f"{label!r}."
            )
    return corrections


def correct(
    pair: tuple[Examples, Examples], corrections: Corrections, source: str
) -> tuple[Examples, Examples]:
    """Return training examples and queries with these labels, and in `preparation` what changed.

    Raises:
        DataError: an id that neither has, or a label that is none of the classes, or no number.
    """
    unknown = [name for name in corrections if not any(name in examples.ids for examples in pair)]
    if unknown:
        raise DataError(
            f"`{source}` must be about these examples; {len(unknown)} of its {len(corrections)} ids are none "
            f"of them, the first {unknown[0]!r}."
        )
    train, query = (_with_corrections(examples, corrections, source) for examples in pair)
    return train, query


def _with_corrections(examples: Examples, corrections: Corrections, source: str) -> Examples:
    rows = [row for row, name in enumerate(examples.ids) if name in corrections]
    given = [corrections[examples.ids[row]] for row in rows]
    if examples.labels is None:
        return _with_numbers(examples, rows, given, source)
    assert examples.classes is not None
    numbers = {name: number for number, name in enumerate(examples.classes)}
    # A table of a run has an apostrophe before a name that a spreadsheet would run.
    given = [label[1:] if label not in numbers and label.startswith("'") else label for label in given]
    for row, label in zip(rows, given, strict=True):
        if label not in numbers:
            raise DataError(
                f"`{source}` must give labels that are classes of the data, {name_list(examples.classes)}; "
                f"that of {examples.ids[row]!r} is {label!r}."
            )
    labels = examples.labels.clone()
    labels[rows] = torch.tensor([numbers[label] for label in given], dtype=labels.dtype, device=labels.device)
    changed = (labels != examples.labels).nonzero().flatten().tolist()
    before = [(examples.ids[row], examples.classes[int(examples.labels[row])]) for row in changed]
    return _with_note(examples.with_labels(labels), before, source)


def _with_numbers(examples: Examples, rows: list[int], given: list[str], source: str) -> Examples:
    """Return the examples with these numbers to predict."""
    if examples.encoding.outputs != 1:
        raise DataError(
            f"`{source}` gives one label an example, and these have {examples.encoding.outputs} numbers."
        )
    targets = examples.targets.clone()
    for row, label in zip(rows, given, strict=True):
        try:
            targets[row, 0] = float(label) - examples.encoding.offset[0]
        except ValueError:
            raise DataError(
                f"`{source}` must give numbers, as the data do; that of {examples.ids[row]!r} is {label!r}."
            ) from None
    if not bool(torch.isfinite(targets).all()):
        raise DataError(f"`{source}` must give finite numbers; one of them is not.")
    changed = (targets[:, 0] != examples.targets[:, 0]).nonzero().flatten().tolist()
    in_units = examples.encoding.in_target_units(examples.targets)
    before = [(examples.ids[row], f"{float(in_units[row, 0]):g}") for row in changed]
    return _with_note(replace(examples, targets=targets, coded_from=""), before, source)


def _with_note(examples: Examples, before: list[tuple[str, str]], source: str) -> Examples:
    """Return examples that say what was changed."""
    corrected = {"file": source, "changed": len(before), "before": dict(before)}
    return replace(examples, preparation=examples.preparation | {"corrected": corrected})


def _of_table(path: Path) -> Iterator[tuple[str, str]]:
    """Yield id and label of every row."""
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogatepass") as file:
            rows = csv.DictReader(file, strict=True)
            names = rows.fieldnames or []
            if "id" not in names or CHOICE not in names:
                raise DataError(
                    f"`{path}` must have the columns 'id' and 'label'; it has {name_list(names)}."
                )
            for number, row in enumerate(rows, start=2):
                if row["id"] is None or row[CHOICE] is None:
                    raise DataError(
                        f"`{path}` must have an id and a label in every row; row {number} ends early."
                    )
                yield row["id"], row[CHOICE]
    except (csv.Error, UnicodeError, OSError) as error:
        raise DataError(f"`{path}` must be a table of text; reading it raised {error!r}.") from None


def _of_tasks(path: Path) -> Iterator[tuple[str, str]]:
    """Yield id and label of every task that was answered; the last answer of a task counts."""
    try:
        tasks = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(f"`{path}` must hold JSON; reading it raised {error!r}.") from None
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise DataError(f"`{path}` must hold a list of tasks, as Label Studio exports them.")
    for place, task in enumerate(tasks):
        name = task.get("data", task).get(EXAMPLE) if isinstance(task.get("data", task), dict) else None
        if not isinstance(name, str):
            raise DataError(
                f"`{path}` must hold tasks of the review.json of a run, with {EXAMPLE!r} among their data; "
                f"task {place} has none."
            )
        label = _answer(task)
        if label is not None:
            yield name, label


def _answer(task: dict[str, Any]) -> str | None:
    """Return the choice of a task; None where it was skipped."""
    if isinstance(task.get(CHOICE), str):  # JSON-MIN
        return str(task[CHOICE])
    answers = [each for each in task.get("annotations") or [] if not each.get("was_cancelled")]
    if not answers:
        return None
    for result in answers[-1].get("result") or []:
        choices = result.get("value", {}).get("choices") or []
        if result.get("from_name") == CHOICE and choices:
            return str(choices[0])
    return None
