"""How well will a kernel learn a target from n examples? Means over data sets, predicted before any is drawn.

With λ_i the eigenvalues of the kernel over its domain, v_i the target's coefficients in the eigenfunctions, κ
the root of the eigenvalue equation and L_i = λ_i / (λ_i + κ) the learnability of mode i,

    E v̂_i = L_i v_i                                      predicted coefficients
    E0    = n / (n − Σ L_i²)                             over-fitting coefficient
    E     = E0 [Σ (1 − L_i)² v_i² + noise]               test error, Cov v̂_i = E L_i² / n
    E_tr  = (ridge / (n κ))² E                           training error
    Σ L_i = n − ridge / κ                                conserved: modes compete for n examples

as means over data sets of n examples. Errors are **mean squared errors** over the domain, as usual in the
field, summed over outputs: twice the loss ½ Σ (f − y)² of influences, averaged over queries.

This holds for examples drawn independently. `without_replacement` is for n different points of a domain of M:
with h the ridge's term (`eigenvalue_equation`), κ' = dκ / dridge and D = Σ L (1 − L) − κ ∂h/∂κ,

    E    = (1 + Σ L² / D) Σ (1 − L)² v² + noise (1 + κ' Σ L²),    Σ L = n − h,
    E_tr = (ridge / κ)² κ' Σ (1 − L)² v² / n + noise (h − ridge dh/dridge) / n,

which are those above for M = ∞. For 128 examples of 256 points and a ridge, they are within 1 % where those
for independent examples are 10 % off in the test error and 20 to 70 % in the training error.

The derivation treats eigenfunctions at random points as independent normal numbers. In eight dimensions and
more that is good to a few percent; on a circle, errors of smooth targets come out up to five times too small
(their order is right, and learnability within 0.1). `transfer` computes the numbers of one data set without
approximation.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.checks import (
    check_at_least,
    check_choice,
    check_count,
    check_finite,
    check_index,
    check_rows,
)
from leftout.core.errors import OptionError, ShapeError
from leftout.diagnostics.eigenlearning.domain import domain_functions, domain_gram, real_tensor
from leftout.diagnostics.eigenlearning.eigenvalue_equation import (
    RidgeTerms,
    check_spectrum,
    kappa_of,
    ridge_terms,
)
from leftout.solvers.spectrum import spectrum_of


def learnability(
    gram: Any,
    targets: Any,
    *,
    n: float,
    ridge: float = 0.0,
    noise: float = 0.0,
    without_replacement: bool = False,
) -> "Learnability":
    """Return how well a kernel learns a target from n examples of a domain, as predicted by theory.

    Args:
        gram: the kernel between all M points of the domain, or of a large sample of it; tensor or array.
        targets: the target at these points, (M,) or (M, k), without noise; centred if f_0 = 0 should mean
            no preference.
        n: number of examples, any real number, so that curves can be drawn.
        ridge: added to the Gram matrix of the n examples as given.
        noise: variance of noise on every target of the n examples, and of the test points.
        without_replacement: whether the domain has only these M points, and the examples are n different ones
            of them. By default examples are independent draws from an infinite domain that the points sample.

    Raises:
        ShapeError: a matrix that is not square, targets of another length.
        DataError: NaN, infinity, a matrix that is not symmetric.
        NotPositiveError: a matrix with eigenvalues that are negative beyond rounding.
        OptionError: n, ridge or noise that is negative; without ridge, n that is not below the rank;
            without replacement, n that is not below M.

    Cost:
        9 M³ for the eigenvalues. `at` then gives another n, ridge or noise at M for each pass.

    Accuracy:
        eigenvalues up to M·eps of the largest, eps that of the dtype of `gram`, are rounding, and are set to
        0. If the points are a *sample*, the eigenvalues are those of the sample: small ones spread, and its
        targets fit its eigenvectors better than those of the domain.

    Source:
        Simon, Dickens & DeWeese 2021, "Neural tangent kernel eigenvalues accurately predict
        generalization"; the review, section 4 and appendix C.

    Example:
        >>> import leftout as lo, torch
        >>> found = lo.learnability(torch.eye(4), torch.tensor([1.0, -1.0, 1.0, -1.0]), n=2)
        >>> found.kappa, found.learnability.tolist()  # four equal modes share two examples
        (0.25, [0.5, 0.5, 0.5, 0.5])
        >>> found.test_error, found.at(n=3).test_error
        (0.5, 0.25)
    """
    matrix, made_in = domain_gram(gram)
    values = domain_functions("targets", targets, matrix)
    spectrum = spectrum_of(matrix, made_in=made_in)
    m = len(matrix)
    rounding = m * torch.finfo(made_in).eps * spectrum.values[0]
    eigenvalues = torch.where(spectrum.values > rounding, spectrum.values, 0) / m
    return from_modes(
        eigenvalues,
        spectrum.coordinates(values) / math.sqrt(m),
        n=n,
        ridge=ridge,
        noise=noise,
        points=m,
        without_replacement=without_replacement,
    )


def from_modes(
    eigenvalues: Any,
    coefficients: Any,
    *,
    n: float,
    ridge: float = 0.0,
    multiplicities: Any = None,
    noise: float = 0.0,
    points: int | None = None,
    without_replacement: bool = False,
) -> "Learnability":
    """Return how well a kernel of known spectrum learns a target, as predicted by theory.

    Args:
        eigenvalues: λ ≥ 0, any order, of the kernel as an operator under the mean over the domain.
        coefficients: v, (r,) or (r, k): the target's, of eigenfunctions whose mean square is 1. Where
            an eigenvalue stands for several modes, the root of the sum of their squares.
        multiplicities: how many modes each eigenvalue stands for; None for one each.
        points: M, of a finite domain.
        without_replacement: as for `learnability`; needs `points`.

    Raises:
        ShapeError, DataError, OptionError: as for `learnability`; more modes than points.

    Example:
        >>> import leftout as lo
        >>> found = lo.from_modes([1.0, 0.5, 0.1], [1.0, 0.0, 0.0], n=2)
        >>> [round(share, 3) for share in found.learnability.tolist()], round(found.total_learnability, 9)
        ([0.861, 0.756, 0.383], 2.0)
    """
    values = real_tensor("eigenvalues", eigenvalues).double()
    repeats = None if multiplicities is None else real_tensor("multiplicities", multiplicities)
    counts = None if repeats is None else repeats.to(values)
    check_spectrum(values, counts)
    target = real_tensor("coefficients", coefficients).to(values)
    if target.ndim not in (1, 2):
        raise ShapeError(f"`coefficients` must have shape (r,) or (r, k); got {tuple(target.shape)}.")
    check_rows("coefficients", target, len(values), of="`eigenvalues`")
    check_finite("coefficients", target)
    check_at_least("noise", noise, 0)
    weights = torch.ones_like(values) if counts is None else counts
    _check_points(weights, points, without_replacement)
    kappa = kappa_of(
        values, n=n, ridge=ridge, multiplicities=counts, points=points if without_replacement else None
    )
    return Learnability(
        eigenvalues=values,
        coefficients=target if target.ndim == 2 else target[:, None],
        multiplicities=weights,
        n=float(n),
        ridge=float(ridge),
        noise=float(noise),
        kappa=kappa,
        points=points,
        without_replacement=without_replacement,
    )


def _check_points(weights: Float64[Tensor, " r"], points: int | None, without_replacement: bool) -> None:
    check_choice("without_replacement", without_replacement, (True, False))
    if points is None:
        if without_replacement:
            raise OptionError(
                "`without_replacement` asks for `points`, the number of points of the domain; got None."
            )
        return
    check_count("points", points)
    modes = float(weights.sum())
    if modes > points * (1 + 1e-9):
        raise OptionError(
            f"`points` must be at least the number of modes, {modes:g}: functions on fewer points "
            f"have no more; got {points}."
        )


@final
@dataclass(frozen=True, eq=False)
class Learnability:
    """How well a kernel learns a target from n examples. Made by `learnability` and `from_modes`.

    Errors are means of squares over the domain and over data sets, summed over outputs.

    Attributes:
        eigenvalues: λ_i of the kernel as an operator under the mean over the domain.
        coefficients: v_i of the target.
        multiplicities: how many modes each eigenvalue stands for.
        n, ridge, noise: the arguments.
        kappa: modes with λ above it are learned by more than half; infinity for n = 0.
        points: M, of a finite domain.
        without_replacement: whether the examples are different ones of these points.
    """

    eigenvalues: Float64[Tensor, " r"]
    coefficients: Float64[Tensor, "r k"]
    multiplicities: Float64[Tensor, " r"]
    n: float
    ridge: float
    noise: float
    kappa: float
    points: int | None = None
    without_replacement: bool = False

    def at(
        self, *, n: float | None = None, ridge: float | None = None, noise: float | None = None
    ) -> "Learnability":
        """Return the same for another number of examples, ridge or noise; None keeps the present one."""
        examples = self.n if n is None else n
        new_ridge = self.ridge if ridge is None else ridge
        new_noise = self.noise if noise is None else noise
        check_at_least("noise", new_noise, 0)
        kappa = kappa_of(
            self.eigenvalues,
            n=examples,
            ridge=new_ridge,
            multiplicities=self.multiplicities,
            points=self._different_points,
        )
        return replace(self, n=float(examples), ridge=float(new_ridge), noise=float(new_noise), kappa=kappa)

    def alone(self, output: int) -> "Learnability":
        """Return the same for one output alone."""
        check_index("output", output, self.coefficients.shape[1])
        return replace(self, coefficients=self.coefficients[:, output : output + 1])

    @cached_property
    def learnability(self) -> Float64[Tensor, " r"]:
        """Return L_i, the share of mode i that is learned, from 0 to 1."""
        return self.eigenvalues / (self.eigenvalues + self.kappa)

    @cached_property
    def unlearned_shares(self) -> Float64[Tensor, " r"]:
        """Return 1 − L_i, without cancellation where nearly everything is learned."""
        return 1 / (1 + self.eigenvalues / self.kappa)

    @property
    def total_learnability(self) -> float:
        """Return Σ L_i over all modes: n minus the ridge's share, for whatever spectrum."""
        return float(self.multiplicities @ self.learnability)

    @property
    def target_learnability(self) -> float:
        """Return Σ L v² / Σ v², the expected share ⟨f, f̂⟩ / ⟨f, f⟩; NaN of a target that is 0."""
        size = self.coefficients.abs().max()  # scaled first, so that squares do not overflow
        squares = (self.coefficients / size).square().sum(1)
        return float(self.learnability @ squares / squares.sum())

    @cached_property
    def overfitting_coefficient(self) -> float:
        """Return E0 = n / (n − Σ L²) ≥ 1, the factor by which over-fitting n examples raises the error."""
        return 1.0 if self.n == 0 else 1 + self._squares / self._equation_slope

    @cached_property
    def kappa_slope(self) -> float:
        """Return κ' = dκ / dridge; 1 / (n − Σ L²) = E0 / n for independent examples."""
        return math.inf if self.n == 0 else self._terms.rise / self._equation_slope

    @property
    def share_of_ridge(self) -> float:
        """Return 1 − Σ L / n, the ridge's share of n: ridge / (n κ) for independent examples.

        It is one minus the mean leverage of an example.
        """
        if self.n > 0:
            return self._terms.share / self.n
        trace = float(self.multiplicities @ self.eigenvalues)  # n κ tends to Σ λ + ridge
        return self.ridge / (trace + self.ridge) if self.ridge > 0 else 0.0

    @cached_property
    def output_errors(self) -> Float64[Tensor, " k"]:
        """Return the test error of each output, against noisy targets."""
        return self._squared_bias + self.noise + self._squares * self._variances

    @property
    def test_error(self) -> float:
        """Return E: the mean squared error against targets as noisy as those of the examples.

        It is over the whole domain, examples included.
        """
        return float(self.output_errors.sum())

    @property
    def noiseless_error(self) -> float:
        """Return the mean squared error against the noiseless target: E minus the noise of test points."""
        return float((self._squared_bias + self._squares * self._variances).sum())

    @property
    def train_error(self) -> float:
        """Return the mean squared error on the examples, against their noisy targets."""
        if self.n == 0:
            return self.share_of_ridge**2 * self.test_error
        ridge_share, fall, rise = self._terms
        outputs, slope = self.coefficients.shape[1], self.kappa_slope
        signal = (self.ridge / self.kappa) ** 2 * slope * float(self._squared_bias.sum())
        # ridge² tr (K + ridge)⁻² = h − ridge dh / dridge, along κ as it moves with the ridge.
        noisy = ridge_share + self.ridge / self.kappa * (fall * slope - rise)
        return (signal + outputs * self.noise * noisy) / self.n

    @property
    def off_training_error(self) -> float | None:
        """Return the test error over the points that are not examples; None without such points.

        For n different points, as data sets are usually drawn. Independent draws repeat points, and leave
        more points outside: then it, and the training error, are those of an infinite domain.

        On the examples f̂ − f = (f̂ − y) + noise, whose mean square is the training error plus the noise
        minus 2 · noise · ridge / (nκ), as f̂ follows the noise in part.
        """
        if self.points is None or self.n >= self.points:
            return None
        noise = self.noise * self.coefficients.shape[1]
        on_examples = self.train_error + noise * (1 - 2 * self.share_of_ridge)
        summed_error = self.points * self.noiseless_error - self.n * on_examples
        return summed_error / (self.points - self.n) + noise

    @property
    def mean(self) -> Float64[Tensor, "r k"]:
        """Return E v̂ = L v, the mean of the learned coefficients over data sets."""
        return self.learnability[:, None] * self.coefficients

    @property
    def covariance(self) -> Float64[Tensor, "r k"]:
        """Return Var v̂ of every mode and output; the covariance between modes is 0.

        E L² / n for independent examples. Where an eigenvalue stands for several modes, it is that of one
        mode.
        """
        if self.n == 0:
            return torch.zeros_like(self.coefficients)
        return torch.outer(self.learnability.square(), self._variances)

    def derivatives(self, mode: int) -> Float64[Tensor, " r"]:
        """Return dL_j / dλ_i for all j, i one mode: positive for j = i, negative for all others.

        Where the eigenvalue stands for several modes only one of them changes, and entry i is that mode's.
        """
        check_index("mode", mode, len(self.eigenvalues))
        if self.n == 0:
            return torch.zeros_like(self.eigenvalues)
        steep = self.unlearned_shares.square() / self.kappa  # dL / dλ at fixed κ: κ / (λ + κ)²
        # κ rises with λ_i: the other modes lose what mode i gains.
        rise = float(steep[mode]) / self._equation_slope
        slopes = -rise * self.learnability * self.unlearned_shares
        slopes[mode] += steep[mode]
        return slopes

    @property
    def record(self) -> dict[str, Any]:
        """Return the numbers that are not per mode, JSON-like."""
        return {
            "n": self.n,
            "ridge": self.ridge,
            "noise": self.noise,
            "kappa": self.kappa,
            "points": self.points,
            "without_replacement": self.without_replacement,
            "modes": float(self.multiplicities[self.eigenvalues > 0].sum()),
            "overfitting_coefficient": self.overfitting_coefficient,
            "target_learnability": self.target_learnability,
            "test_error": self.test_error,
            "noiseless_error": self.noiseless_error,
            "train_error": self.train_error,
            "off_training_error": self.off_training_error,
        }

    @property
    def _different_points(self) -> int | None:
        return self.points if self.without_replacement else None

    @cached_property
    def _terms(self) -> RidgeTerms:
        return ridge_terms(self.kappa, n=self.n, ridge=self.ridge, points=self._different_points)

    @cached_property
    def _equation_slope(self) -> float:
        """Return D, minus the slope of the eigenvalue equation in log κ: a sum of positive terms."""
        return float(self.multiplicities @ (self.learnability * self.unlearned_shares)) + self._terms.fall

    @cached_property
    def _squares(self) -> float:
        return float(self.multiplicities @ self.learnability.square())

    @cached_property
    def _squared_bias(self) -> Float64[Tensor, " k"]:
        """Return Σ (1 − L)² v² of each output, its squared bias."""
        return self.unlearned_shares.square() @ self.coefficients.square()

    @cached_property
    def _variances(self) -> Float64[Tensor, " k"]:
        """Return Var v̂_i / L_i² of each output, which is the same for all modes."""
        if self.n == 0:
            return torch.zeros_like(self._squared_bias)
        return self._squared_bias / self._equation_slope + self.noise * self.kappa_slope
