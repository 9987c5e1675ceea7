"""The domains and the network of Simon et al.: circle, hypercube and sphere, and a deep ReLU network.

The network has 4 hidden layers, weight variance 2, bias variance 0.01 and a readout of weight
variance 1 without bias. Its tangent kernel is that of a network whose readout is as all layers are,
less the readout's bias and halved:

    k = (ReLU(4, 2, 0.01) − 0.01) / 2        f = (network − √0.01 · readout bias) / √2
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, final

import torch
from jaxtyping import Float, Float64
from torch import Generator, Tensor, nn

import leftout as lo
from leftout.data import Circle, Hypercube, Sphere, gegenbauer
from leftout.diagnostics import DomainSpectrum, domain_spectrum
from leftout.dynamics import WideNetwork
from leftout.solvers import factor_cholesky

Activation = Literal["relu", "erf", "tanh"]

DEPTH, WEIGHT, BIAS = 4, 2.0, 0.01
SQUARED = 24
"""Degrees that matter to the square of the kernel: beyond, m λ² is below 1e-16 of the sum."""

ALIKE = lo.kernels.ReLU(DEPTH, WEIGHT, BIAS)


def tangent(first: Float[Tensor, "m d"], second: Float[Tensor, "n d"]) -> Float[Tensor, "m n"]:
    """Return the tangent kernel of the paper's network at infinite width."""
    return (ALIKE.block(first, second) - BIAS) / 2


KERNEL = lo.kernels.From(tangent, "tangent kernel of Simon et al.")


@final
class PaperNetwork(nn.Module):
    """The paper's network, of any width and depth: a readout of weight variance 1 without bias."""

    def __init__(
        self,
        width: int,
        inputs: int,
        *,
        depth: int = DEPTH,
        activation: Activation = "relu",
        weight_variance: float = WEIGHT,
        generator: Generator,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.inside = WideNetwork(
            width,
            inputs,
            depth=depth,
            activation=activation,
            weight_variance=weight_variance,
            bias_variance=BIAS,
            generator=generator,
            dtype=dtype,
        )

    def forward(self, inputs: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Return the output of each input."""
        outputs = self.inside(inputs) - math.sqrt(BIAS) * self.inside.biases[-1]
        scaled: Tensor = outputs[:, 0] / math.sqrt(self.inside.weight_variance)
        return scaled


@dataclass(frozen=True, eq=False)
class DataSet:
    """n random points of a domain.

    Attributes:
        inputs: the points.
        functions: an eigenfunction of each degree shown, at the points.
        gram: the kernel between them.
        squared: the squared operator's kernel, (1/M) Σ_x k(·, x) k(x, ·), between them.
    """

    inputs: Float64[Tensor, "n d"]
    functions: Float64[Tensor, "n degrees"]
    gram: Float64[Tensor, "n n"]
    squared: Float64[Tensor, "n n"]


@dataclass(frozen=True, eq=False)
class Setting:
    """A domain of the paper, and the degrees that it shows."""

    name: str
    domain: Circle | Hypercube | Sphere
    degrees: tuple[int, ...]

    @cached_property
    def spectrum(self) -> DomainSpectrum:
        """Return the kernel's eigenvalues there."""
        return domain_spectrum(KERNEL, self.domain, degrees=60)

    @cached_property
    def eigenvalues(self) -> Float64[Tensor, " degrees"]:
        """Return the eigenvalues of `degrees`."""
        return self.spectrum.eigenvalues[list(self.degrees)]

    def predict(self, n: float, *, ridge: float = 0.0, without_replacement: bool = False) -> lo.Learnability:
        """Return the theory's prediction, with one output for a function of each of `degrees`."""
        values, counts = self.spectrum.modes()
        chosen = torch.zeros(len(values), len(self.degrees), dtype=torch.float64)
        chosen[list(self.degrees), range(len(self.degrees))] = 1
        return lo.from_modes(
            values,
            chosen,
            n=n,
            ridge=ridge,
            multiplicities=counts,
            points=self.spectrum.points,
            without_replacement=without_replacement,
        )

    def predicted_learnability(self, n: int) -> Float64[Tensor, " degrees"]:
        """Return L of the degrees without ridge; all of it is learned from all points."""
        if self.spectrum.points is not None and n >= self.spectrum.points:
            return torch.ones_like(self.eigenvalues)
        return self.predict(n).learnability[list(self.degrees)]

    def draw(self, n: int, generator: Generator) -> DataSet:
        """Return n random points, different ones of a finite domain."""
        if isinstance(self.domain, Sphere):
            points = self.domain.sample(n, generator=generator)
            values = [self.domain.eigenfunction(degree, points) for degree in self.degrees]
            cosines = (points @ points.T / self.domain.radius**2).clamp(-1, 1)
            return DataSet(
                points,
                torch.stack(values, dim=1),
                KERNEL.block(points, points),
                self._squared_kernel(cosines),
            )
        rows = torch.randperm(self.domain.count, generator=generator)[:n]
        cross = self._gram[:, rows]
        return DataSet(
            self.domain.points[rows], self.functions[rows], cross[rows], cross.T @ cross / self.domain.count
        )

    @cached_property
    def _gram(self) -> Float64[Tensor, "m m"]:
        assert not isinstance(self.domain, Sphere)
        return KERNEL.block(self.domain.points, self.domain.points)

    @cached_property
    def functions(self) -> Float64[Tensor, "m degrees"]:
        """Return an eigenfunction of each degree at all points of a finite domain."""
        assert not isinstance(self.domain, Sphere)
        first = [self.domain.eigenfunctions(degree)[:, 0] for degree in self.degrees]
        return torch.stack(first, dim=1)

    def _squared_kernel(self, cosines: Float64[Tensor, "n n"]) -> Float64[Tensor, "n n"]:
        """Return Σ m λ² Ĉ(cosine), which converges long before λ itself does."""
        assert isinstance(self.domain, Sphere)
        weights = (self.spectrum.multiplicities * self.spectrum.eigenvalues.square())[:SQUARED]
        polynomials = gegenbauer(len(weights) - 1, cosines.flatten(), inputs=self.domain.inputs)
        return (weights @ polynomials).view_as(cosines)


SETTINGS = (
    Setting("circle", Circle(256), (0, 2, 5, 10)),
    Setting("hypercube", Hypercube(8), (0, 1, 3, 8)),
    Setting("sphere", Sphere(8), (0, 1, 2, 3, 4)),
)


@dataclass(frozen=True, eq=False)
class KernelLearning:
    """Learnability and errors of kernel regression on one function of each degree, exact over the domain."""

    learnability: Float64[Tensor, " degrees"]
    test_error: Float64[Tensor, " degrees"]
    train_error: Float64[Tensor, " degrees"]


def kernel_learning(setting: Setting, sample: DataSet, *, ridge: float = 0.0) -> KernelLearning:
    """Return learnability and errors of kernel regression on one data set.

    ⟨φ, f̂⟩ = λ φ(D)·α of an eigenfunction, and ‖f̂‖² = αᵀ K²(D, D) α: no test points are drawn.
    """
    dual = factor_cholesky(sample.gram, ridge=ridge).solve(sample.functions)  # (n, degrees)
    share = setting.eigenvalues * (sample.functions * dual).sum(0)
    size = (dual * (sample.squared @ dual)).sum(0)
    return KernelLearning(share, 1 - 2 * share + size, (ridge * dual).square().mean(0))
