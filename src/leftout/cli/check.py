"""Is this installation sound? A minute of self-tests, each a number and what it may be at most.

They meet what differs from one machine to the next - the linear algebra that torch was built with, the
file system, the device - and the promise itself: what the engine says of an example that is left out is
what a model fitted without it says, computed here from the definition by other means.
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

FEW = 40
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
"""With s_max = 10 for `FEW` digits: from little learned to nearly all, few steps and many."""


@dataclass(frozen=True)
class Result:
    """A number, and the largest that a sound installation gives."""

    name: str
    found: float
    allowed: float

    @property
    def sound(self) -> bool:
        """Return whether the number is allowed; NaN is not."""
        return self.found <= self.allowed


def check() -> list[Result]:
    """Return what every self-test found.

    A test that raises is not sound: it found NaN, and its name says what was raised.

    Cost:
        ten seconds, less than a minute on a slow machine.
    """
    results = []
    for name, test in TESTS.items():
        try:
            for result in test():  # one by one: what was found before it raised counts
                results.append(result)
        except Exception as error:  # whatever a broken installation raises is what was found
            results.append(Result(f"{name}: {type(error).__name__}: {error}", float("nan"), 0.0))
    return results


def _linear_algebra() -> Iterator[Result]:
    """Yield backward errors, relative, of what torch was built with."""
    gram = assemble.gram(KERNEL, _digits()[0].inputs)
    n = len(gram)
    lower = factor_cholesky(gram, ridge=0.1).lower
    shifted = gram + 0.1 * torch.eye(n, dtype=torch.float64)
    # |LLᵀ − A| ≤ (n + 1)·eps |L||Lᵀ| entry by entry (Higham, theorem 10.3), and ‖ |L||Lᵀ| ‖ ≤ tr A.
    off = (lower @ lower.T - shifted).norm() / shifted.diagonal().sum()
    yield Result("Cholesky: LLᵀ against K + λI", float(off), (n + 1) * EPS)
    # LAPACK: ‖K − V diag(s) Vᵀ‖ ≤ p(n)·eps·‖K‖ with p of modest growth; p = n is generous.
    spectrum = spectrum_of(gram)
    again = spectrum.vectors @ (spectrum.values[:, None] * spectrum.vectors.T)
    off = torch.linalg.matrix_norm(again - gram, 2) / spectrum.largest
    yield Result("eigendecomposition: V diag(s) Vᵀ against K", float(off), n * EPS)
    off = (spectrum.vectors.T @ spectrum.vectors - torch.eye(n, dtype=torch.float64)).abs().max()
    yield Result("eigenvectors: VᵀV against I", float(off), n * EPS)


def _kernels() -> Iterator[Result]:
    """Yield errors of kernels where an arccos would lose half of the digits."""
    points = _digits()[0].inputs.flatten(1)[:FEW]
    for kernel, roundings in ((KERNEL, 4), (ReLU(3), 16)):
        # The accuracy that the kernels state for equal inputs: 4ε, and 4 (depth + 1) ε.
        diagonal = kernel.diagonal(points)
        off = (kernel.block(points, points).diagonal() - diagonal).abs() / diagonal
        name = f"kernel {kernel.record['name']}: k(x, x)"
        yield Result(name, float(off.max()), roundings * EPS)
    angle = torch.logspace(-12, -2, 21, dtype=torch.float64)
    turned = torch.stack([angle.cos(), angle.sin()], dim=1)
    first = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    exact = angle.cos() * (torch.pi - angle) / (2 * torch.pi)
    off = (KERNEL.block(first, turned)[0] - exact).abs().max()
    # Stated: 4ε; as much again for the two rows and the formula here, all rounded.
    yield Result("kernel of nearly equal inputs", float(off), 8 * EPS)


def _quadrature() -> Iterator[Result]:
    """Yield the error of the nodes, relative to what they stand for."""
    pace = [1.0, 2.0, 5.0, WINDOW]
    s = torch.logspace(-8, 8, 400, dtype=torch.float64)
    exact = torch.stack([GradientFlow(1.0).filter(one, 1)(s) for one in pace])
    off = (flow_quadrature(pace, ridge=0.0)(s) - exact).abs() / exact
    # Stated: 3e-14; and a few roundings for each of the terms that are added up.
    yield Result("quadrature of gradient flow", float(off.max()), 3e-14 + 4 * NODES * EPS)


def _leave_one_out() -> Iterator[Result]:
    """Yield the largest difference from fitting again, over all examples and queries."""
    train, query = (part.select(range(FEW)) for part in _digits())
    for name, (rule, at) in RULES.items():
        fitted = fit(KERNEL, train, rule=rule)
        found = leave_one_out(fitted, query, at=at, of="prediction").values
        cross = fitted.cross(query.inputs)
        whole = cross @ _dual(fitted.gram, fitted.residual, rule, at)
        changes = []
        for row in range(FEW):
            keep = torch.arange(FEW) != row
            dual = _dual(fitted.gram[keep][:, keep], fitted.residual[keep], rule, at)
            changes.append(whole - cross[:, keep] @ dual)
        off = np.abs(found - torch.stack(changes, dim=1).numpy()).max()
        bound = certify(fitted, query, at=at, refits=0)
        # Proved for the quadrature; rounding is estimated, once for the engine, once for refits.
        yield Result(f"leave-one-out, {name}", float(off), bound.quadrature + 2 * bound.rounding)


def _dual(
    gram: Float64[Tensor, "n n"], residual: Float64[Tensor, "n k"], rule: Rule, at: float | None
) -> Float64[Tensor, "n k"]:
    """Return the dual of a model from its definition: a solve, an exponential, or step by step."""
    n, k = residual.shape
    total = n if rule.record["loss"] == "mean" else 1
    ridge, rate = rule.record["ridge"] * total, rule.record.get("rate", 1.0) / total
    system = gram + ridge * torch.eye(n, dtype=torch.float64)
    if at is None:
        solved: Tensor = torch.linalg.solve(system, residual)
        return solved
    if isinstance(rule, GradientFlow):
        # u' = rate (r − (K + λI) u), with the drive as k more variables that stay constant.
        flow = torch.zeros(n + k, n + k, dtype=torch.float64)
        flow[:n, :n], flow[:n, n:] = -system, residual
        reached: Tensor = torch.linalg.matrix_exp(rate * at * flow)
        return reached[:n, n:]
    dual = torch.zeros_like(residual)
    for _ in range(int(at)):
        dual = dual + rate * (residual - system @ dual)
    return dual


def _audit() -> Iterator[Result]:
    """Yield what a whole audit finds, twice, in memory and in a folder."""
    train, query = _digits()
    once = _audited(train, query)
    moment = once.findings.at_last_time
    assert moment.query_accuracy is not None
    yield Result("digits: share of wrong answers", 1 - moment.query_accuracy, 1 - SMALLEST_ACCURACY)
    evidence = once.findings.certificate
    off = max(abs(one.engine - one.refit) for one in evidence.refits)
    # As above; but these refits are by Lanczos, on the whole data set.
    yield Result("digits: difference from refits", off, evidence.quadrature + 2 * evidence.rounding)
    scores = once.findings.scores.values
    with tempfile.TemporaryDirectory() as name:
        run = Path(name) / "run"
        again = _audited(train, query, out=run)
        read = open_run(run)
        off = np.abs(read.scores.values - scores).max()
        yield Result("the same audit again, from its folder", float(off), 0.0)
        left = [path.name for path in Path(name).rglob("*.part")]
        left += [] if read.record["leftout"] == __version__ else ["version"]
        left += [] if len(read.suspects) == len(again.findings.suspects) else ["suspects"]
        yield Result("folder: what is missing or half-written", float(len(left)), 0.0)
        write_json(run / "again.json", read.record)
        differing = read_json(run / "again.json") != read.record
        yield Result("record: written and read", float(differing), 0.0)
    page = html(once.findings)
    lost = [text for text in (SIGN_RULE, "</html>", train.ids[0][:6]) if text not in page]
    yield Result("report: parts that are missing", float(len(lost)), 0.0)
    yield Result("report: bytes", float(len(page.encode())), float(LIMIT))


def _devices() -> Iterator[Result]:
    """Yield the difference of a GPU from the CPU, where there is one."""
    if not torch.cuda.is_available():
        return
    train, query = _digits()
    for name, rule, at in (("end", Ridge(0.1), None), ("finite time", GradientFlow(1.0), 10.0)):
        here = fit(KERNEL, train, rule=rule, device="cpu")
        there = fit(KERNEL, train, rule=rule, device="cuda")
        ours = leave_one_out(here, query, at=at, of="prediction").values
        theirs = leave_one_out(there, query, at=at, of="prediction").values
        bound = certify(here, query, at=at, refits=0)
        allowed = 2 * (bound.quadrature + bound.rounding)
        yield Result(f"GPU against CPU, {name}", float(np.abs(ours - theirs).max()), allowed)


def _digits() -> tuple[Examples, Examples]:
    return load("digits", n_train=EXAMPLES, n_query=QUERIES)


def _audited(train: Examples, query: Examples, *, out: Path | None = None) -> Audit:
    return audit(KERNEL, train, query, rule=GradientFlow(1.0), at=[1.0, 100.0], out=out)


TESTS: dict[str, Callable[[], Iterator[Result]]] = {
    "linear algebra": _linear_algebra,
    "kernels": _kernels,
    "quadrature": _quadrature,
    "leave-one-out": _leave_one_out,
    "audit": _audit,
    "GPU": _devices,
}
