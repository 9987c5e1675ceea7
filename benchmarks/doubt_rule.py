"""Which rule of doubt finds most wrong labels, chosen on one half of the data sets and judged on the other?

    python benchmarks/doubt_rule.py

In the environment of `benchmarks/defaults.py`, whose left-out scores and out-of-fold probabilities it reads
or makes. Data sets are halved by the order of their names. Of every family of rules, and of all families
together, the rule of largest mean F1 is chosen on one half among those that doubt at most half as many right
labels as cleanlab there, at most four fifths as many of the smallest class, and at most 0.2 % where labels
are in random order; of cleanlab the lowest number counts. The other half judges it; then the halves change
places.

Calibration is that of `leftout.curation.doubt` throughout. Families:

    two thresholds     q(given) < little, q(suggested) > much
    probably wrong     a label is wrong with more than this probability, if one in ten of all is, and wrong
                       ones are spread over (c − 1)^spread of the c classes
    expected F1        the doubts of greatest expected F1, if so many of all labels are wrong
    cleanlab           find_label_issues of the calibrated probabilities

each with and without: the suggested class gains more over its share than the given one; and each with
refusal, unless the mean gain log q(given)/π(given) exceeds 1/n by none to one of its standard errors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from data_sets import data_sets
from defaults import CHANGED, CLASSIFIERS, ONE_SEED, SEEDS, kept_scores
from measure import record

from leftout.curation.doubt import doubts

LIMITS = {"false_doubts": 1 / 2, "false_doubts_smallest_class": 4 / 5}
"""False doubts of a rule that may be chosen, as a share of cleanlab's lowest."""

SHUFFLED = 0.002
"""Largest share of labels in random order that it may doubt."""


SURE = (0, 0.25, 0.5, 1)
"""Standard errors of the refusal."""

NOISES = (0.05, 0.08, 0.1, 0.12, 0.15)
"""Shares of the labels that are taken to be wrong."""


@dataclass(frozen=True)
class Case:
    """Calibrated probabilities of one draw of a data set, with labels changed in one way."""

    name: str
    noise: str
    labels: np.ndarray
    wrong: np.ndarray
    smallest: np.ndarray
    q: np.ndarray
    suggested: np.ndarray
    peers: dict[str, np.ndarray]
    """Rows that cleanlab doubts, by whose probabilities it was given; "own" are calibrated ones."""

    @property
    def knows(self) -> float:
        """Return by how many standard errors the mean gain exceeds what fitting costs."""
        shares = np.bincount(self.labels, minlength=self.q.shape[1]) / len(self.labels)
        gains = np.log(self.given / shares[self.labels])
        return float((gains.mean() - 1 / len(gains)) / (gains.std() / np.sqrt(len(gains))))

    @property
    def given(self) -> np.ndarray:
        """Return q of the given class."""
        return self.q[np.arange(len(self.labels)), self.labels]

    @property
    def instead(self) -> np.ndarray:
        """Return q of the suggested class."""
        return self.q[np.arange(len(self.labels)), self.suggested]

    @property
    def gains_more(self) -> np.ndarray:
        """Return whether the suggested class gains more over its share than the given one."""
        shares = np.bincount(self.labels, minlength=self.q.shape[1]) / len(self.labels)
        return self.instead * shares[self.labels] > self.given * shares[self.suggested]

    def wrong_probability(self, noise: float, spread: float = 1.0) -> np.ndarray:
        """Return the probability that a label is wrong, if so many of all are."""
        each = noise / (self.q.shape[1] - 1) ** spread
        right = np.clip((self.given - each) / (1 - noise - each), 0, 1)
        wrong: np.ndarray = each * (1 - right) / ((1 - noise) * right + each * (1 - right))
        return wrong


Rule = Callable[[Case], np.ndarray]


def two_thresholds(little: float, much: float) -> Rule:
    """Return the rule that asks for little of the given class and much of the suggested one."""
    return lambda case: (case.given < little) & (case.instead > much)


def probably_wrong(least: float, spread: float) -> Rule:
    """Return the rule that asks for a probability of being wrong."""
    return lambda case: case.wrong_probability(0.1, spread) > least


def expected_f1(noise: float) -> Rule:
    """Return the rule whose doubts have the greatest expected F1."""

    def rule(case: Case) -> np.ndarray:
        wrong = case.wrong_probability(noise)
        hits = np.cumsum(np.sort(wrong)[::-1])
        f1 = 2 * hits / (np.arange(1, len(wrong) + 1) + wrong.sum())
        doubted: np.ndarray = wrong > f1.max() / 2
        return doubted

    return rule


def cleanlab_rule(case: Case) -> np.ndarray:
    """Return what cleanlab doubts, given calibrated probabilities."""
    return case.peers["own"]


