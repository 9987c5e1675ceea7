"""How fast is this machine, for the kinds of work of which an audit is made? A second of each is tried.

Rates are measured where they stop depending on the size, or as a curve where they never do: half of a
small eigendecomposition is overhead, so its seconds at several sizes are kept. What is measured is the
machine as it is now, with whatever else runs on it.
"""

import copy
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

from leftout.data.examples import Examples
from leftout.kernels import assemble
from leftout.kernels.base import Kernel
from leftout.kernels.label_dependent import FittedLabelKernel, LabelDependentKernel
from leftout.kernels.network.empirical import Empirical
from leftout.kernels.pairwise.label_aware import LabelAware
from leftout.kernels.wide.relu import ReLU
from leftout.report.thumbnails import atlas
from leftout.solvers.indefinite import factor_indefinite
from leftout.storage import score_store as store

SIZES = (96, 256, 768)
"""Sides of the matrices that are factored; from the last on, the cost grows with n³."""

QUERIES, INNER = 256, 1024
"""The product tried is (256 × 1024)(1024 × 1024), the shape of a block of scores."""

LARGE = 48 * 2**20
"""Bytes of an array that no cache holds, and that the allocator gets from the system each time."""

ROWS = 512
"""Examples between which the kernel is tried: one block."""

TRIED = 256
"""Examples that a network is tried with."""

PICTURES = 256
"""Pictures that are packed for the report."""

TAUGHT = (24, 400)
"""Examples that teach a kernel that sees labels: from so few to so many, as can be afforded."""

PATIENCE = 0.15
"""Seconds after which a measurement is not repeated."""

LESSON = 0.5
"""Seconds of teaching from which it grows with n²: below, a hierarchy mostly draws its neurons."""


@dataclass(frozen=True)
class Curve:
    """Seconds of something that costs n³, at several n."""

    sizes: tuple[int, ...]
    seconds: tuple[float, ...]

    def __call__(self, n: float) -> float:
        """Return seconds at n: on a log-log line between sizes, ∝ n³ beyond the last."""
        if n <= 0:
            return 0.0
        if n >= self.sizes[-1]:
            return float(self.seconds[-1] * (n / self.sizes[-1]) ** 3)
        return math.exp(np.interp(math.log(n), np.log(self.sizes), np.log(self.seconds)))


@dataclass(frozen=True)
class Lessons:
    """What teaching a kernel labels takes, beside the kernel that it builds on.

    Attributes:
        indefinite: seconds to factor a matrix of side n that may have negative eigenvalues.
        first: seconds a pair of training examples to teach it by all of them.
        again: seconds a pair to teach it by all but one, from what is known of them.
        own: seconds a pair to ask a kernel that was taught again about one input.
        asked: seconds for each input that it is asked about beside, and each training example.
    """

    indefinite: Curve
    first: float
    again: float
    own: float
    asked: float


@dataclass(frozen=True)
class Machine:
    """What was measured.

    Attributes:
        flops: float64 operations a second of a matrix product.
        cholesky, inverse, eigh: seconds at a side n.
        streamed: bytes a second of a matrix–vector product that no cache holds.
        fresh: bytes a second written to memory just allocated.
        thin: seconds a number of a large matrix multiplied with one column an output.
        call: seconds of an operation on almost nothing.
        example: seconds of the kernel for each row of its matrix, whatever the others: of a network,
            its passes.
        gram, cross: seconds a pair of rows under the kernel.
        ranked: seconds a score to find the strongest.
        stored: seconds a score to write and read back.
        picture: seconds to pack a picture; 0 for tables.
        lessons: of a kernel that sees labels; None of one that does not.
    """

    flops: float
    cholesky: Curve
    inverse: Curve
    eigh: Curve
    streamed: float
    fresh: float
    thin: float
    call: float
    example: float
    gram: float
    cross: float
    ranked: float
    stored: float
    picture: float
    lessons: Lessons | None = None


def machine(kernel: Kernel | LabelDependentKernel, examples: Examples, *, device: torch.device) -> Machine:
    """Return how fast this machine is.

    Args:
        kernel, examples: the kernel is tried between some of the examples.
        device: where everything is computed.

    Cost:
        a second or two, and 200 MB; a second more for a kernel that sees labels, five for a hierarchy.
    """
    return with_kernel(bare_machine(examples, device=device), kernel, examples, device=device)


