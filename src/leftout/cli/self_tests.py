"""Self-tests of an installation, about a minute: each gives a number and the largest that is allowed.

They exercise what differs from one machine to the next (the linear algebra that torch was built with, the
file system, the device) and the main promise: the effect of leaving an example out equals that of a model
fitted without it, which is computed here from the definition by other means.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.certify import certify
from leftout.attribution.leave_one_out import leave_one_out
from leftout.audit.audit import Audit, audit
from leftout.audit.run_folder import open as open_run
from leftout.core.version import __version__
from leftout.data.examples import Examples
from leftout.data.load import load
from leftout.dynamics.fit import fit
from leftout.dynamics.rules import GradientDescent, GradientFlow, Ridge, Rule
from leftout.kernels import assemble
from leftout.kernels.convolution.convolutional import ConvReLU
from leftout.kernels.fused.library import available_sets, use_code
from leftout.kernels.wide.relu import ReLU
from leftout.kernels.wide.two_layer_relu import TwoLayerReLU
from leftout.report.report import LIMIT, html
from leftout.report.wording import SIGN_RULE
from leftout.solvers.cholesky import factor_cholesky
from leftout.solvers.quadrature import NODES, WINDOW, flow_quadrature
from leftout.solvers.spectrum import spectrum_of
from leftout.storage.json_file import read_json, write_json

EPS = torch.finfo(torch.float64).eps
KERNEL = TwoLayerReLU()

EXAMPLES, QUERIES = 600, 200
"""Of digits: enough for an accuracy that means something."""

LEFT_OUT = 40
"""Training examples that are all left out, one after the other, by fitting again."""

SMALLEST_ACCURACY = 0.96
"""600 examples give 0.99 on the queries; four standard errors, √(0.99 · 0.01 / 200) each, below that."""

RULES: dict[str, tuple[Rule, float | None]] = {
    "ridge": (Ridge(0.1), None),
    "ridge, mean loss": (Ridge(0.01, "mean"), None),
    "flow": (GradientFlow(1.0), 5.0),
    "flow, mean loss": (GradientFlow(1.0, 0.001, "mean"), 200.0),
    "descent, 7 steps": (GradientDescent(0.1), 7),
    "descent": (GradientDescent(0.1), 151),
    "descent, mean loss": (GradientDescent(4.0, 0.001, "mean"), 150),
}
"""With s_max = 10 for `LEFT_OUT` digits: from little learned to nearly all, few steps and many."""


@dataclass(frozen=True)
class SelfTest:
    """The number that a self-test measured, and the largest that a sound installation gives."""

    name: str
    measured: float
    allowed: float

    @property
    def sound(self) -> bool:
        """Return whether the number is allowed; NaN is not."""
        return self.measured <= self.allowed


def run_self_tests() -> list[SelfTest]:
    """Return the result of every self-test.

    A test that raises is not sound: its number is NaN, and its name says what was raised.

    Cost:
        ten seconds, less than a minute on a slow machine.
    """
    tests = []
    for name, run in TESTS.items():
        try:
            for test in run():  # one by one: those before the error count
                tests.append(test)
        except Exception as error:  # whatever a broken installation raises
            tests.append(SelfTest(f"{name}: {type(error).__name__}: {error}", float("nan"), 0.0))
    return tests


def _linear_algebra() -> Iterator[SelfTest]:
    """Yield backward errors, relative, of what torch was built with."""
    gram = assemble.gram(KERNEL, _digits()[0].inputs)
    n = len(gram)
    lower = factor_cholesky(gram, ridge=0.1).lower
    shifted = gram + 0.1 * torch.eye(n, dtype=torch.float64, device="cpu")
    # |LLᵀ − A| ≤ (n + 1)·eps |L||Lᵀ| entry by entry (Higham, theorem 10.3), and ‖ |L||Lᵀ| ‖ ≤ tr A.
    off = (lower @ lower.T - shifted).norm() / shifted.diagonal().sum()
    yield SelfTest("Cholesky: LLᵀ against K + λI", float(off), (n + 1) * EPS)
    # LAPACK: ‖K − V diag(s) Vᵀ‖ ≤ p(n)·eps·‖K‖ with p of modest growth; p = n is generous.
    spectrum = spectrum_of(gram)
    again = spectrum.vectors @ (spectrum.values[:, None] * spectrum.vectors.T)
    off = torch.linalg.matrix_norm(again - gram, 2) / spectrum.largest
    yield SelfTest("eigendecomposition: V diag(s) Vᵀ against K", float(off), n * EPS)
    off = (
        (spectrum.vectors.T @ spectrum.vectors - torch.eye(n, dtype=torch.float64, device="cpu")).abs().max()
    )
    yield SelfTest("eigenvectors: VᵀV against I", float(off), n * EPS)


def _kernels() -> Iterator[SelfTest]:
    """Yield errors of kernels where an arccos would lose half of the digits."""
    points = _digits()[0].inputs.flatten(1)[:LEFT_OUT]
    for kernel, roundings in ((KERNEL, 4), (ReLU(3), 16)):
        # The accuracy that the kernels state for equal inputs: 4ε, and 4 (depth + 1) ε.
        diagonal = kernel.diagonal(points)
        off = (kernel.block(points, points).diagonal() - diagonal).abs() / diagonal
        name = f"kernel {kernel.record['name']}: k(x, x)"
        yield SelfTest(name, float(off.max()), roundings * EPS)
    angle = torch.logspace(-12, -2, 21, dtype=torch.float64, device="cpu")
    turned = torch.stack([angle.cos(), angle.sin()], dim=1)
    first = torch.tensor([[1.0, 0.0]], dtype=torch.float64, device="cpu")
    exact = angle.cos() * (torch.pi - angle) / (2 * torch.pi)
    off = (KERNEL.block(first, turned)[0] - exact).abs().max()
    # Stated: 4ε; as much again for the two rows and the formula here, all rounded.
    yield SelfTest("kernel of nearly equal inputs", float(off), 8 * EPS)


def _compiled_kernels() -> Iterator[SelfTest]:
    """Yield differences of compiled kernels from those that torch computes, relative to the largest value."""
    points = _digits()[0].inputs.flatten(1)[:LEFT_OUT].sub(0.1)
    images = points.reshape(-1, 8, 8)
    kernels = {
        "relu": (ReLU(3, bias_variance=0.1), points),
        "conv-relu": (ConvReLU(3, stride=(1, 2, 1), pooling="mean", bias_variance=0.1), images),
    }
    for name, (kernel, inputs) in kernels.items():
        with use_code("torch"):
            expected = kernel.block(inputs, inputs)
        for code in available_sets():
            with use_code(code):
                off = (kernel.block(inputs, inputs) - expected).abs().max() / expected.abs().max()
            # Either is right to (depth + 1) · 20ε.
            yield SelfTest(f"kernel {name}: C ({code}) against torch", float(off), 2 * 4 * 20 * EPS)


def _quadrature() -> Iterator[SelfTest]:
    """Yield the error of the nodes, relative to what they stand for."""
    times = [1.0, 2.0, 5.0, WINDOW]
    s = torch.logspace(-8, 8, 400, dtype=torch.float64, device="cpu")
    exact = torch.stack([GradientFlow(1.0).filter(time, 1)(s) for time in times])
    off = (flow_quadrature(times, ridge=0.0)(s) - exact).abs() / exact
    # Stated: 3e-14; and a few roundings for each of the terms that are added up.
    yield SelfTest("quadrature of gradient flow", float(off.max()), 3e-14 + 4 * NODES * EPS)


def _leave_one_out() -> Iterator[SelfTest]:
    """Yield the largest difference from fitting again, over all examples and queries."""
    train, query = (examples.select(range(LEFT_OUT)) for examples in _digits())
    for name, (rule, at) in RULES.items():
        fitted = fit(KERNEL, train, rule=rule)
        effects = leave_one_out(fitted, query, at=at, of="prediction").values
        cross = fitted.cross(query.inputs)
        with_all = cross @ _dual(fitted.gram, fitted.residual, rule, at)
        changes = []
        for row in range(LEFT_OUT):
            keep = torch.arange(LEFT_OUT, device="cpu") != row
            dual = _dual(fitted.gram[keep][:, keep], fitted.residual[keep], rule, at)
            changes.append(with_all - cross[:, keep] @ dual)
        off = np.abs(effects - torch.stack(changes, dim=1).numpy()).max()
        bound = certify(fitted, query, at=at, refit_examples=0)
        # Proved for the quadrature; rounding is estimated, once for the engine, once for refits.
        yield SelfTest(f"leave-one-out, {name}", float(off), bound.quadrature + 2 * bound.rounding)


def _dual(
    gram: Float64[Tensor, "n n"], residual: Float64[Tensor, "n k"], rule: Rule, at: float | None
) -> Float64[Tensor, "n k"]:
    """Return the dual of a model from its definition: a solve, an exponential, or step by step."""
    n, k = residual.shape
    total = n if rule.record["loss"] == "mean" else 1
    ridge, rate = rule.record["ridge"] * total, rule.record.get("rate", 1.0) / total
    system = gram + ridge * torch.eye(n, dtype=torch.float64, device="cpu")
    if at is None:
        solved: Tensor = torch.linalg.solve(system, residual)
        return solved
    if isinstance(rule, GradientFlow):
        # u' = rate (r − (K + λI) u), with the drive as k more variables that stay constant.
        flow = torch.zeros(n + k, n + k, dtype=torch.float64, device="cpu")
        flow[:n, :n], flow[:n, n:] = -system, residual
        reached: Tensor = torch.linalg.matrix_exp(rate * at * flow)
        return reached[:n, n:]
    dual = torch.zeros_like(residual)
    for _ in range(int(at)):
        dual = dual + rate * (residual - system @ dual)
    return dual


def _audit() -> Iterator[SelfTest]:
    """Yield numbers of an audit that is made twice, in memory and in a folder."""
    train, query = _digits()
    in_memory = _audit_digits(train, query).findings
    last = in_memory.at_last_time
    assert last.query_accuracy is not None
    yield SelfTest("digits: share of wrong answers", 1 - last.query_accuracy, 1 - SMALLEST_ACCURACY)
    certificate = in_memory.certificate
    off = max(abs(example.engine - example.refit) for example in certificate.refits)
    # As above; but these refits are by Lanczos, on the whole data set.
    yield SelfTest("digits: difference from refits", off, certificate.quadrature + 2 * certificate.rounding)
    with tempfile.TemporaryDirectory() as name:
        run = Path(name) / "run"
        in_folder = _audit_digits(train, query, out=run).findings
        saved = open_run(run)
        off = np.abs(saved.scores.values - in_memory.scores.values).max()
        yield SelfTest("the same audit again, from its folder", float(off), 0.0)
        faults = [path.name for path in Path(name).rglob("*.part")]
        faults += [] if saved.record["leftout"] == __version__ else ["version"]
        doubted = int(saved.suspects["is_label_issue"].sum())
        faults += [] if doubted == len(in_folder.suspects) else ["suspects"]
        yield SelfTest("folder: what is missing or half-written", float(len(faults)), 0.0)
        write_json(run / "again.json", saved.record)
        differing = read_json(run / "again.json") != saved.record
        yield SelfTest("record: written and read", float(differing), 0.0)
    page = html(in_memory)
    missing = [text for text in (SIGN_RULE, "</html>", train.ids[0][:6]) if text not in page]
    yield SelfTest("report: parts that are missing", float(len(missing)), 0.0)
    yield SelfTest("report: bytes", float(len(page.encode())), float(LIMIT))


def _devices() -> Iterator[SelfTest]:
    """Yield the difference of a GPU from the CPU, where there is one."""
    if not torch.cuda.is_available():
        return
    train, query = _digits()
    for name, rule, at in (("end", Ridge(0.1), None), ("finite time", GradientFlow(1.0), 10.0)):
        here = fit(KERNEL, train, rule=rule, device="cpu")
        there = fit(KERNEL, train, rule=rule, device="cuda")
        ours = leave_one_out(here, query, at=at, of="prediction").values
        theirs = leave_one_out(there, query, at=at, of="prediction").values
        bound = certify(here, query, at=at, refit_examples=0)
        allowed = 2 * (bound.quadrature + bound.rounding)
        yield SelfTest(f"GPU against CPU, {name}", float(np.abs(ours - theirs).max()), allowed)


def _digits() -> tuple[Examples, Examples]:
    return load("digits", n_train=EXAMPLES, n_query=QUERIES)


def _audit_digits(train: Examples, query: Examples, *, out: Path | None = None) -> Audit:
    return audit(KERNEL, train, query, rule=GradientFlow(1.0), at=[1.0, 100.0], out=out)


TESTS: dict[str, Callable[[], Iterator[SelfTest]]] = {
    "linear algebra": _linear_algebra,
    "kernels": _kernels,
    "compiled kernels": _compiled_kernels,
    "quadrature": _quadrature,
    "leave-one-out": _leave_one_out,
    "audit": _audit,
    "GPU": _devices,
}