def families() -> dict[str, dict[str, Rule]]:
    """Return the rules of every family, by what they are."""
    plain: dict[str, dict[str, Rule]] = {
        "two thresholds": {
            f"given < {little}, suggested > {much}": two_thresholds(little, much)
            for little, much in product((0.2, 0.25, 0.3, 0.35, 0.4, 0.5), (0.3, 0.4, 0.5, 0.6))
        },
        "probably wrong": {
            f"wrong > {least}, spread {spread}": probably_wrong(least, spread)
            for least, spread in product((0.15, 0.2, 0.25, 0.3, 0.35), (0, 0.5, 0.75, 1))
        },
        "expected F1": {f"if {noise:.0%} are wrong": expected_f1(noise) for noise in NOISES},
        "cleanlab": {"": cleanlab_rule},
    }
    return {
        family: {
            ", ".join(filter(None, (name, "gains more" * more, f"knows by {sure}"))): refusing(
                rule, more, sure
            )
            for (name, rule), more, sure in product(rules.items(), (False, True), SURE)
        }
        for family, rules in plain.items()
    }


def refusing(rule: Rule, more: bool, sure: float) -> Rule:
    """Return a rule that doubts nothing where nothing is known, and for large classes too if `more`."""
    return lambda case: rule(case) & (case.gains_more | (not more)) & (case.knows > sure)


def cases() -> list[Case]:
    """Return all draws of all data sets, with labels changed in every way."""
    found = []
    for seed, (name, read) in product(SEEDS, data_sets().items()):
        if seed != SEEDS[0] and name in ONE_SEED:
            continue
        kept = kept_scores(name, read, seed)
        right = kept["clean"]["labels"]
        smallest = right == np.bincount(right).argmin()
        for noise, arrays in kept.items():
            labels = arrays["labels"]
            own = doubts(arrays["scores, leftout"], labels)
            peers = {"own": find_label_issues(labels, own.probabilities)}
            peers |= {
                model: find_label_issues(labels, arrays[f"scores, {model}"])
                for model in CLASSIFIERS
                if f"scores, {model}" in arrays
            }
            found.append(
                Case(name, noise, labels, arrays["wrong"], smallest, own.probabilities, own.suggested, peers)
            )
    return found


def numbers(case: Case, doubted: np.ndarray) -> dict[str, float]:
    """Return what a rule's doubts count for in one case."""
    if case.noise in CHANGED:
        return {"f1": 2 * float((doubted & case.wrong).sum()) / float(doubted.sum() + case.wrong.sum())}
    if case.noise == "shuffled":
        return {"doubted_when_shuffled": float(doubted.mean())}
    return {
        "false_doubts": float(doubted.mean()),
        "false_doubts_smallest_class": float(doubted[case.smallest].mean()),
    }


def judged(all_cases: list[Case], doubted: Callable[[Case], np.ndarray | None]) -> pd.DataFrame:
    """Return the numbers of one rule, a row for each data set."""
    rows = []
    for case in all_cases:
        answer = doubted(case)
        if answer is not None:
            rows.append({"set": case.name} | numbers(case, answer))
    return pd.DataFrame(rows).groupby("set").mean()


def main() -> None:
    """Choose on each half, judge on the other, and keep the record."""
    all_cases = cases()
    names = sorted({case.name for case in all_cases})
    halves = {"first half": names[: len(names) // 2], "second half": names[len(names) // 2 :]}
    tables = {
        family: {name: judged(all_cases, rule) for name, rule in rules.items()}
        for family, rules in families().items()
    }
    peers = {
        model: judged(all_cases, lambda case, model=model: case.peers.get(model)) for model in CLASSIFIERS
    }

    def allowed(table: pd.DataFrame, half: list[str]) -> bool:
        means = table.loc[half].mean()
        lowest = {number: min(peer.loc[half, number].mean() for peer in peers.values()) for number in LIMITS}
        below = all(means[number] <= share * lowest[number] for number, share in LIMITS.items())
        return bool(below and means["doubted_when_shuffled"] <= SHUFFLED)

    chosen: dict[str, Any] = {}
    everything = {f"{family}: {name}": table for family in tables for name, table in tables[family].items()}
    for family, rules in {**tables, "all families": everything}.items():
        others = []
        chosen[family] = {}
        for half, own in {**halves, "whole": names}.items():
            possible = [name for name, table in rules.items() if allowed(table, own)]
            if not possible:
                continue
            best = max(possible, key=lambda name: float(rules[name].loc[own, "f1"].mean()))
            chosen[family][f"on the {half}"] = {"rule": best, "f1": float(rules[best].loc[own, "f1"].mean())}
            if half in halves:
                others.append(rules[best].drop(index=own))
        if len(others) == 2:
            chosen[family]["on the halves that did not choose"] = pd.concat(others).mean().to_dict()
    record(
        "doubt-rule",
        {
            "halves": halves,
            "chosen": chosen,
            "cleanlab": {model: table.mean().to_dict() for model, table in peers.items()},
            "rules": {name: table.mean().round(4).to_dict() for name, table in everything.items()},
        },
    )


if __name__ == "__main__":
    main()