def bare_machine(examples: Examples, *, device: torch.device, most: float = math.inf) -> Machine:
    """Return how fast this machine is, no kernel tried.

    Args:
        most: side of the largest matrix that will be factored.
    """
    generator = torch.Generator().manual_seed(0)
    timed = _Clock(device)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(device)

    left, right = draw(QUERIES, INNER), draw(INNER, INNER)
    large = draw(LARGE // (8 * INNER), INNER)
    small = draw(1)
    # Eigenvectors lie by columns, where products with a few columns are slowest.
    few = draw(len(large), examples.encoding.outputs)
    cholesky, inverse, eigh = _factorisations(timed, draw, _sizes(most))
    ranked, stored, picture = _report(_Clock(torch.device("cpu")), examples)
    return Machine(
        flops=2 * QUERIES * INNER**2 / timed(lambda: left @ right),
        cholesky=cholesky,
        inverse=inverse,
        eigh=eigh,
        streamed=8 * large.numel() / timed(lambda: large @ right[0]),
        fresh=8 * large.numel() / timed(large.clone),
        thin=timed(lambda: large.T @ few) / large.numel(),
        call=timed(lambda: small.add_(1.0)),
        example=0.0,
        gram=0.0,
        cross=0.0,
        ranked=ranked,
        stored=stored,
        picture=picture,
    )


def with_kernel(
    found: Machine, kernel: Kernel | LabelDependentKernel, examples: Examples, *, device: torch.device
) -> Machine:
    """Return the same machine, a kernel tried between some of the examples.

    Raises:
        LeftoutError: examples that the kernel is not defined on, or that cannot teach it.
    """
    timed = _Clock(device)
    lessons = None
    if isinstance(kernel, LabelDependentKernel):
        kernel.check("inputs", examples.inputs)
        lessons = _lessons(timed, kernel, examples, device, _sizes(len(examples)))
    base = kernel.base if isinstance(kernel, LabelDependentKernel) else kernel
    example, gram, cross = _kernel(timed, base, examples, device)
    return replace(found, example=example, gram=gram, cross=cross, lessons=lessons)


def _sizes(most: float) -> tuple[int, ...]:
    """Return the sides that say how long a matrix of at most this side takes."""
    return tuple(size for below, size in zip((0, *SIZES), SIZES, strict=False) if below < most) or SIZES[:1]


class _Clock:
    """Measures seconds; a GPU is waited for."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, work: Callable[[], object]) -> float:
        """Return the median seconds of a few calls, after one that warms up unless it was long."""
        first = self._once(work)
        if first > PATIENCE:
            return first
        seconds = [self._once(work)]
        while sum(seconds) < PATIENCE and len(seconds) < 7:
            seconds.append(self._once(work))
        return median(seconds)

    def _once(self, work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - began


def _well_conditioned(rows: Tensor) -> Tensor:
    matrix: Tensor = (rows @ rows.T).div_(len(rows))
    matrix.diagonal().add_(1.0)
    return matrix


def _factorisations(
    timed: _Clock, draw: Callable[..., Tensor], sizes: tuple[int, ...]
) -> tuple[Curve, Curve, Curve]:
    """Return curves of Cholesky, inverse and eigendecomposition of a well-conditioned matrix."""
    seconds = []
    for n in sizes:
        matrix = _well_conditioned(draw(n, n))
        lower = torch.linalg.cholesky(matrix)
        works = (
            partial(torch.linalg.cholesky_ex, matrix),
            partial(torch.cholesky_inverse, lower),
            partial(torch.linalg.eigh, matrix),
        )
        seconds.append([timed(work) for work in works])
    cholesky, inverse, eigh = (Curve(sizes, each) for each in zip(*seconds, strict=True))
    return cholesky, inverse, eigh


def _lessons(
    timed: _Clock,
    kernel: LabelDependentKernel,
    examples: Examples,
    device: torch.device,
    sizes: tuple[int, ...],
) -> Lessons:
    """Return what teaching takes, by a try on some of the examples."""
    generator = torch.Generator().manual_seed(0)
    factored = []
    for n in sizes:
        rows = torch.randn((n, n), generator=generator, dtype=torch.float64).to(device)
        factored.append(timed(partial(factor_indefinite, _well_conditioned(rows), ridge=1.0)))
    teach, n = _pupil(timed, kernel, examples, device)
    taught = teach()
    keep = torch.arange(n - 1, device=device)
    lean = taught.refit_labels(keep).without_gram()
    # Turned round: inputs in the order in which they taught the kernel are known to it.
    queries = taught.compare(taught.inputs[:-1].flip(0))
    one = taught.compare_training(slice(0, 1))
    own, many = timed(partial(lean.cross, one)), timed(partial(lean.cross, queries))
    return Lessons(
        indefinite=Curve(sizes, tuple(factored)),
        first=timed(lambda: teach().gram) / n**2,
        again=timed(lambda: taught.refit_labels(keep).gram) / n**2,
        own=own / n**2,
        asked=max(0.0, many - own) / n**2,
    )


def _pupil(
    timed: _Clock, kernel: LabelDependentKernel, examples: Examples, device: torch.device
) -> tuple[Callable[[], FittedLabelKernel], int]:
    """Return what teaches a kernel, and by how many of the examples, as many as can be afforded."""
    kernel.check_has_classes(examples.labels)
    classes = 1 if examples.labels is None else int(examples.labels.max()) + 1
    few, most = (min(count, len(examples)) for count in TAUGHT)
    if isinstance(kernel, LabelAware):
        # What its base says is looked at, and not made again: any base will do, and this one is cheap.
        kernel = replace(kernel, base=ReLU(1, bias_variance=1.0), strength=1.0)
        few = most

    def teaching(count: int) -> Callable[[], FittedLabelKernel]:
        rows = torch.linspace(0, len(examples) - 1, count).long()
        # Labels are made up: some of the examples may be of one class, and what labels say costs nothing.
        labels = torch.arange(count) % max(2, classes)
        return partial(
            kernel.fit_labels, examples.inputs[rows], labels, examples.targets[rows], device=device
        )

    def lesson(count: int) -> Callable[[], Tensor]:
        teach = teaching(count)
        return lambda: teach().gram

    while few < most and timed(lesson(few)) < LESSON:
        few = min(2 * few, most)
    return teaching(few), few


def _kernel(
    timed: _Clock, kernel: Kernel, examples: Examples, device: torch.device
) -> tuple[float, float, float]:
    """Return seconds a row, and seconds a pair of rows, of a batch with itself and with another.

    Of an infinitely wide network all is in the pairs. Of a finite one two sizes tell what its passes
    cost and what the products; what it keeps of inputs that it has seen is not counted.
    """
    inputs = examples.inputs[:ROWS].to(device)
    if not isinstance(kernel, Empirical):
        inputs = inputs[: _affordable(timed, kernel, inputs)]
        half = max(1, len(inputs) // 2)
        gram = timed(partial(assemble.gram, kernel, inputs))
        cross = timed(partial(assemble.cross, kernel, inputs[:half], inputs))
        return 0.0, gram / len(inputs) ** 2, cross / (half * len(inputs))
    kernel.check("inputs", inputs)
    each = kernel.outputs or 1
    sizes = [each * len(inputs[:TRIED]), each * max(1, len(inputs[:TRIED]) // 4)]
    # Of a fresh copy, for a kernel keeps what it made of inputs that it has seen.
    seconds = [timed(partial(_fresh_gram, kernel, inputs[: size // each])) for size in sizes]
    a_row = [took / size for took, size in zip(seconds, sizes, strict=True)]
    pair = max(0.0, (a_row[0] - a_row[1]) / max(1, sizes[0] - sizes[1]))
    return max(0.0, a_row[0] - pair * sizes[0]), pair, 2 * pair


def _affordable(timed: _Clock, kernel: Kernel, inputs: Tensor) -> int:
    """Return how many examples a kernel is tried between: fewer where a pair is dear, as of images."""
    tried = 2
    # Twice as many examples are four times as many pairs.
    while tried < len(inputs) and timed(partial(assemble.gram, kernel, inputs[:tried])) < PATIENCE / 4:
        tried *= 2
    return min(tried, len(inputs))


def _fresh_gram(kernel: Empirical, inputs: Tensor) -> Tensor:
    return assemble.gram(copy.deepcopy(kernel), inputs)


def _report(timed: _Clock, examples: Examples) -> tuple[float, float, float]:
    """Return seconds to rank a score, to store one, and to pack a picture."""
    scores = np.random.default_rng(0).standard_normal((QUERIES, INNER))
    ranked = timed(lambda: np.argpartition(scores, -12, axis=1))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store.create_store(
            folder,
            times=[0.0],
            query=[str(i) for i in range(QUERIES)],
            train=[str(i) for i in range(INNER)],
            attrs={},
        )

        def kept() -> None:
            store.write_block(folder, 0, scores[None])
            store.open_store(folder)["influence"].to_numpy()

        stored = timed(kept)
    picture = 0.0
    if examples.images is not None:
        some = [examples.images[row] for row in range(min(PICTURES, len(examples)))]
        picture = timed(lambda: atlas(some, side=64)) / len(some)
    return ranked / scores.size, stored / scores.size, picture
