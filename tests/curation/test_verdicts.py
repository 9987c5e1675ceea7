"""One verdict for every example, and no two lists of an audit that say the opposite."""

import numpy as np
import pandas as pd
import pytest
import torch

import leftout as lo
from leftout.curation.duplicates import Duplicates
from leftout.curation.rare import Outlier, Rare
from leftout.curation.verdicts import FINE, WORDS, verdict_of_rows
from leftout.data.planted import flip_labels, plant_duplicates, plant_outliers
from problems.small import problem

KERNEL = lo.kernels.ReLU(2, bias_variance=0.3)


def test_the_first_that_holds_is_the_verdict() -> None:
    made = problem(n=32, m=4)
    removal = lo.prune(made.fitted(lo.Ridge(0.1)), made.query, shares=(0.99,), tolerance=1e9)
    assert removal.stop == 31
    # Every one of the 32 combinations of the five once: bit j of the row says whether list j has it.
    lists = [[row for row in range(32) if row >> j & 1] for j in range(4)]
    judged = verdict_of_rows(
        32,
        suspects=[Rare(row, 0.0, 0.0, f"doubted {row}") for row in lists[0]],
        duplicates=[Duplicates(tuple(lists[1]), conflicting=True), Duplicates((0, 1), conflicting=False)],
        outliers=[Outlier(row, 0.0, f"outlier {row}") for row in lists[2]],
        rare=[Rare(row, 0.0, 0.0, f"rare {row}") for row in lists[3]],
        removal=removal,
    )
    gone = set(removal.order[:31])
    for row in range(32):
        holds = [*(bool(row >> j & 1) for j in range(4)), row in gone, True]
        word = WORDS[holds.index(True)]
        assert judged.words[row] == word
        assert row in judged.rows(word)
        assert (row in judged.rows_to_look_at) == (word not in ("redundant", "fine"))
        if word in ("outlier", "rare"):
            assert judged.reasons[row] == f"{word} {row}"
        elif word in ("doubted", "conflicting"):
            # All that asks to look stands there, and nothing that says otherwise.
            reason = judged.reasons[row]
            assert (f"doubted {row}" in reason, "another label" in reason, f"outlier {row}" in reason) == (
                tuple(holds[:3])
            )
            assert "rare" not in reason
            assert f" {row}," not in reason
        else:
            assert judged.reasons[row] == (removal.reason if word == "redundant" else FINE)


def lists_of(findings) -> dict[str, set[int]]:
    """Return the rows of every list of an audit that says something of single examples."""
    removal = findings.redundant
    return {
        "doubted": {one.row for one in findings.suspects},
        "outlier": {one.row for one in findings.outliers},
        "rare": {one.row for one in findings.rare},
        "redundant": set(removal.order[: removal.stop]),
    }


def assert_no_two_lists_share(findings) -> dict[str, set[int]]:
    """Check that the lists are apart, and that none but the doubted holds a conflict."""
    lists = lists_of(findings)
    for first in lists:
        for second in lists:
            assert first == second or not lists[first] & lists[second], (first, second)
    conflicting = {row for group in findings.duplicates if group.conflicting for row in group.rows}
    for name in ("outlier", "rare", "redundant"):
        assert not lists[name] & conflicting
    return lists


def test_lists_of_digits_with_flips_copies_and_outliers_do_not_contradict() -> None:
    train, query = lo.load("digits", n_train=300, n_query=600)
    seeded = torch.Generator().manual_seed(0)
    lonely = plant_outliers(train, 4, generator=seeded)
    flipped = flip_labels(lonely.examples, 0.06, generator=seeded)
    copied = plant_duplicates(flipped.examples, 5, conflicting=True, generator=seeded)
    lists = assert_no_two_lists_share(lo.audit(KERNEL, copied.examples, query, refit_examples=0).findings)
    # Pictures of noise are told by their distance, or their label is doubted too.
    assert set(lonely.rows.tolist()) <= lists["doubted"] | lists["outlier"]
    assert lists["doubted"] & set(flipped.rows.tolist())


def table(seed: int) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    size, age = draw.normal(size=500), draw.integers(0, 90, 500)
    kind = np.where(size + 0.3 * draw.normal(size=500) > 0, "large", "small")
    size[:3], kind[:3] = 9.0, "tiny"  # a rare kind by itself
    kind[10:20] = np.where(kind[10:20] == "large", "small", "large")
    frame = pd.DataFrame({"size": size, "age": age, "kind": kind})
    frame.loc[30:33, ["size", "age"]] = frame.loc[20:23, ["size", "age"]].to_numpy()
    return frame


def test_lists_of_a_table_do_not_contradict() -> None:
    train, query = lo.load(table(0), target="kind", normalise="standard")
    lists = assert_no_two_lists_share(lo.audit(KERNEL, train, query, refit_examples=0).findings)
    assert lists["doubted"]


@pytest.mark.parametrize("seed", range(3))
def test_of_labels_in_random_order_nothing_is_doubted_and_nothing_can_go(seed) -> None:
    draw = np.random.default_rng(seed)
    frame = table(seed)
    frame["kind"] = draw.permutation(frame["kind"])
    train, query = lo.load(frame, target="kind", normalise="standard")
    findings = lo.audit(KERNEL, train, query, rule=lo.Ridge("auto"), refit_examples=0).findings
    lists = assert_no_two_lists_share(findings)
    assert findings.refusal
    assert not lists["doubted"]
    assert not lists["redundant"]
