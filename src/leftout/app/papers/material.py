"""What is an exhibit run on? A data set by its name, at one of three sizes."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from torch import Generator

from leftout.core.errors import OptionError
from leftout.data.examples import Examples
from leftout.data.load import load
from leftout.dynamics.fitted import Fitted, fit
from leftout.dynamics.rules import Rule
from leftout.kernels.two_layer_relu import TwoLayerReLU

PAIRS = {"mnist": ("7", "9"), "cifar10": ("automobile", "airplane"), "digits": ("7", "9")}
"""The two classes of a binary exhibit."""

SMALL = {"quick": (120, 40), "quick classes": (200, 50)}
"""Training examples and queries of a quick run."""


class Size(StrEnum):
    """How much is run: a minute's version, what two cores do, what the paper did."""

    QUICK = "quick"
    USUAL = "usual"
    PAPER = "paper"


@dataclass(frozen=True)
class Material:
    """Data, size and seed of one run of an exhibit.

    Attributes:
        source: `digits`, `mnist:DIR` or `cifar10:DIR`.
        folder: where what is done is kept, so that an interrupted run goes on; None keeps nothing.
    """

    source: str = "digits"
    size: Size = Size.USUAL
    seed: int = 0
    device: str | None = None
    memory: int | float | str | None = None
    jobs: int | None = None
    folder: Path | None = None

    def check(self) -> None:
        """Raise unless the source is one that the papers' exhibits know."""
        if self.name not in PAIRS:
            raise OptionError(
                f"--data must be digits, mnist:DIR or cifar10:DIR; got {self.source!r}."
            )

    @property
    def name(self) -> str:
        """Return the data set's name."""
        return self.source.partition(":")[0]

    @property
    def quick(self) -> bool:
        """Return whether the minute's version is asked for."""
        return self.size is Size.QUICK

    def generator(self, salt: int = 0) -> Generator:
        """Return the randomness of this run; another `salt`, another stream."""
        return torch.Generator().manual_seed(1000 * salt + self.seed)

    def pair(self, n_train: int, n_query: int) -> tuple[Examples, Examples]:
        """Return the two classes of the paper, 7 and 9 or cars and planes, half of each."""
        small = SMALL["quick"] if self.quick else None
        return self._loaded(small or (n_train, n_query), classes=PAIRS[self.name])

    def classes(self, n_train: int, n_query: int) -> tuple[Examples, Examples]:
        """Return images of all ten classes."""
        small = SMALL["quick classes"] if self.quick else None
        return self._loaded(small or (n_train, n_query))

    def fitted(self, train: Examples, rule: Rule) -> Fitted:
        """Return the paper's kernel fitted to examples, where this run computes."""
        return fit(TwoLayerReLU(), train, rule=rule, device=self.device, memory=self.memory)

    def _loaded(self, counts: tuple[int, int], **options: Any) -> tuple[Examples, Examples]:
        n_train, n_query = counts
        if self.name == "digits" and not self.quick:
            everything = load("digits", seed=self.seed, **options)
            # Digits are few: where a paper's exhibit takes thousands, all there are must do.
            n_train, n_query = (
                min(asked, len(part)) for asked, part in zip(counts, everything, strict=True)
            )
        return load(self.source, n_train=n_train, n_query=n_query, seed=self.seed, **options)
