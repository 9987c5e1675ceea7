"""The settings of one run of an exhibit: data set, size, seed, device, memory, processes."""

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from torch import Generator

import leftout as lo
from leftout.core import OptionError, memory_budget, usable_device

PAIRS = {"mnist": ("7", "9"), "cifar10": ("automobile", "airplane"), "digits": ("7", "9")}
"""The two classes of a binary exhibit."""

QUICK = {"pair": (120, 40), "classes": (200, 50)}
"""The largest numbers of training examples and queries of a quick run."""


SEEDS = 2**32
"""Seeds are below this: NumPy accepts no larger ones."""


class Size(StrEnum):
    """How much is run: for about a minute, for two cores, or as much as the paper."""

    QUICK = "quick"
    USUAL = "usual"
    PAPER = "paper"


@dataclass(frozen=True)
class Material:
    """Data, size and seed of one run of an exhibit.

    Attributes:
        source: `digits`, `mnist:DIR` or `cifar10:DIR`.
        folder: where finished trainings are kept, so that an interrupted run continues; None keeps nothing.
    """

    source: str = "digits"
    size: Size = Size.USUAL
    seed: int = 0
    device: str | None = None
    memory: int | float | str | None = None
    jobs: int | None = None
    folder: Path | None = None

    def check(self) -> None:
        """Raise unless every option is valid, before any exhibit runs."""
        folder = self.source.partition(":")[2]
        if self.name not in PAIRS or (self.name == "digits") != (self.source == "digits"):
            raise _unknown(self.source)
        if self.name != "digits" and not folder:
            raise _unknown(self.source)
        if not 0 <= self.seed < SEEDS:
            raise OptionError(f"--seed must be a whole number from 0 to 2³² − 1; got {self.seed}.")
        if self.jobs is not None and self.jobs < 1:
            raise OptionError(f"`--jobs` must be a whole number ≥ 1; got {self.jobs}.")
        memory_budget(self.memory)
        if self.device is not None:
            usable_device(self.device)

    @property
    def name(self) -> str:
        """Return the data set's name."""
        return self.source.partition(":")[0]

    @property
    def quick(self) -> bool:
        """Return whether the size is the quick one."""
        return self.size is Size.QUICK

    def generator(self, salt: int = 0) -> Generator:
        """Return a generator of this run's seed; each `salt` gives another stream."""
        return torch.Generator().manual_seed(1000 * salt + self.seed)

    def independent(self, *key: int | str) -> Generator:
        """Return a generator whose stream differs for each key and seed, as for one of many networks.

        The sums that `generator` takes would give network (1000, seed 0) the numbers of (500, seed 5).
        """
        digest = hashlib.sha256(json.dumps([self.seed, *key]).encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)

    def pair(self, n_train: int, n_query: int) -> tuple[lo.Examples, lo.Examples]:
        """Return the two classes of the paper, 7 and 9 or cars and planes, half of each.

        The numbers of examples are at most `n_train` and `n_query`: a quick run takes fewer, and
        there are fewer digits. Exhibits report the numbers they got.
        """
        return self._load(self._counts("pair", n_train, n_query), classes=PAIRS[self.name])

    def classes(self, n_train: int, n_query: int) -> tuple[lo.Examples, lo.Examples]:
        """Return images of all ten classes; the numbers are limited as in `pair`."""
        return self._load(self._counts("classes", n_train, n_query))

    def fit_kernel(
        self, train: lo.Examples, rule: lo.Ridge | lo.GradientFlow | lo.GradientDescent
    ) -> lo.Fitted:
        """Return the paper's kernel fitted to examples, on the device and in the memory of this run."""
        return lo.fit(lo.kernels.TwoLayerReLU(), train, rule=rule, device=self.device, memory=self.memory)

    def _counts(self, kind: str, n_train: int, n_query: int) -> tuple[int, int]:
        most_train, most_query = QUICK[kind]
        if not self.quick:
            return n_train, n_query
        return min(n_train, most_train), min(n_query, most_query)

    def _load(self, counts: tuple[int, int], **options: Any) -> tuple[lo.Examples, lo.Examples]:
        n_train, n_query = counts
        if self.name == "digits" and not self.quick:
            everything = lo.load("digits", seed=self.seed, **options)
            # There are fewer digits than the thousands of images that a paper takes.
            n_train, n_query = (min(n, len(half)) for n, half in zip(counts, everything, strict=True))
        return lo.load(self.source, n_train=n_train, n_query=n_query, seed=self.seed, **options)


def _unknown(source: str) -> OptionError:
    return OptionError(
        f"--data must be digits, mnist:DIR or cifar10:DIR with the folder of the files; got {source!r}."
    )
