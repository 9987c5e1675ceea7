"""How much does an influence depend on the weights that the network happened to start from?

Infinitely wide networks start as f_0, a Gaussian process (`dynamics.ensemble`). Leaving example i out
changes a prediction by c = f_without_i(x) − f(x), which is linear in the residual r = Y − f_0(X), so over
initialisations c and the error e = f(x) − y are jointly normal, every output by itself:

    v_c = Var c,    v_e = Var e,    γ = Cov(e, c).

An influence on the loss is Σ c u over k outputs, u = e + c/2, with v_u = v_e + γ + v_c/4 and g = Cov(c, u) =
γ + v_c/2. With a bar for what a network of f_0 = 0 has (Isserlis),

    mean       Σ c̄ū + k g
    variance   v_u Σ c̄² + v_c Σ ū² + 2 g Σ c̄ū + k (v_c v_u + g²) .

For v_c and γ, write c = −α G b: what the query sees of i, a coupling, what i has. At the end of training,
with R = (K + λI)⁻¹, these are numbers: α = (K(x, X) R)_i, G = 1 / R_ii, b = (R r)_i. At a finite time each
node of the contour has such numbers, but the nodes' poles, as functions on the spectrum, span only ρ = 20 to
45 dimensions to double precision (U, orthonormal; K = V diag(s) Vᵀ): α and b have ρ numbers,

    α = K(x, X) V (V_i ∘ U),    b = (V_i ∘ U)ᵀ Vᵀ r,    M_i = Cov b = (V_i ∘ U)ᵀ Vᵀ K_0 V (V_i ∘ U),
    v_c = α G M_i G αᵀ,         γ = −p(x) V (V_i ∘ U) G αᵀ,    p(x) = Cov(e, r).

The floor is K_0 applied to ρ vectors for each example: 2ρn³ flops a window of times.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
import xarray as xr
from jaxtyping import Complex128, Float64
from torch import Tensor

from leftout.attribution.engine.base import EditEngine
from leftout.attribution.engine.edit_engines import edit_engines
from leftout.attribution.engine.end_of_training import EndOfTraining
from leftout.attribution.engine.finite_time import FiniteTime, SharedNodes
from leftout.attribution.engine.initial import BeforeTraining
from leftout.attribution.engine.labelled_result import SIGN, Of, attributes, labelled_array
from leftout.attribution.engine.query_blocks import QueryBlock, is_scalar
from leftout.attribution.engine.single_changes import blocks_at_times, loss_changes, prediction_changes
from leftout.core.blocks import blocks, check_fits
from leftout.core.checks import check_finite
from leftout.core.errors import OptionError
from leftout.data.examples import Examples
from leftout.dynamics.ensemble import Prior, learned_from, prior_of
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import At
from leftout.kernels.base import Kernel
from leftout.solvers.spectrum import real_times_complex

EPS = torch.finfo(torch.float64).eps

VECTORS = 2048
"""Vectors that K_0 is applied to at a time, ρ an example: wide enough for full speed of a product."""

MEANING = {
    "influence": "of a network that starts from f_0 = 0",
    "mean": "mean over initialisations",
    "spread": "standard deviation over initialisations",
}


def with_spread(
    fitted: Fitted, examples: Examples, *, at: At | Sequence[At], of: Of, prior: Kernel | None
) -> xr.Dataset:
    """Return influence, and its mean and standard deviation over initialisations."""
    fitted.check_squared_loss()
    fitted.check_kernel_fixed()
    times, n, m = fitted.times(at), len(fitted), len(examples)
    outputs = fitted.outputs if of == "prediction" else 1
    check_fits(
        f"The result (3 × {len(times)} × {m} × {n} × {outputs})",
        3 * 8 * len(times) * m * n * outputs,
        fitted.memory,
        advice="Ask for fewer queries or times.",
    )
    start = prior_of(fitted, prior)
    engines = edit_engines(fitted, times, total=n - 1)
    covariances = removal_covariances(start, engines)
    shape = (3, len(times), m, n, *[outputs] * (of == "prediction"))
    moments = torch.zeros(shape, dtype=torch.float64, device=fitted.device)
    changes, fill = (loss_changes, _fill_loss) if of == "loss" else (prediction_changes, _fill_prediction)
    for block, place, engine in blocks_at_times(examples, engines):
        of_block = moments[:, place, block.rows]
        of_block[1] = changes(engine, block, into=of_block[0])
        removal = covariances[place]
        if removal is not None:
            fill(of_block, engine, block, removal, query_covariance(start, engine, block))
    check_finite("spread of the influences", moments.flatten(1))
    attrs = attributes(
        fitted, examples, of=of, method="leave_one_out", sign=SIGN[of], prior=json.dumps(start.kernel.record)
    )
    axes: dict[str, Sequence] = {"query": examples.ids, "train": fitted.train.ids}
    if of == "prediction":
        axes["output"] = fitted.output_names
    arrays = {
        name: labelled_array(
            values.cpu().numpy(),
            times=times,
            scalar=is_scalar(at),
            coordinates=axes,
            name=name,
            attrs=attrs | {"over_initialisations": meaning} | ({"sign": "≥ 0"} if name == "spread" else {}),
        )
        for (name, meaning), values in zip(MEANING.items(), moments, strict=True)
    }
    when = {"at": arrays["influence"].attrs["at"]} if is_scalar(at) else {}
    return xr.Dataset(arrays, attrs=attrs | when)


@dataclass(frozen=True, eq=False)
class QueryCovariance:
    """A block of queries at one time, over initialisations.

    Attributes:
        cross: K(x, X).
        variance: v_e of every output.
        error: p(x) = Cov(e, r).
        shift: s(x), by which the filter of `loss="mean"` alone changes the weights of r; None where it
            does not.
    """

    cross: Float64[Tensor, "m n"]
    variance: Float64[Tensor, " m"]
    error: Float64[Tensor, "m n"]
    shift: Float64[Tensor, "m n"] | None


def query_covariance(start: Prior, engine: EditEngine, block: QueryBlock) -> QueryCovariance:
    """Return what initialisations do to a block of queries."""
    fitted, cross = start.fitted, block.cross
    learned = learned_from(fitted, engine.time, cross)
    started = start.cross(block.inputs)
    error = start.error_covariance(started, learned)
    variance = start.variance(block.inputs) + ((error - started) * learned).sum(1)
    shift = None
    if engine.shift is not None:
        if isinstance(engine, EndOfTraining):
            without = cross @ fitted.inverse(engine.ridge)  # kept; factors would take turns
        else:
            without = learned_from(fitted, engine.time, cross, total=engine.total)
        shift = without - learned
    return QueryCovariance(cross, variance, error, shift)


class RemovalCovariance(ABC):
    """What each removal takes at one time: c = −α G b, in ρ = `width` numbers an example."""

    start: Prior
    width: int

    @abstractmethod
    def coordinates(self, rows: Float64[Tensor, "a n"]) -> Float64[Tensor, "a n"]:
        """Return rows over the training examples in the coordinates that `weights_of` takes."""

    @abstractmethod
    def weights_of(self, rows_inside: Float64[Tensor, "a n"], columns: slice) -> Float64[Tensor, "e a w"]:
        """Return what rows have in common with what each removal takes: α, of kernel rows."""

    @abstractmethod
    def coupling_matrix(self, columns: slice) -> Float64[Tensor, "e w w"]:
        """Return G."""

    @abstractmethod
    def covariance(self, columns: slice) -> Float64[Tensor, "e w w"]:
        """Return M = Cov b over initialisations."""

    def mean_and_covariance(
        self, queries: QueryCovariance
    ) -> Iterator[tuple[slice, Float64[Tensor, "m e"], Float64[Tensor, "m e"]]]:
        """Yield v_c and γ for blocks of examples.

        Cost:
            4 to 6 ρmn² flops at a finite time, for all examples.
        """
        n, m = len(self.start.gram), len(queries.cross)
        rows = [queries.cross, queries.error]
        if queries.shift is not None:
            rows.append(queries.shift @ self.start.gram)
        rows_inside = self.coordinates(torch.cat(rows))
        room = self.start.fitted.memory // (6 * 8 * self.width * (n + len(rows_inside)))
        for columns in blocks(n, max(1, min(VECTORS // self.width, room))):
            weights = self.weights_of(rows_inside, columns)  # (e, 2m or 3m, w)
            coupled = weights[:, :m] @ self.coupling_matrix(columns)  # −c = coupled · b
            variance = ((coupled @ self.covariance(columns)) * coupled).sum(2).T
            with_error = -(weights[:, m : 2 * m] * coupled).sum(2).T
            if queries.shift is not None:
                # c = −α G b + s·r: both terms vary together.
                both = (weights[:, 2 * m :] * coupled).sum(2).T
                variance = variance - 2 * both + (rows[2] * queries.shift).sum(1, keepdim=True)
                with_error = with_error + (queries.error * queries.shift).sum(1, keepdim=True)
            yield columns, variance.clamp_min(0), with_error


@final
class RemovalCovarianceAtConvergence(RemovalCovariance):
    """At the end of training, from R = (K + λI)⁻¹; 2n³ flops for all Var (R r)_i."""

    width = 1

    def __init__(self, start: Prior, engine: EndOfTraining) -> None:
        self.start = start
        self.inverse = start.fitted.inverse(engine.ridge)
        columns = (self.inverse[:, place] for place in blocks(len(self.inverse), VECTORS))
        self.variances = torch.cat([(block * (start.gram @ block)).sum(0) for block in columns])

    def coordinates(self, rows: Float64[Tensor, "a n"]) -> Float64[Tensor, "a n"]:
        return rows @ self.inverse

    def weights_of(self, rows_inside: Float64[Tensor, "a n"], columns: slice) -> Float64[Tensor, "e a 1"]:
        return rows_inside[:, columns].T[:, :, None]

    def coupling_matrix(self, columns: slice) -> Float64[Tensor, "e 1 1"]:
        return 1 / self.inverse.diagonal()[columns, None, None]

    def covariance(self, columns: slice) -> Float64[Tensor, "e 1 1"]:
        return self.variances[columns, None, None]


@final
class Span:
    """U, what the poles of a window span on the spectrum, and what is derived from it once."""

    def __init__(self, start: Prior, nodes: SharedNodes) -> None:
        self.start, self.resolvents = start, nodes.resolvents
        assert self.resolvents.outputs_per_example == 1, "a kernel with several outputs has no prior"
        if self.resolvents.spectrum.null:
            raise OptionError(
                "`spread` at a finite time needs all eigenpairs of the kernel matrix; this model is kept as "
                'its features: ask at the end of training, or fit with solver="dense".'
            )
        quadrature, device = self.resolvents.quadrature, self.resolvents.poles.device
        points, weights = quadrature.nodes.to(device), quadrature.weights.to(device)
        # By how much a node counts: R_ii is about 1/z, so G is about w z. What U leaves out of a pole
        # is then below ε of what the heaviest has.
        counts = (weights.abs().amax(0) * points.abs()).sqrt()[:, None] * self.resolvents.poles  # (q, r)
        vectors, size, _ = torch.linalg.svd(torch.cat([counts.real, counts.imag]).T, full_matrices=False)
        self.basis: Float64[Tensor, "r w"] = vectors[:, size > EPS * size[0]]
        self.poles: Complex128[Tensor, "w q"] = real_times_complex(self.basis.T, self.resolvents.poles.T)

    @property
    def width(self) -> int:
        return self.basis.shape[1]

    def basis_of_examples(self, columns: slice) -> Float64[Tensor, "r e w"]:
        """Return V_i ∘ U of some examples."""
        return self.resolvents.spectrum.vectors[columns].T[:, :, None] * self.basis[:, None]

    @cached_property
    def covariances(self) -> Float64[Tensor, "n w w"]:
        """Return M_i of every example: 2ρn³ flops."""
        vectors, n, width = self.resolvents.spectrum.vectors, len(self.start.gram), self.width
        memory = self.start.fitted.memory
        check_fits(
            f"What {n} examples take with them, {width} × {width} numbers each,",
            8 * n * (width**2 + 2 * n),
            memory,
            advice="Take fewer examples (`n_train`), or raise `memory`.",
        )
        prior = vectors.T @ self.start.gram @ vectors
        covariances = vectors.new_empty(n, width, width)
        for place in blocks(n, max(1, min(VECTORS // width, memory // (6 * 8 * n * width)))):
            spanned = self.basis_of_examples(place)
            applied = (prior @ spanned.flatten(1)).view(spanned.shape)
            covariances[place] = spanned.permute(1, 2, 0) @ applied.transpose(0, 1)
        return covariances


@final
class RemovalCovarianceAtTime(RemovalCovariance):
    """At a finite time above 0, from the resolvents of its window."""

    def __init__(self, span: Span, place: int) -> None:
        self.start, self.span, self.width = span.start, span, span.width
        weights = span.resolvents.quadrature.weights[place].to(span.poles.device)
        self.ratios: Complex128[Tensor, "n q"] = (weights[:, None] / span.resolvents.diagonal[:, :, 0, 0]).T
        self.products = (span.poles[:, None] * span.poles[None]).flatten(0, 1).T  # (q, w·w)

    def coordinates(self, rows: Float64[Tensor, "a n"]) -> Float64[Tensor, "a n"]:
        return rows @ self.span.resolvents.spectrum.vectors

    def weights_of(self, rows_inside: Float64[Tensor, "a n"], columns: slice) -> Float64[Tensor, "e a w"]:
        spanned = self.span.basis_of_examples(columns)
        return (rows_inside @ spanned.flatten(1)).view(len(rows_inside), -1, self.width).transpose(0, 1)

    def coupling_matrix(self, columns: slice) -> Float64[Tensor, "e w w"]:
        return (self.ratios[columns] @ self.products).real.view(-1, self.width, self.width)

    def covariance(self, columns: slice) -> Float64[Tensor, "e w w"]:
        return self.span.covariances[columns]


def removal_covariances(start: Prior, engines: Sequence[EditEngine]) -> list[RemovalCovariance | None]:
    """Return what removals take at each time; None at time 0, where they take nothing."""
    spans: dict[int, Span] = {}
    covariances: list[RemovalCovariance | None] = []
    for engine in engines:
        if isinstance(engine, EndOfTraining):
            covariances.append(RemovalCovarianceAtConvergence(start, engine))
        elif isinstance(engine, FiniteTime):
            key = id(engine.nodes)
            if key not in spans:
                spans[key] = Span(start, engine.nodes)
            covariances.append(RemovalCovarianceAtTime(spans[key], engine.place))
        else:
            assert isinstance(engine, BeforeTraining), "every other time has a spread"
            covariances.append(None)
    return covariances


def _fill_prediction(
    moments: Float64[Tensor, "3 m n k"],
    engine: EditEngine,
    block: QueryBlock,
    removal: RemovalCovariance,
    queries: QueryCovariance,
) -> None:
    """Write the standard deviation of changes of predictions, the same for every output."""
    for columns, variance, _ in removal.mean_and_covariance(queries):
        moments[2][:, columns] = variance.sqrt()[..., None]


def _fill_loss(
    moments: Float64[Tensor, "3 m n"],
    engine: EditEngine,
    block: QueryBlock,
    removal: RemovalCovariance,
    queries: QueryCovariance,
) -> None:
    """Write mean and standard deviation of influences on the loss."""
    error = engine.predictions(block) - block.targets  # (m, k)
    outputs = error.shape[1]
    for columns, variance, with_error in removal.mean_and_covariance(queries):
        squares, halves, both = (torch.zeros_like(variance) for _ in range(3))
        for output in range(outputs):
            change = engine.singles(block, columns, output)  # c̄, (m, e)
            half = change / 2 + error[:, output, None]  # ū
            squares += change.square()
            halves += half.square()
            both += change * half
        of_half = (queries.variance[:, None] + with_error + variance / 4).clamp_min(0)  # v_u
        together = with_error + variance / 2  # g
        moments[1][:, columns] += outputs * together
        total = of_half * squares + variance * halves + 2 * together * both
        total += outputs * (variance * of_half + together.square())
        moments[2][:, columns] = total.clamp_min(0).sqrt()
