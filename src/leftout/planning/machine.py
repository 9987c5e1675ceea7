"""The speeds of this machine, measured for each kind of operation of which an audit is made.

Rates are measured where they stop depending on the size, or as a curve where they never do: half of a
small eigendecomposition is overhead, so its seconds at several sizes are kept. What is measured is the
machine as it is now, with whatever other programs run on it.
"""

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

from leftout.core.work import Operation, WorkCount
from leftout.data.examples import Examples
from leftout.kernels import assemble
from leftout.kernels.base import Kernel
from leftout.kernels.label_dependent import FittedLabelKernel, LabelDependentKernel
from leftout.kernels.network.empirical import Empirical
from leftout.kernels.pairwise.label_aware import LabelAware
from leftout.kernels.trial import tried_inputs
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

TILE = 2**27
"""Bytes of features of a network whose products are tried."""

PICTURES = 256
"""Pictures that are packed for the report."""

LABEL_FITTED = (24, 400)
"""Fewest and most examples to whose labels a kernel is fitted, as many as can be afforded."""

PATIENCE = 0.15
"""Seconds after which a measurement is not repeated."""

LONG_FIT = 0.5
"""Seconds of fitting labels from which they grow with n²: below, a hierarchy mostly draws its neurons."""


@dataclass(frozen=True)
class SecondsBySize:
    """Seconds of an operation that costs n³, at several n."""

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
class LabelFitTimings:
    """Seconds of fitting a kernel to labels, beside the kernel that it builds on.

    Attributes:
        indefinite: to factor a matrix of side n that may have negative eigenvalues.
        fit: for each pair of training examples, to fit it to the labels of all.
        refit: for each pair, to fit it to all labels but one, from what is known of all.
        at_input: for each pair, to evaluate a refitted kernel at one input.
        at_pair: for each further input, and each training example.
    """

    indefinite: SecondsBySize
    fit: float
    refit: float
    at_input: float
    at_pair: float


@dataclass(frozen=True)
class Machine:
    """Measured speeds.

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
        label_fits: of a kernel that is fitted to labels; None of another.
    """

    flops: float
    cholesky: SecondsBySize
    inverse: SecondsBySize
    eigh: SecondsBySize
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
    label_fits: LabelFitTimings | None = None

    def seconds(self, work: WorkCount) -> float:
        """Return how long this work takes."""
        prices = self._prices
        total = 0.0
        for (operation, side), number in work.counts.items():
            price = prices[operation]
            total += number * (price(side) if isinstance(price, SecondsBySize) else price)
        return total

    @property
    def _prices(self) -> dict[Operation, float | SecondsBySize]:
        """Return the seconds of an operation of each kind."""
        prices: dict[Operation, float | SecondsBySize] = {
            Operation.FLOP: 1 / self.flops,
            Operation.THIN_PRODUCT: self.thin,
            Operation.STREAMED_BYTE: 1 / self.streamed,
            Operation.ALLOCATED_BYTE: 1 / self.fresh,
            Operation.CALL: self.call,
            Operation.SECOND: 1.0,
            Operation.CHOLESKY: self.cholesky,
            Operation.INVERSE: self.inverse,
            Operation.EIGENPAIRS: self.eigh,
            Operation.KERNEL_ROW: self.example,
            Operation.GRAM_PAIR: self.gram,
            Operation.CROSS_PAIR: self.cross,
            Operation.RANKED_SCORE: self.ranked,
            Operation.STORED_SCORE: self.stored,
            Operation.PICTURE: self.picture,
        }
        if self.label_fits is not None:
            prices |= {
                Operation.INDEFINITE: self.label_fits.indefinite,
                Operation.LABEL_FIT_PAIR: self.label_fits.fit,
                Operation.LABEL_REFIT_PAIR: self.label_fits.refit,
                Operation.LABEL_INPUT_PAIR: self.label_fits.at_input,
                Operation.LABEL_CROSS_PAIR: self.label_fits.at_pair,
            }
        return prices


def measure_machine(
    kernel: Kernel | LabelDependentKernel, examples: Examples, *, device: torch.device
) -> Machine:
    """Return the speeds of this machine, a kernel tried as well.

    Args:
        kernel, examples: the kernel is tried between some of the examples.
        device: where everything is computed.

    Cost:
        a second or two, and 200 MB; a second more for a kernel fitted to labels, five for a hierarchy.
    """
    return with_kernel(bare_machine(examples, device=device), kernel, examples, device=device)


