"""What do many networks say, each from random weights of its own? A mean, and a variance about it.

An infinitely wide network starts as f_0, a draw of the Gaussian process of a kernel k_0 (`Kernel.prior`),
and training moves it along the tangent kernel K, which is the same for every draw:

    f_t(x) = f_0(x) + a(x)ᵀ (Y − f_0(X)),        a(x) = g_t(K) K(X, x).

So over initialisations f_t is a Gaussian process, every output alike and by itself, with

    mean          a(x)ᵀ Y
    covariance    k_0(x, z) − a(x)ᵀ k_0(X, z) − k_0(x, X) a(z) + a(x)ᵀ K_0 a(z).

A Bayesian does not train: with prior covariance K and noise of variance λ on the targets, the `posterior`
of f given them has the mean that the minimiser of ridge λ has, and covariance k − k(x, X) (K + λI)⁻¹ k(X, z).
The two agree where only the readout is trained (K = k_0) and λ = 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.blocks import blocks, check_fits
from leftout.core.checks import check_choice, check_kind
from leftout.core.errors import OptionError
from leftout.data.pairs import inputs_of
from leftout.dynamics.fitted import Fitted, check_fitted
from leftout.dynamics.rules import At
from leftout.kernels import assemble
from leftout.kernels.base import Kernel

QUERIES = 512
"""Queries asked at a time."""


@dataclass(frozen=True, eq=False)
class Ensemble:
    """A Gaussian process at the queries. A sequence of training times adds a leading axis.

    Attributes:
        mean: in centred target units.
        variance: of each output, in their square.
        covariance: between the queries, of each output by itself; None where it was not asked for.
    """

    mean: Float64[Tensor, "*at m k"]
    variance: Float64[Tensor, "*at m k"]
    covariance: Float64[Tensor, "*at m m"] | None = None

    @property
    def deviation(self) -> Float64[Tensor, "*at m k"]:
        """Return the standard deviation."""
        return self.variance.sqrt()


@dataclass(frozen=True, eq=False)
class Prior:
    """f_0 at the training examples of a fitted model, over initialisations. Made by `prior_of`.

    Attributes:
        kernel: k_0.
        gram: K_0, between the training examples.
    """

    fitted: Fitted
    kernel: Kernel
    gram: Float64[Tensor, "n n"]

    def between(self, queries: Tensor, inputs: Tensor) -> Float64[Tensor, "m a"]:
        """Return k_0 between any two batches."""
        return assemble.cross(
            self.kernel,
            queries,
            inputs,
            dtype=self.fitted.kernel_dtype,
            device=self.fitted.device,
            memory=self.fitted.memory,
        )

    def cross(self, queries: Tensor) -> Float64[Tensor, "m n"]:
        """Return k_0(queries, training inputs)."""
        return self.between(queries, self.fitted.train.inputs)

    def variance(self, queries: Tensor) -> Float64[Tensor, " m"]:
        """Return k_0(x, x)."""
        return _diagonal(self.fitted, self.kernel, queries)

    def error_covariance(
        self, started: Float64[Tensor, "m n"], learned: Float64[Tensor, "*t m n"]
    ) -> Float64[Tensor, "*t m n"]:
        """Return p(x) = a(x)ᵀ K_0 − k_0(x, X), the covariance of f_t(x) with Y − f_0(X).

        Args:
            started: k_0(x, X).
            learned: a(x)ᵀ.
        """
        return learned @ self.gram - started


def prior_of(fitted: Fitted, prior: Kernel | None = None) -> Prior:
    """Return how the networks of a fitted kernel start.

    Args:
        prior: k_0; `fitted.kernel.prior()` if not said.

    Raises:
        OptionError: it is not known and not said; or the model is of one network, whose f_0 is known.
        MemoryBudgetError: a second Gram matrix would not fit.
    """
    kernel = fitted.kernel
    if fitted.outputs_per_example > 1 or kernel.initial(fitted.train.inputs[:1]) is not None:
        raise OptionError(
            f"`fitted` must be of infinitely wide networks, which start at random; {kernel!r} is of one "
            "network with an f_0 of its own, and has no spread. Draw several networks and compare them, "
            "or fit the kernel of the limit: ReLU, Erf or Tanh."
        )
    start = kernel.prior() if prior is None else prior
    if start is None:
        raise OptionError(
            f"`prior` must be given for {kernel!r}: it does not say which Gaussian process its networks "
            "are before training. Pass that kernel, such as ReLU(…, kind='nngp'), or ArcCosine(scale) "
            "for two-layer networks whose first weights are drawn from N(0, scale²)."
        )
    check_kind("prior", start, Kernel, what="a kernel, such as ReLU(…, kind='nngp')")
    start.check("inputs", fitted.train.inputs)
    if start.outputs is not None:
        raise OptionError(
            f"`prior` must be one kernel for all outputs, which start independently; {start!r} tells "
            f"{start.outputs} outputs apart."
        )
    n = len(fitted)
    check_fits(
        f"The prior of {n} examples",
        3 * 8 * n * n,
        fitted.memory,
        advice="Take fewer examples (`n_train`), or raise `memory`.",
    )
    gram = assemble.gram(
        start, fitted.train.inputs, dtype=fitted.kernel_dtype, device=fitted.device, memory=fitted.memory
    )
    return Prior(fitted, start, gram)


def ensemble(
    fitted: Fitted,
    inputs: Any,
    *,
    at: At | Sequence[At] = None,
    prior: Kernel | None = None,
    covariance: bool = False,
) -> Ensemble:
    """Return mean and variance of the predictions of infinitely wide networks over initialisations.

    Args:
        inputs: Examples, or an array or tensor prepared like the training inputs.
        at: training time or a sequence of them; None is the end of training.
        prior: k_0, the Gaussian process that the networks are before training; that of the kernel if
            not said.
        covariance: return the covariance between queries too.

    Raises:
        OptionError: a kernel of one network, or one whose prior is neither known nor given.
        MemoryBudgetError: K_0, or the covariance, would not fit.
        DivergenceError, NotPositiveError: as for `Fitted.predict`.

    Cost:
        K_0, n² evaluations; the factorisation; then 6mn² flops a time, 2m²n more for a covariance.

    Accuracy:
        10·cond·eps of k_0(x, x), cond as in `leave_one_out`: a variance is a difference, and where
        rounding makes it negative it is 0.

    Example:
        >>> import leftout as lo
        >>> train, query = lo.load("digits", n_train=40, n_query=10)
        >>> lo.ensemble(lo.fit(lo.kernels.ReLU(1), train), query).variance.shape
        torch.Size([10, 10])

    Source:
        Lee et al. 2019, "Wide neural networks of any depth evolve as linear models under gradient
        descent", equations 14 to 16 (there without ridge); Neal 1996 for the prior.
    """
    check_fitted(fitted)
    points = _points(fitted, inputs)
    times = fitted.times(at)
    _check_covariance(covariance, len(times), len(points), fitted)
    fitted.check_trainable(times, total=len(fitted))
    start = prior_of(fitted, prior)
    size = len(points) if covariance else QUERIES
    blocks_of_queries = [
        _at_times(start, points[rows], times, covariance) for rows in blocks(len(points), size)
    ]
    means, variances, covariances = zip(*blocks_of_queries, strict=True)
    mean, variance, between = torch.cat(means, dim=1), torch.cat(variances, dim=1), covariances[0]
    if isinstance(at, Sequence) or int(getattr(at, "ndim", 0)):
        return Ensemble(mean, variance, between)
    return Ensemble(mean[0], variance[0], None if between is None else between[0])


def posterior(fitted: Fitted, inputs: Any, *, covariance: bool = False) -> Ensemble:
    """Return the Gaussian-process posterior given the training targets: Bayesian inference, no training.

    The kernel is the prior covariance, for a network ReLU(…, kind="nngp"), and what the rule adds to the
    Gram matrix at the end of training is the variance of the noise: λ, or nλ under loss="mean".

    Args:
        inputs: Examples, or an array or tensor prepared like the training inputs.
        covariance: return the covariance between queries too (not where outputs are told apart).

    Returns:
        Mean and variance of f, without the noise. The mean is that of `Fitted.predict`.

    Raises:
        NotPositiveError: no noise on a singular Gram matrix.
        MemoryBudgetError: the covariance would not fit.

    Cost:
        n³/3 once, then mn² flops.

    Accuracy:
        10·eps·cond(K + λI) of k(x, x); a variance that rounding makes negative is 0.

    Example:
        >>> import leftout as lo
        >>> train, query = lo.load("digits", n_train=40, n_query=10)
        >>> lo.posterior(lo.fit(lo.kernels.ReLU(1, kind="nngp"), train), query).mean.shape
        torch.Size([10, 10])

    Source:
        Rasmussen & Williams 2006, "Gaussian processes for machine learning", equations 2.25 and 2.26.
    """
    check_fitted(fitted)
    points = _points(fitted, inputs)
    check_choice("covariance", covariance, (True, False))
    if covariance and fitted.outputs_per_example > 1:
        raise OptionError(
            "`covariance` is between queries, of outputs that share one kernel; leave it out for "
            f"{fitted.kernel!r}, which tells outputs apart."
        )
    _check_covariance(covariance, 1, len(points), fitted)
    factor = fitted.cholesky(fitted.rule.effective_ridge(len(fitted)))
    cross = fitted.cross(points)
    explained = torch.linalg.solve_triangular(factor.lower, cross.T, upper=False)  # (r, m)
    unexplained = _diagonal(fitted, fitted.kernel, points) - explained.square().sum(0)
    columns = fitted.residual.shape[1]
    variance = fitted.by_example(unexplained.clamp_min(0)[:, None].expand(-1, columns))
    mean = fitted.start_at(points, cross) + fitted.by_example(cross @ factor.solve(fitted.residual))
    between = None
    if covariance:
        between = fitted.rows.between(points, points) - explained.T @ explained
        between = (between + between.T) / 2
    return Ensemble(mean, variance, between)


def learned_from(
    fitted: Fitted, time: float, cross: Float64[Tensor, "m n"], *, total: float | None = None
) -> Float64[Tensor, "m n"]:
    """Return a(x)ᵀ = K(x, X) g_t(K): how much of each residual a prediction has learned.

    Args:
        total: the sum of the examples' weights, which sets the filter under loss="mean".
    """
    total = len(fitted) if total is None else total
    if time == math.inf:
        return fitted.factor(fitted.rule.effective_ridge(total)).solve(cross.T).T
    if time == 0:
        return torch.zeros_like(cross)
    spectrum = fitted.spectrum
    inside = (cross @ spectrum.vectors) * fitted.spectral_rule.filter(time, total)(spectrum.values)
    return inside @ spectrum.vectors.T


def _at_times(
    start: Prior, points: Tensor, times: Sequence[float], covariance: bool
) -> tuple[Float64[Tensor, "t m k"], Float64[Tensor, "t m k"], Float64[Tensor, "t m m"] | None]:
    """Return mean, variance and covariance at some queries."""
    fitted = start.fitted
    targets = fitted.by_example(fitted.residual)  # f_0 is not in it: the kernel's is None
    cross, started, initial = fitted.cross(points), start.cross(points), start.variance(points)
    learned = torch.stack([learned_from(fitted, time, cross) for time in times])  # (t, m, n)
    error = start.error_covariance(started, learned)
    mean = learned @ targets
    # k_0 − 2 a·k_0(X, x) + aᵀ K_0 a, the last two of which p = K_0 a − k_0 has together.
    variance = initial + ((error - started) * learned).sum(2)
    by_output = variance.clamp_min(0)[..., None].expand_as(mean).clone()
    if not covariance:
        return mean, by_output, None
    between = start.between(points, points) + error @ learned.mT - learned @ started.T
    return mean, by_output, (between + between.mT) / 2


def _points(fitted: Fitted, inputs: Any) -> Tensor:
    """Return the inputs asked about, once they are checked."""
    points = inputs_of(inputs, name="inputs")
    fitted.kernel.check("inputs", points)
    return points


def _check_covariance(covariance: bool, times: int, m: int, fitted: Fitted) -> None:
    check_choice("covariance", covariance, (True, False))
    if covariance:
        check_fits(
            f"The covariance of {m} queries",
            3 * 8 * times * m * m,
            fitted.memory,
            advice="Ask for fewer queries, or leave `covariance` out.",
        )


def _diagonal(fitted: Fitted, kernel: Kernel, inputs: Tensor) -> Float64[Tensor, " mr"]:
    """Return k(x, x), evaluated as the Gram matrix was."""
    return assemble.diagonal(kernel, inputs, dtype=fitted.kernel_dtype, device=fitted.device)
