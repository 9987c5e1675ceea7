"""How good are the defaults of an audit on data that they were not chosen on, beside today's tools?

    python benchmarks/defaults.py             all data sets that are at hand, and the record
    python benchmarks/defaults.py iris wine   some of them

In an environment with leftout and `benchmarks/defaults-requirements.txt`. Every data set gives up to 300
training rows and up to 1000 others. The labels of 8 % of the training rows are changed in three ways: to any
other class; to the class that is most probable beside the right one, by a logistic regression on right
labels; and within one class, the largest. Everyone sees the same encoded features and the same labels,
without being told the noise. The rule of doubt was chosen on some of the data sets (`doubt_rule.py`), of
which there are two draws but for large pictures; it is judged on the others, those held back, of which there
is one:

    leftout             the default: standardised columns, ReLU(2), ridge by left-out loss, calibrated rule
    before              what leftout did before: rows of norm 1, TwoLayerReLU, ridge 1, margins below 0
    cleanlab, …         find_label_issues and self-confidence, of probabilities from 5-fold cross-validation
    suspects, …         `lo.suspects` of the same probabilities
    5-fold, …           labels that 5-fold predictions miss

Accuracy is that of the model fitted to right labels, on the other rows. Precision, recall and F1 are of the
labels doubted, AUC of their order; false doubts are rows doubted where every label is right, of all rows and
of those of the smallest class. With labels in random order nothing should be doubted; that is asked of
leftout and of logistic regression.
"""

import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from data_sets import DataSet, data_sets, held_back
from measure import ROOT, record
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import leftout as lo
from leftout.curation.doubt import class_margins, doubts
from leftout.curation.mislabelled import one_hot_scores
from leftout.kernels.wide.default import DEFAULT_KERNEL, DEFAULT_NORMALISE

TRAIN, OTHERS, FEWEST = 300, 1000, 10
"""Most training rows, most others, and the fewest rows of a class that is kept."""

SHARE = 0.08
"""Of the training labels that are changed."""

SEEDS = (0, 1)
ONE_SEED = ("mnist", "cifar10 plane ship")
"""Data sets of one draw, as classifiers take minutes for pictures of many pixels."""

CACHE = ROOT / ".defaults"
"""Labels and scores of everyone, draw by draw: remove it to measure anew."""

CLASSIFIERS = ("logistic regression", "random forest", "gradient boosting")

NOISE = ("clean", "any", "confusable", "one class", "shuffled")
CHANGED = ("any", "confusable", "one class")


def classifiers(seed: int) -> dict[str, Any]:
    """Return the models whose probabilities cleanlab is given."""
    return {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        "random forest": RandomForestClassifier(random_state=seed),
        "gradient boosting": HistGradientBoostingClassifier(random_state=seed),
    }


