"""Comparison of a network and its linearisation after the same training.

Both are evaluated at steps of the network, the linearisation by its closed form. Kernels are compared as they
are, and with equal weight for each mode learned so far:

    ‖M^(-1/2) (K_t − K_0) M^(-1/2)‖_F / ‖M^(-1/2) K_0 M^(-1/2)‖_F,        M = K_0 + λ + 1/t

which is ‖K_t − K_0‖_F / ‖K_0‖_F at first, when no mode is learned, for t far below 1/s_max.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn

from leftout.data.examples import Examples
from leftout.diagnostics.linearity.linearisation_gap import rms, safe_ratio
from leftout.dynamics.descend_module import ModuleObjective
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.path import path_of
from leftout.dynamics.rules import GradientDescent, GradientFlow
from leftout.dynamics.train import predictions
from leftout.kernels.assemble import gram
from leftout.kernels.network.empirical import Empirical
from leftout.solvers.spectrum import spectrum_of


@dataclass(frozen=True)
class Snapshot:
    """Network and linearised network after the same training.

    Attributes:
        step, time: of the network; time in the units of the rule.
        gap, gap_train: root mean square of network minus linearised, over queries or training examples
            and outputs.
        moved, moved_train: the same of linearised minus f_0.
        weights: ‖w_t − w_0‖ / ‖w_0‖.
        kernel: ‖K_t − K_0‖_F / ‖K_0‖_F, on the sample.
        growth: s_max of K_t over that of K_0, on the sample: the factor by which the critical rate has
            fallen.
        kernel_learned: the relative change of M^(-1/2) K M^(-1/2), see above.
        loss, loss_linearised: ½ Σ (f − y)² over the training examples.
        step_error: root mean square over training examples of the linearised network by steps minus its
            closed form; 0 under descent, whose closed form has the same steps.
    """

    step: int
    time: float
    gap: float
    gap_train: float
    moved: float
    moved_train: float
    weights: float
    kernel: float
    growth: float
    kernel_learned: float
    loss: float
    loss_linearised: float
    step_error: float


class TrainingMonitor:
    """A network in training, compared with its linearisation.

    Args:
        fitted: the linearised network, of an Empirical kernel, under descent or flow.
        sample, seed: number of training examples that the kernel is compared on, and the seed that draws
            them.
    """

    def __init__(self, fitted: Fitted, query: Examples, sample: int, seed: int) -> None:
        kernel, train = fitted.kernel, fitted.train
        assert isinstance(kernel, Empirical)
        assert isinstance(fitted.rule, GradientDescent | GradientFlow)
        self.fitted, self.query = fitted, query
        self.rule = fitted.rule
        self.objective = ModuleObjective(
            kernel.module,
            train.inputs,
            train.targets,
            fitted.rule.effective_ridge(len(train)),
            start=None,
            memory=fitted.memory,
        )
        values = fitted.spectrum.values.to(self.objective.initial.device)
        self.path = path_of(self.rule, self.objective, values)
        self.rows = _sample(len(train), sample, seed)
        rows = fitted.rows.of_examples(self.rows.to(fitted.device))
        self.kernel = fitted.gram[rows][:, rows]
        self.modes = spectrum_of(self.kernel, made_in=fitted.kernel_dtype)
        self.cross = fitted.cross(query.inputs)
        self.start = fitted.initial(query.inputs)
        self.start_train = fitted.initial(train.inputs)
        self.weights_norm = float(self.objective.initial.double().norm())

    def snapshot(self, step: int) -> Snapshot:
        """Return the comparison at the present weights of the network."""
        fitted, objective, time = self.fitted, self.objective, self.path.time
        fitted.check_trainable([time], total=len(fitted))
        dual = fitted.dual(time)
        moved = fitted.by_example(self.cross @ dual)
        moved_train = fitted.by_example(fitted.gram @ dual)
        module = objective.trained_module()
        f_t = predictions(module, self.query.inputs, outputs=fitted.outputs, memory=fitted.memory).to(moved)
        now = self._kernel_now(module)
        change = now - self.kernel
        targets = fitted.train.targets.to(moved)
        residual = objective.residual.to(moved)
        linearised = self.start_train + moved_train - targets
        return Snapshot(
            step=step,
            time=time,
            gap=rms(f_t - self.start - moved),
            gap_train=rms(residual - linearised),
            moved=rms(moved),
            moved_train=rms(moved_train),
            weights=safe_ratio(float(objective.point.double().norm()), self.weights_norm),
            kernel=safe_ratio(float(change.norm()), float(self.kernel.norm())),
            growth=safe_ratio(float(torch.linalg.eigvalsh(now)[-1]), self.modes.largest),
            kernel_learned=self._change_in_learned_modes(change, time),
            loss=float(residual.square().sum()) / 2,
            loss_linearised=float(linearised.square().sum()) / 2,
            step_error=self._step_error(moved_train),
        )

    def _kernel_now(self, module: nn.Module) -> Float64[Tensor, "r r"]:
        fitted = self.fitted
        points = fitted.train.inputs[self.rows.to(fitted.train.inputs.device)]
        return gram(Empirical(module, weights="initial"), points, device=fitted.device, memory=fitted.memory)

    def _change_in_learned_modes(self, change: Float64[Tensor, "r r"], time: float) -> float:
        """Return the relative change of the kernel, with equal weight for each learned mode."""
        n = len(self.fitted)
        effective_time = self.rule.effective_time(time, n)
        if effective_time == 0:
            return 0.0
        # Eigenvalues of the sample are those of all examples times the sample's share.
        floor = (self.rule.effective_ridge(n) + 1 / effective_time) * len(self.rows) / n
        values = self.modes.values.clamp(min=0)
        white = self.modes.vectors / (values + floor).sqrt()
        before = (values / (values + floor)).norm()
        return safe_ratio(float((white.T @ change @ white).norm()), float(before))

    def _step_error(self, moved: Float64[Tensor, "n k"]) -> float:
        """Return the root mean square of the linearised network by steps minus its closed form."""
        if isinstance(self.rule, GradientDescent):
            return 0.0
        spectrum, fitted = self.fitted.spectrum, self.fitted
        sigma, values = self.path.values.to(fitted.device), spectrum.values
        learned = torch.where(sigma > 0, values / sigma * (1 - self.path.left.to(sigma)), 0.0)
        stepped = spectrum.vectors @ (learned[:, None] * spectrum.coordinates(fitted.residual))
        return rms(fitted.by_example(stepped) - moved)


def _sample(n: int, count: int, seed: int) -> Int64[Tensor, " s"]:
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed), device="cpu")
    return order[:count].sort().values
