"""Options of the data: which examples, and how inputs and targets are prepared. Loads no torch."""

from dataclasses import dataclass
from typing import Literal

from leftout.core.options import OptionRecord, option

Normalise = Literal["unit", "sphere", "standard"]
Centre = Literal["uniform", "mean", "none"]
Task = Literal["classification", "regression"]
YesNo = Literal["yes", "no"]
Background = Literal["white", "black"]


@dataclass(frozen=True, kw_only=True)
class DataOptions(OptionRecord):
    """Options of `leftout.data.load`."""

    panel = "Data"

    data: str = option(
        "digits",
        "digits, mnist:DIR, cifar10:DIR, a folder or .zip of images by split and class, a folder of Parquet "
        "or Arrow files, FILE.npz, FILE.csv, FILE.parquet, or FILE.py:FUNCTION returning (train, query).",
    )
    n_train: int | None = option(None, "Training examples to take; all by default.", common=True)
    n_query: int | None = option(None, "Queries to take; all by default.")
    classes: str | None = option(None, "Classes to keep, in this order: 7,9.")
    target: str | None = option(None, "Column to predict in a table; the last by default.", common=True)
    columns: str | None = option(None, "Columns of a table to predict from: a,b; all others by default.")
    drop: str | None = option(None, "Columns of a table to leave out of everything: a,b.")
    header: YesNo | None = option(None, "Whether the first line of a .csv names its columns.")
    task: Task | None = option(
        None, "Whether targets are classes or numbers; floats are numbers by default, all else classes."
    )
    pictures: YesNo | None = option(
        None, "Whether arrays (n, h, w) are pictures; bytes, and floats within 0 … 1, are by default."
    )
    resize: str | None = option(None, "Bring picture files to one size: 64, or HEIGHTxWIDTH.")
    crop: YesNo | None = option(
        None,
        "With --resize: cut the middle out, rather than squeeze the whole picture, as is done by default.",
    )
    background: Background | None = option(None, "What stands behind transparent pixels of picture files.")
    labels: str | None = option(
        None, "FILE.csv (id, label), or what Label Studio exports: labels that were corrected.", common=True
    )
    embeddings: str | None = option(
        None,
        "FILE.npy or .parquet: a row of features for each row of the data, taken in place of its inputs.",
    )
    embed: str | None = option(None, "FILE.py:FUNCTION that makes features (b, d) of a batch of inputs.")
    seed: int = option(0, "Of split and subsets.")
    normalise: Literal[Normalise, "none"] | None = option(
        None,
        "Scaling of inputs: norm 1, norm √d, mean 0 and deviation 1, none; by default as the kernel asks.",
    )
    centre: Centre | None = option(None, "What is subtracted from targets: 1/classes, their mean, nothing.")
