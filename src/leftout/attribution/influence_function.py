"""What does the classical influence function say of a network as it was trained?

    influence(x, i) = −d/dω ½ |f(x) − y|²  at ω = 1 = ∇L(x)ᵀ C⁻¹ d_i        positive = i helped

with ω the weight of example i in the training loss, L(x) the query loss, C the curvature of the
objective and d_i what more of example i pulls at the weights, g_i = ∇ ½ |f(x_i) − y_i|²:

    loss="sum"     C = Σ_j ∇²ℓ_j + λI,     d_i = g_i
    loss="mean"    C = Σ_j ∇²ℓ_j + nλI,    d_i = g_i + λ (w − w_0) = g_i − (1/n) Σ_j g_j at a minimum

C x = ∇L is solved once a query, by products; then g_i · x = (f_i − y_i) · (J_i x) for every i is one
push forward. As the width grows it tends to `first_order`. It means what it says at a minimum only.
"""

import json
import math
import warnings
from dataclasses import replace

import torch
import xarray as xr
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.attribution.edits import Rows
from leftout.attribution.engine.labelled_result import SIGN, labelled_array, network_attributes
from leftout.attribution.engine.query_blocks import queries_like
from leftout.core.blocks import blocks, check_fits, memory_budget
from leftout.core.checks import check_at_least, check_choice, check_index, check_kind, row_numbers
from leftout.core.errors import NotConvergedWarning, OptionError
from leftout.core.module_call import with_gradients
from leftout.core.modules import flatten_parameters, parameters_of
from leftout.core.progress import with_progress
from leftout.data.examples import Examples
from leftout.data.pairs import Data
from leftout.dynamics.curvature import KINDS, Curvature, Kind
from leftout.dynamics.train import Trained
from leftout.solvers.conjugate_gradients import ConjugateGradients
from leftout.solvers.solution import Solution, Solver, Status, join_solutions

HELD = 12
"""Vectors of p numbers held for each query: its gradient, what a solver keeps, and products."""


@with_gradients
def influence_function(
    trained: Trained,
    query: Data,
    index: Rows | None = None,
    *,
    solver: Solver | None = None,
    curvature: Kind = "hessian",
    damping: float = 0.0,
    memory: int | float | str | None = None,
) -> xr.DataArray:
    """Return the classical influence of training examples on every query, of a finite network.

    Args:
        trained: from `train`.
        query: Examples, or a pair (inputs, targets) like the training data.
        index: row numbers of the training examples to report; all if not said.
        solver: ConjugateGradients() if not said, LiSSA() or Exact().
        curvature: "hessian", or "ggn" for the generalised Gauss-Newton matrix, which is positive
            semi-definite at any weights.
        damping: added to the ridge in the curvature alone, in the same units.
        memory: budget, in bytes or as "4GB"; 60 % of what is free if not said.

    Returns:
        A DataArray (query, train) with how the solve of each query ended on its axis: `residual`,
        relative and true, `steps`, and `status`, a sentence.

    Raises:
        OptionError: no network or no solver; an unknown curvature, a row number out of range.
        MemoryBudgetError: the result, a query, or the matrix of Exact() would not fit.

    Warns:
        NotConvergedWarning: the network was not trained to its tolerance, or a solve did not reach
            that of the solver: the numbers are there all the same.

    Cost:
        as many curvature products as the solver takes, each of about four evaluations of the network
        on all training examples a query; and one for the result.

    Accuracy:
        relative error of a query about cond(C) times its `residual`; weights that are short of the
        minimum by a relative gradient ε move it by as much. Minima of ReLU networks lie at kinks; the
        curvature is that of the piece the weights are in, which the limit of infinite width forgives.

    Example:
        >>> import leftout as lo, torch
        >>> train, query = lo.load("digits", n_train=20, n_query=5, classes=[3, 8])
        >>> generator = torch.Generator().manual_seed(0)
        >>> network = lo.TwoLayerNetwork(200, 64, generator=generator)
        >>> trained = lo.train(network, train, rule=lo.Ridge(1.0), tolerance=1e-4)
        >>> lo.influence_function(trained, query).dims
        ('query', 'train')

    Source:
        Rethinking influence functions, eq. 12; Koh & Liang 2017; "mean" is ours.
    """
    check_kind("trained", trained, Trained, what="a trained network, from `train`")
    check_choice("curvature", curvature, KINDS)
    check_at_least("damping", damping, 0)
    examples = queries_like(trained.train, query)
    rows = _rows(trained, index)
    solver = ConjugateGradients() if solver is None else solver
    check_kind("solver", solver, Solver, what="ConjugateGradients(), LiSSA(), Exact() or None")
    trained.check_converged()
    scores, solution = _influence(
        trained, examples, rows, solver, kind=curvature, damping=damping, memory=memory
    )
    if any(status is not Status.SOLVED for status in solution.status):
        warnings.warn(
            f"Not every query has the influence that was asked for: {solution.advice}",
            NotConvergedWarning,
            stacklevel=2,
        )
    ids = trained.train.ids
    influence = labelled_array(
        scores.cpu().numpy()[None],
        times=[math.inf],
        scalar=True,
        coordinates={"query": examples.ids, "train": [ids[i] for i in rows.tolist()]},
        attrs=network_attributes(
            trained,
            examples,
            of="loss",
            method="influence_function",
            sign=SIGN["loss"],
            solver=json.dumps(solver.record),
            curvature=curvature,
            damping=float(damping),
        ),
        name="influence",
    )
    return influence.assign_coords(
        residual=("query", solution.residual.cpu().numpy()),
        steps=("query", solution.steps.cpu().numpy()),
        status=("query", [str(status) for status in solution.status]),
    )


