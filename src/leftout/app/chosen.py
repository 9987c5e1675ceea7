"""Which kernel does a command use, where the user left that to leave-one-out?

`--kernel auto` tries the infinitely wide networks that a person would, and the best of them with labels seen;
`--strength auto` tries strengths. What would take longer than `--minutes`, by a try on a few examples, is
skipped, and the table says so.
"""

import dataclasses
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from rich.console import Console

from leftout.app.choices import CONVOLUTIONAL, DEEP, LABELS, TRAINED, Choices, KernelName
from leftout.app.which_kernel import selection_table, selection_verdict
from leftout.attribution.selection import (
    STRENGTHS,
    Candidate,
    Selection,
    choose_kernel,
    choose_strength,
    ranked,
)
from leftout.core.checks import check_positive
from leftout.core.errors import LeftoutError, OptionError
from leftout.data.examples import Examples
from leftout.kernels import assemble
from leftout.kernels.base import Kernel
from leftout.kernels.pairwise.estimates import Estimator
from leftout.kernels.pairwise.label_aware import LabelAware
from leftout.kernels.teachable import Teachable
from leftout.solvers.indefinite import factor_indefinite

TRIED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("two-layer-relu", {"kernel": "two-layer-relu"}),
    ("relu, 1 layer", {"kernel": "relu", "depth": 1}),
    ("relu, 2 layers", {"kernel": "relu", "depth": 2}),
    ("relu, 4 layers", {"kernel": "relu", "depth": 4}),
    ("erf, 2 layers", {"kernel": "erf", "depth": 2}),
    ("tanh, 2 layers", {"kernel": "tanh", "depth": 2}),
    ("conv-relu, 2 layers", {"kernel": "conv-relu", "depth": 2}),
    ("conv-relu, 4 layers", {"kernel": "conv-relu", "depth": 4}),
    ("conv-relu, 2 layers, mean", {"kernel": "conv-relu", "depth": 2, "pooling": "mean"}),
)
"""What `--kernel auto` tries, by name and flags."""

ESTIMATORS: tuple[Estimator, ...] = ("kr-v1", "fjlt-v1")
"""Estimators that it tries on the best of them."""

LONG = 60.0
"""Seconds from which a person is told beforehand."""

ENOUGH = 0.05
"""Seconds from which a try tells how long all will take."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """A kernel with its data; `selection` is what it was chosen from, None where it was named."""

    kernel: Kernel | Teachable
    train: Examples
    query: Examples
    selection: Selection | None = None


def chosen(choices: Choices, *, memory: str | None = None, device: str | None = None) -> Chosen:
    """Return the kernel that was named, or the best by exact leave-one-out loss, and its data.

    Raises:
        OptionError: flags that do not go together; nothing that could be tried.
    """
    check_positive("--minutes", choices.minutes)
    if choices.kernel == KernelName.AUTO:
        return _among(choices, memory, device)
    kernel = choices.made_kernel()
    train, query = choices.examples(kernel)
    if not isinstance(kernel, LabelAware) or kernel.strength is not None:
        return Chosen(kernel, train, query)
    foreseen = _seconds(kernel, train)
    if foreseen > LONG:
        _say(f"Choosing a strength will take about {foreseen / 60:.0f} minutes.")
    found = choose_strength(
        kernel, train, rule=choices.made_rule(), at=_judged(choices), memory=memory, device=device
    )
    return Chosen(found.kernel, train, query, found)


def named(choices: Choices, *, memory: str | None = None, device: str | None = None) -> Chosen:
    """Return the same, and show what was tried."""
    found = chosen(choices, memory=memory, device=device)
    if found.selection is not None:
        console = Console()
        console.print(selection_table(found.selection))
        console.print(selection_verdict(found.selection))
    return found


def _judged(choices: Choices) -> float | None:
    """Return the training time at which kernels are compared: the last asked for."""
    return max(choices.at) if choices.at else None


def _among(choices: Choices, memory: str | None, device: str | None) -> Chosen:
    """Return the best of what `--kernel auto` tries."""
    unsaid = {one.name: one.default for one in dataclasses.fields(Choices)}
    for name in (*DEEP, *CONVOLUTIONAL, *TRAINED, *LABELS, "model"):
        if getattr(choices, name) != unsaid[name]:
            raise OptionError(
                f"--{name.replace('_', '-')} must be left out with --kernel auto, which tries several "
                "kernels; name one to say more of it."
            )
    _say(f"Trying kernels, {choices.minutes:g} minutes at most for each.")
    made: dict[str, Chosen] = {}
    found: list[Candidate] = []

    def tried(name: str, kernel: Kernel | Teachable, train: Examples, query: Examples) -> None:
        made[name] = Chosen(kernel, train, query)
        try:
            foreseen = _seconds(kernel, train)
        except LeftoutError as error:
            found.append(Candidate(name, kernel, skipped=str(error)))
            return
        if foreseen > 60 * choices.minutes:
            found.append(Candidate(name, kernel, skipped=(
                f"would take about {foreseen / 60:.0f} minutes, more than --minutes {choices.minutes:g}"
            )))  # fmt: skip
            return
        try:
            selection = choose_kernel(
                {name: kernel}, train, rule=choices.made_rule(), at=_judged(choices),
                memory=memory, device=device,
            )  # fmt: skip
        except LeftoutError as error:
            found.append(Candidate(name, kernel, skipped=str(error)))
        else:
            found.append(selection.best)

    for name, flags in TRIED:
        some = dataclasses.replace(choices, **flags)
        kernel = some.made_kernel()
        train, query = some.examples(kernel)
        if flags["kernel"] == "conv-relu" and train.inputs.ndim < 3:
            continue  # rows of numbers are no images
        tried(name, kernel, train, query)
    best = made[ranked(found).best.name]
    if best.train.labels is not None:
        assert isinstance(best.kernel, Kernel)
        for estimator in ESTIMATORS:
            name = f"{ranked(found).best.name}, {estimator}"
            tried(name, LabelAware(best.kernel, estimator, None), best.train, best.query)
    selection = ranked(found)
    winner = made[selection.best.name]
    return Chosen(selection.kernel, winner.train, winner.query, selection)


def _say(text: str) -> None:
    """Tell a person who waits; a file or a pipe is not told."""
    if sys.stderr.isatty():
        Console(stderr=True).print(text)


def _seconds(kernel: Kernel | Teachable, train: Examples) -> float:
    """Return about how long leaving one out of a kernel takes, by a try on a few examples."""
    n, base = len(train), kernel.base if isinstance(kernel, Teachable) else kernel
    tried = 2
    while True:
        some = train.inputs[:tried]
        work = partial(assemble.gram, base, some)
        took = _timed(work)
        took = min(took, _timed(work)) if took > ENOUGH else took  # the first call may warm up
        if took > ENOUGH or tried >= n:
            break
        tried *= 2
    pairs = took * (n / min(tried, n)) ** 2
    if not isinstance(kernel, LabelAware):
        return pairs
    matrix = torch.eye(n, dtype=torch.float64)
    fits = _timed(lambda: factor_indefinite(matrix, ridge=1.0))
    return pairs + n * len(STRENGTHS) * fits


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