def bare_machine(examples: Examples, *, device: torch.device, most: float = math.inf) -> Machine:
    """Return the speeds of this machine, no kernel tried.

    Args:
        most: side of the largest matrix that will be factored.
    """
    generator = torch.Generator().manual_seed(0)
    clock = _Clock(device)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu").to(device)

    block, square = draw(QUERIES, INNER), draw(INNER, INNER)
    large = draw(LARGE // (8 * INNER), INNER)
    small = draw(1)
    # Eigenvectors lie by columns, where products with a few columns are slowest.
    columns = draw(len(large), examples.encoding.outputs)
    cholesky, inverse, eigh = _factorisation_seconds(clock, draw, _sizes(most))
    ranked, stored, picture = _report_seconds(_Clock(torch.device("cpu")), examples)
    return Machine(
        flops=2 * QUERIES * INNER**2 / clock(lambda: block @ square),
        cholesky=cholesky,
        inverse=inverse,
        eigh=eigh,
        streamed=8 * large.numel() / clock(lambda: large @ square[0]),
        fresh=8 * large.numel() / clock(large.clone),
        thin=clock(lambda: large.T @ columns) / large.numel(),
        call=clock(lambda: small.add_(1.0)),
        example=0.0,
        gram=0.0,
        cross=0.0,
        ranked=ranked,
        stored=stored,
        picture=picture,
    )


def with_kernel(
    machine: Machine, kernel: Kernel | LabelDependentKernel, examples: Examples, *, device: torch.device
) -> Machine:
    """Return the same machine, a kernel tried between some of the examples.

    Raises:
        LeftoutError: examples that the kernel is not defined on, or to whose labels it cannot be fitted.
    """
    clock = _Clock(device)
    label_fits = None
    if isinstance(kernel, LabelDependentKernel):
        kernel.check("inputs", examples.inputs)
        label_fits = _label_fit_timings(clock, kernel, examples, device, _sizes(len(examples)))
    base = kernel.base if isinstance(kernel, LabelDependentKernel) else kernel
    example, gram, cross = _kernel_seconds(clock, base, examples, device)
    return replace(machine, example=example, gram=gram, cross=cross, label_fits=label_fits)


def _sizes(most: float) -> tuple[int, ...]:
    """Return the sides that say how long a matrix of at most this side takes."""
    return tuple(size for below, size in zip((0, *SIZES), SIZES, strict=False) if below < most) or SIZES[:1]


class _Clock:
    """Measures seconds; a GPU is waited for."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, work: Callable[[], object]) -> float:
        """Return the median seconds of a few calls, after one that warms up unless it was long."""
        first = self.once(work)
        if first > PATIENCE:
            return first
        seconds = [self.once(work)]
        while sum(seconds) < PATIENCE and len(seconds) < 7:
            seconds.append(self.once(work))
        return median(seconds)

    def once(self, work: Callable[[], object]) -> float:
        """Return the seconds of one call."""
        began = time.perf_counter()
        work()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - began


def _well_conditioned(rows: Tensor) -> Tensor:
    matrix: Tensor = (rows @ rows.T).div_(len(rows))
    matrix.diagonal().add_(1.0)
    return matrix


def _factorisation_seconds(
    clock: _Clock, draw: Callable[..., Tensor], sizes: tuple[int, ...]
) -> tuple[SecondsBySize, SecondsBySize, SecondsBySize]:
    """Return the seconds of Cholesky, inverse and eigendecomposition of a well-conditioned matrix."""
    seconds = []
    for n in sizes:
        matrix = _well_conditioned(draw(n, n))
        lower = torch.linalg.cholesky(matrix)
        works = (
            partial(torch.linalg.cholesky_ex, matrix),
            partial(torch.cholesky_inverse, lower),
            partial(torch.linalg.eigh, matrix),
        )
        seconds.append([clock(work) for work in works])
    cholesky, inverse, eigh = (SecondsBySize(sizes, of_kind) for of_kind in zip(*seconds, strict=True))
    return cholesky, inverse, eigh


def _label_fit_timings(
    clock: _Clock,
    kernel: LabelDependentKernel,
    examples: Examples,
    device: torch.device,
    sizes: tuple[int, ...],
) -> LabelFitTimings:
    """Return what fitting to labels takes, by a try on a subset of the examples."""
    generator = torch.Generator().manual_seed(0)
    factored = []
    for n in sizes:
        rows = torch.randn((n, n), generator=generator, dtype=torch.float64, device="cpu").to(device)
        factored.append(clock(partial(factor_indefinite, _well_conditioned(rows), ridge=1.0)))
    fit, n = _affordable_fit(clock, kernel, examples, device)
    fitted = fit()
    keep = torch.arange(n - 1, device=device)
    lean = fitted.refit_labels(keep).without_gram()
    # Reversed: inputs in the order in which the kernel was fitted to them are known to it.
    queries = fitted.compare(fitted.inputs[:-1].flip(0))
    single = fitted.compare_training(slice(0, 1))
    at_input, at_queries = clock(partial(lean.cross, single)), clock(partial(lean.cross, queries))
    return LabelFitTimings(
        indefinite=SecondsBySize(sizes, tuple(factored)),
        fit=clock(lambda: fit().gram) / n**2,
        refit=clock(lambda: fitted.refit_labels(keep).gram) / n**2,
        at_input=at_input / n**2,
        at_pair=max(0.0, at_queries - at_input) / n**2,
    )


def _affordable_fit(
    clock: _Clock, kernel: LabelDependentKernel, examples: Examples, device: torch.device
) -> tuple[Callable[[], FittedLabelKernel], int]:
    """Return what fits a kernel to labels, and of how many examples: as many as can be afforded."""
    kernel.check_has_classes(examples.labels)
    classes = 1 if examples.labels is None else int(examples.labels.max()) + 1
    size, most = (min(count, len(examples)) for count in LABEL_FITTED)
    if isinstance(kernel, LabelAware):
        # The values of its base are read, and not made again: any base will do, and this one is cheap.
        kernel = replace(kernel, base=ReLU(1, bias_variance=1.0), strength=1.0)
        size = most

    def fit_to(count: int) -> Callable[[], FittedLabelKernel]:
        rows = torch.linspace(0, len(examples) - 1, count, dtype=torch.float32, device="cpu").long()
        # Labels are made up: a subset may be of one class, and what the labels are costs nothing.
        labels = torch.arange(count, device="cpu") % max(2, classes)
        return partial(
            kernel.fit_labels, examples.inputs[rows], labels, examples.targets[rows], device=device
        )

    def gram_of(count: int) -> Callable[[], Tensor]:
        fit = fit_to(count)
        return lambda: fit().gram

    while size < most and clock(gram_of(size)) < LONG_FIT:
        size = min(2 * size, most)
    return fit_to(size), size


def _kernel_seconds(
    clock: _Clock, kernel: Kernel, examples: Examples, device: torch.device
) -> tuple[float, float, float]:
    """Return seconds a row, and seconds a pair of rows, of a batch with itself and with another.

    Of an infinitely wide network all of it is in the pairs; of a finite one there are its passes.
    """
    inputs = examples.inputs[:ROWS].to(device)
    if isinstance(kernel, Empirical):
        return _network_seconds(clock, kernel, inputs)
    tried, _ = tried_inputs(lambda n: clock.once(lambda: assemble.gram(kernel, inputs[:n])), 2, len(inputs))
    inputs = inputs[:tried]
    half = max(1, len(inputs) // 2)
    gram = clock(partial(assemble.gram, kernel, inputs))
    cross = clock(partial(assemble.cross, kernel, inputs[:half], inputs))
    return 0.0, gram / len(inputs) ** 2, cross / (half * len(inputs))


def _network_seconds(clock: _Clock, kernel: Empirical, inputs: Tensor) -> tuple[float, float, float]:
    """Return seconds of a row's passes, and of a pair of rows' products, of a triangle and beside it.

    A pass takes some inputs together; the features of a few are repeated to a tile, whose products are the
    same work.
    """
    kernel.check("inputs", inputs)
    outputs = kernel.outputs or 1
    kernel.features(inputs[:1])  # looks at the network, once
    tried = _affordable(clock, kernel.features, inputs[:TRIED], PATIENCE)
    passes = clock(partial(kernel.features, inputs[:tried]))
    features = kernel.features(inputs[:tried])
    side = max(1, min(ROWS // outputs, TILE * tried // features.nbytes, len(inputs)))
    tile = features.take(torch.arange(side, device=kernel.device) % tried)
    pair = clock(partial(tile.products, slice(0, side), tile, slice(0, side))) / (side * outputs) ** 2
    return passes / (tried * outputs), pair, pair


def _affordable(clock: _Clock, work: Callable[[Tensor], object], inputs: Tensor, patience: float) -> int:
    """Return how many examples something is tried with: fewer where they take long, as of images."""
    tried = min(2, len(inputs))
    # Twice as many examples are up to four times as much work.
    while tried < len(inputs) and clock(partial(work, inputs[:tried])) < patience:
        tried *= 2
    return min(tried, len(inputs))


def _report_seconds(clock: _Clock, examples: Examples) -> tuple[float, float, float]:
    """Return seconds to rank a score, to store one, and to pack a picture."""
    scores = np.random.default_rng(0).standard_normal((QUERIES, INNER))
    ranked = clock(lambda: np.argpartition(scores, -12, axis=1))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store.create_store(
            folder,
            times=[0.0],
            query=[str(i) for i in range(QUERIES)],
            train=[str(i) for i in range(INNER)],
            attrs={},
        )

        def write_and_read() -> None:
            store.write_block(folder, 0, scores[None])
            store.open_store(folder)["influence"].to_numpy()

        stored = clock(write_and_read)
    picture = 0.0
    if examples.images is not None:
        images = [examples.images[row] for row in range(min(PICTURES, len(examples)))]
        picture = clock(lambda: atlas(images, side=64)) / len(images)
    return ranked / scores.size, stored / scores.size, picture