class Draw:
    """Training rows and others of one data set, and labels as they are changed."""

    def __init__(self, source: DataSet, seed: int) -> None:
        self.source, self.seed = source, seed
        self.random = np.random.default_rng(seed)
        names, counts = np.unique(source.classes.astype(str), return_counts=True)
        kept = set(names[counts >= FEWEST].tolist())
        rows = self.random.permutation([row for row, name in enumerate(source.classes) if str(name) in kept])
        n = min(TRAIN, round(0.6 * len(rows)))
        self.train, self.others = rows[:n], rows[n : n + OTHERS]
        self.classes = sorted(kept)
        self.labels = np.array([self.classes.index(str(source.classes[row])) for row in rows[: n + OTHERS]])
        self.n = n
        train, others = self.load(self.labels[:n], normalise=None)
        self.features = train.inputs.flatten(1).numpy()
        self.other_features = others.inputs.flatten(1).numpy()

    def load(self, labels: np.ndarray, *, normalise: Any) -> tuple[lo.Examples, lo.Examples]:
        """Return training rows and others as leftout reads them, the former with these labels."""
        rows = np.concatenate([self.train, self.others])
        names = np.array(self.classes, dtype=object)[np.concatenate([labels, self.labels[self.n :]])]
        if self.source.frame is None:
            assert self.source.pictures is not None
            pictures = self.source.pictures[rows]
            pairs = ((pictures[: self.n], names[: self.n]), (pictures[self.n :], names[self.n :]))
            return lo.load(pairs, normalise=normalise, pictures=True)
        frame = self.source.frame.iloc[rows].reset_index(drop=True)
        frame[self.source.target] = [f"class {name}" for name in names]
        frame["split"] = ["train"] * self.n + ["test"] * (len(rows) - self.n)
        return lo.load(frame, target=self.source.target, normalise=normalise, drop_constant=True)

    def changed(self, noise: str, probable: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return labels, and which were changed.

        Args:
            probable: (n, c) of a model of the right labels, out of sample.
        """
        right, c = self.labels[: self.n], len(self.classes)
        labels, random = right.copy(), np.random.default_rng([self.seed, NOISE.index(noise)])
        if noise == "shuffled":
            return random.permutation(right), np.zeros(self.n, bool)
        rows = np.zeros(0, int)
        if noise in CHANGED:
            largest = np.bincount(right).argmax()
            pool = np.flatnonzero(right == largest) if noise == "one class" else np.arange(self.n)
            rows = random.choice(pool, round(SHARE * self.n), replace=False)
        if noise == "confusable":
            others = probable[rows].copy()
            others[np.arange(len(rows)), right[rows]] = -1
            labels[rows] = others.argmax(1)
        else:
            labels[rows] = (right[rows] + random.integers(1, c, len(rows))) % c
        return labels, labels != right


def out_of_fold(model: Any, features: np.ndarray, labels: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """Return probabilities of every class from five folds, 0 of a class that the folds do not hold."""
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with fewer than five rows
        found = cross_val_predict(model, features, labels, cv=folds, method="predict_proba")
    probabilities = np.zeros((len(labels), classes))
    probabilities[:, np.unique(labels)] = found
    return probabilities


def left_out_scores(draw: Draw, labels: np.ndarray, *, before: bool) -> tuple[np.ndarray, float | None]:
    """Return the left-out scores of leftout now or before, and the accuracy on other rows."""
    train, others = draw.load(labels, normalise="unit" if before else DEFAULT_NORMALISE)
    kernel = lo.kernels.TwoLayerReLU() if before else DEFAULT_KERNEL
    fitted = lo.fit(kernel, train, rule=lo.Ridge(1.0 if before else "auto"))
    scores = one_hot_scores(fitted, lo.out_of_sample(fitted))
    return scores, others.accuracy(fitted.predict(others))


def scored(draw: Draw, noise: str, probable: np.ndarray) -> dict[str, np.ndarray]:
    """Return labels, scores of everyone, and accuracies where the labels are right, to be kept."""
    labels, wrong = draw.changed(noise, probable)
    kept = {"labels": labels, "wrong": wrong}
    for name, before in (("leftout", False), ("before", True)):
        kept[f"scores, {name}"], accuracy = left_out_scores(draw, labels, before=before)
        if noise == "clean":
            kept[f"accuracy, {name}"] = np.array(accuracy)
    # Labels in random order are asked of the fastest only.
    for name, model in list(classifiers(draw.seed).items())[: 1 if noise == "shuffled" else None]:
        kept[f"scores, {name}"] = out_of_fold(model, draw.features, labels, len(draw.classes), draw.seed)
        if noise == "clean":
            said = model.fit(draw.features, labels).predict(draw.other_features)
            kept[f"accuracy, {name}"] = np.array((said == draw.labels[draw.n :]).mean())
    return kept


def answers(kept: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Return what everyone says of the labels: whom is doubted, and in which order."""
    labels = kept["labels"]
    rows = np.arange(len(labels))
    own = doubts(kept["scores, leftout"], labels)
    margins = class_margins(kept["scores, before"], labels)
    found: dict[str, dict[str, Any]] = {
        "leftout": {"doubted": own.doubted, "order": -own.margins, "refused": bool(own.refusal)},
        "before": {"doubted": margins < 0, "order": -margins},
    }
    for name in CLASSIFIERS:
        if f"scores, {name}" not in kept:
            continue
        probabilities = kept[f"scores, {name}"]
        ours = lo.suspects(labels, probabilities)
        found[f"cleanlab, {name}"] = {
            "doubted": find_label_issues(labels, probabilities),
            "order": -get_label_quality_scores(labels, probabilities),
        }
        found[f"suspects, {name}"] = {
            "doubted": ours["is_label_issue"].to_numpy(),
            "order": -ours["margin"].to_numpy(),
            "refused": bool(ours.attrs["refusal"]),
        }
        found[f"5-fold, {name}"] = {
            "doubted": probabilities.argmax(1) != labels,
            "order": -probabilities[rows, labels],
        }
    return found


def measured(kept: dict[str, np.ndarray], about: dict[str, Any], right: np.ndarray) -> list[dict[str, Any]]:
    """Return one row of numbers for everyone.

    Args:
        about: the data set, the seed and how labels were changed.
        right: labels, from which the smallest class is told.
    """
    wrong, smallest = kept["wrong"], right == np.bincount(right).argmin()
    rows = []
    for name, answer in answers(kept).items():
        doubted = answer["doubted"]
        row = about | {"by": name, "examples": len(right)}
        row |= {"doubted": float(doubted.mean()), "refused": answer.get("refused", False)}
        if about["noise"] == "clean":
            accuracy = float(kept[f"accuracy, {name.split(', ')[-1]}"])
            row |= {"accuracy": accuracy, "doubted_smallest": float(doubted[smallest].mean())}
        if about["noise"] in CHANGED:
            hits = float((doubted & wrong).sum())
            row |= {
                "precision": hits / max(1, doubted.sum()),
                "recall": hits / wrong.sum(),
                "f1": 2 * hits / (doubted.sum() + wrong.sum()),
                "auc": float(roc_auc_score(wrong, answer["order"])),
            }
        rows.append(row)
    return rows


def summary(rows: pd.DataFrame) -> dict[str, Any]:
    """Return means over data sets, each of which counts as one."""
    table: dict[str, Any] = defaultdict(dict)
    numbers = ("accuracy", "precision", "recall", "f1", "auc")
    for name, of_one in rows.groupby("by", sort=False):
        for number in numbers:
            table[name][number] = float(of_one.groupby("set")[number].mean().mean())
        clean, shuffled = (of_one[of_one["noise"] == noise] for noise in ("clean", "shuffled"))
        table[name]["false_doubts"] = float(clean.groupby("set")["doubted"].mean().mean())
        table[name]["false_doubts_smallest_class"] = float(
            clean.groupby("set")["doubted_smallest"].mean().mean()
        )
        if len(shuffled):
            table[name]["doubted_when_shuffled"] = float(shuffled.groupby("set")["doubted"].mean().mean())
            table[name]["refused_when_shuffled"] = float(shuffled["refused"].mean())
        table[name]["refused_when_clean"] = float(clean["refused"].mean())
    return dict(table)


def kept_scores(name: str, read: Callable[[], DataSet], seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Return labels and scores for every noise, from an earlier run if there was one: rules are judged on
    these in seconds.
    """
    file = CACHE / f"{name.replace(' ', '-')}-{seed}.npz"
    if not file.exists():
        began = time.perf_counter()
        draw = Draw(read(), seed)
        model = classifiers(seed)["logistic regression"]
        probable = out_of_fold(model, draw.features, draw.labels[: draw.n], len(draw.classes), seed)
        arrays = {
            f"{noise}: {key}": array
            for noise in NOISE
            for key, array in scored(draw, noise, probable).items()
        }
        CACHE.mkdir(exist_ok=True)
        part = file.with_suffix(".part.npz")
        np.savez(part, **arrays)
        part.rename(file)
        print(f"{name}, seed {seed}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    kept: dict[str, dict[str, np.ndarray]] = {noise: {} for noise in NOISE}
    with np.load(file) as arrays:
        for key in arrays:
            noise, _, what = key.partition(": ")
            kept[noise][what] = arrays[key]
    return kept


def rows_of(name: str, read: Callable[[], DataSet], seed: int) -> list[dict[str, Any]]:
    """Return the numbers of everyone on one draw of a data set."""
    kept = kept_scores(name, read, seed)
    right = kept["clean"]["labels"]
    return [
        row
        for noise in NOISE
        for row in measured(kept[noise], {"set": name, "seed": seed, "noise": noise}, right)
    ]


def by_set(frame: pd.DataFrame, number: str) -> dict[str, dict[str, float]]:
    """Return one number of everyone on every data set."""
    return frame.pivot_table(index="set", columns="by", values=number, sort=False).round(4).to_dict("index")


def page_table(means: dict[str, Any]) -> str:
    """Return means as the table of docs/defaults.md."""
    numbers = ("accuracy", "auc", "precision", "recall", "f1")
    lines = [
        "| | accuracy | AUC | precision | recall | F1 | false doubts | of the smallest class | doubted when "
        "shuffled |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, mean in means.items():
        shuffled = mean.get("doubted_when_shuffled")
        cells = [f"{mean[number]:.3f}".lstrip("0") for number in numbers]
        cells += [f"{mean[number]:.1%}" for number in ("false_doubts", "false_doubts_smallest_class")]
        cells.append("" if shuffled is None else f"{shuffled:.1%}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and keep the record of all data sets."""
    wanted = sys.argv[1:]
    others = held_back()
    known = data_sets() | others
    readers = {name: known[name] for name in wanted or known}
    frame = pd.DataFrame(
        [
            row
            for seed, (name, read) in product(SEEDS, readers.items())
            if seed == SEEDS[0] or name not in {*ONE_SEED, *others}
            for row in rows_of(name, read, seed)
        ]
    )
    changed, clean = frame[frame["noise"].isin(CHANGED)], frame[frame["noise"] == "clean"]
    is_held_back = frame["set"].isin(list(others))
    result = {
        "sets": frame.groupby("set", sort=False)["examples"].first().astype(int).to_dict(),
        "means_of_all": summary(frame),
        **{
            f"means_of_sets_that_chose_{what}": summary(frame[rows])
            for what, rows in (("nothing", is_held_back), ("the_rule", ~is_held_back))
            if rows.any()
        },
        "f1": by_set(changed, "f1"),
        "auc": by_set(changed, "auc"),
        "accuracy": by_set(clean, "accuracy"),
        "false_doubts": by_set(clean, "doubted"),
    }
    record("defaults", result)
    for what, means in result.items():
        if what.startswith("means"):
            print(f"\n{what}\n{page_table(means)}")


if __name__ == "__main__":
    main()
