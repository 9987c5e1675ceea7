"""What a run leaves to act on: labels with suggestions applied, tasks for a person, and what to keep.

corrected.csv   every training example with its label, suggestions applied to those that are doubted
review.json     the doubted labels as tasks of Label Studio, the suggestion as prediction
keep.txt        the ids of the training examples that stay when those of the suggested removal go

`leftout.data.corrections` reads the first two back, once a person has answered.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

from leftout.core.json_file import strict
from leftout.core.version import __version__
from leftout.curation.mislabelled import Suspect
from leftout.curation.prune import Pruned
from leftout.data.corrections import CHOICE, EXAMPLE
from leftout.data.examples import Examples

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
"""Endings of ids that are paths of pictures."""


def corrected_columns(train: Examples) -> tuple[str, ...]:
    """Return the columns of corrected.csv: those of the table keep their names, unless they are taken."""
    own = ("id", CHOICE, "given", "changed")
    names = [f"{name} (feature)" if name in own else name for name in train.columns or ()]
    return (*own, *names)


def corrected_rows(train: Examples, suspects: Iterable[Suspect]) -> list[tuple[Any, ...]]:
    """Return every training example, in the order of the data, marked where its label was replaced."""
    suggested = {suspect.row: suspect.suggested for suspect in suspects}
    rows = []
    for row, name in enumerate(train.ids):
        given = given_label(train, row)
        label = suggested.get(row, given)
        cells = [] if train.table is None else [str(cell) for cell in train.table[row]]
        rows.append((name, label, given, "yes" if row in suggested else "no", *cells))
    return rows


def review_tasks(train: Examples, suspects: Iterable[Suspect]) -> str:
    """Return the doubted labels as JSON that Label Studio imports, most doubtful first.

    Its labelling configuration needs `<Choices name="label" toName="example">`; the score is how far from
    the given label the model is, in target units, larger = more doubtful.
    """
    tasks = []
    for suspect in suspects:
        name = train.ids[suspect.row]
        data: dict[str, Any] = {EXAMPLE: name, "given": suspect.given, "reason": suspect.reason}
        if train.images is not None and PurePosixPath(name).suffix.lower() in PICTURES:
            data["image"] = name
        if train.table is not None:
            names = corrected_columns(train)[4:]
            data |= dict(zip(names, map(str, train.table[suspect.row]), strict=True))
        choice = {
            "from_name": CHOICE,
            "to_name": EXAMPLE,
            "type": "choices",
            "value": {"choices": [suspect.suggested]},
        }
        prediction = {"model_version": f"leftout {__version__}", "score": -suspect.margin, "result": [choice]}
        tasks.append({"data": data, "predictions": [prediction]})
    return json.dumps(strict(tasks), indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def kept_ids(train: Examples, removal: Pruned) -> str:
    """Return the ids that stay when what can go without loss goes, one a line, in the order of the data.

    An id with a line break stands in quotes, as JSON writes it.
    """
    gone = set(removal.order[: removal.stop])
    kept = [name for row, name in enumerate(train.ids) if row not in gone]
    return "".join(f"{_one_line(name)}\n" for name in kept)


def given_label(train: Examples, row: int) -> str:
    """Return the label of an example as text: its class, or its numbers in the units of the data."""
    if train.labels is not None and train.classes is not None:
        return train.classes[int(train.labels[row])]
    numbers: Sequence[float] = train.encoding.in_target_units(train.targets[row : row + 1])[0].tolist()
    return " ".join(repr(number) for number in numbers)


def _one_line(name: str) -> str:
    return name if len(name.splitlines()) == 1 and not name.startswith('"') else json.dumps(name)