def _influence(
    trained: Trained,
    query: Examples,
    rows: Int64[Tensor, " r"],
    solver: Solver,
    *,
    kind: Kind,
    damping: float,
    memory: int | float | str | None,
) -> tuple[Float64[Tensor, "m r"], Solution]:
    """Return the influence of some training examples, and how the solves ended, without values."""
    rule, n = trained.rule, len(trained.train)
    budget = memory_budget(memory, device=_device(trained))
    # Ridge and damping enter the sum alike: under "mean" the objective is that, over n.
    shift = rule.effective_ridge(n) + damping * (n if rule.loss == "mean" else 1)
    matrix = Curvature(trained.module, trained.train, kind=kind, shift=shift, memory=budget // 4)
    size = _queries_at_a_time(matrix.side, len(query), len(rows), budget)
    ask = solver.prepare(matrix, matrix.side, device=matrix.device, examples=n, memory=budget // 2)
    pull = _pull(trained, matrix)
    scores, solutions = [], []
    query_rows = list(blocks(len(query), size))
    for block in with_progress(query_rows, what="influence function"):
        solution = ask(matrix.gradients(query.inputs[block], query.targets[block]))
        scores.append(matrix.slopes(solution.value, rows) + (pull @ solution.value)[:, None])
        solutions.append(replace(solution, value=solution.value[:0]))
    return torch.cat(scores), join_solutions(solutions)


def _pull(trained: Trained, matrix: Curvature) -> Float64[Tensor, " p"]:
    """Return what d_i has besides g_i: under "mean", more of one example is less of the ridge."""
    if trained.rule.loss == "sum":
        return torch.zeros(matrix.side, dtype=torch.float64, device=matrix.device)
    now, then = (
        flatten_parameters(parameters_of(trained.module)),
        flatten_parameters(parameters_of(trained.initial)),
    )
    return trained.rule.ridge_number * (now.double() - then.to(now.device).double())


def _queries_at_a_time(side: int, queries: int, rows: int, budget: int) -> int:
    """Return how many queries are solved together, once it is sure that one fits."""
    check_fits(
        f"The result ({queries} × {rows})",
        8 * queries * rows,
        budget,
        advice="Ask for fewer queries, or for some training examples with `index`.",
    )
    check_fits(
        f"A query of a network of {side} parameters",
        HELD * 8 * side,
        budget,
        advice="Raise `memory`, or ask a smaller network.",
    )
    return max(1, min(queries, budget // 4 // (HELD * 8 * side)))


def _rows(trained: Trained, index: Rows | None) -> Int64[Tensor, " r"]:
    n = len(trained.train)
    rows = list(range(n)) if index is None else row_numbers("index", index)
    if not rows:
        raise OptionError("`index` must name at least one training example; got none.")
    for row in rows:
        check_index("index", row, n)
    return torch.tensor(rows, dtype=torch.long, device="cpu")


def _device(trained: Trained) -> torch.device:
    return next(iter(parameters_of(trained.module).values())).device
