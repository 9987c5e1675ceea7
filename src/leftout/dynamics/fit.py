"""The model that a kernel, training examples and a rule make: the Gram matrix now, all else when asked."""

import warnings
from dataclasses import replace
from typing import Any, Literal, overload

import torch
from torch import Tensor

from leftout.core.blocks import check_fits, memory_budget
from leftout.core.checks import check_choice, check_kind, is_real
from leftout.core.device import usable_device
from leftout.core.errors import ExpansionWarning, NotPositiveError, OptionError
from leftout.data.examples import Examples
from leftout.data.pairs import Data, examples_of
from leftout.dynamics.factorisations import identical_inputs_sentence
from leftout.dynamics.fit_features import ROOM, feature_count, feature_matrix, is_kept_as_features, row_count
from leftout.dynamics.fitted import Fitted, check_outputs
from leftout.dynamics.fitted_networks import FittedNetworks
from leftout.dynamics.kernel_advice import A_KERNEL, kernel_advice
from leftout.dynamics.kernel_rows import KernelRows
from leftout.dynamics.nystrom import Nystrom, nystrom_matrix
from leftout.dynamics.options import AUTO, SolverName
from leftout.dynamics.ridge_choice import best_ridge, check_choosable, is_auto
from leftout.dynamics.rules import Logistic, Ridge, Rule, SpectralRule
from leftout.dynamics.solver_choice import MATRICES, SOLVERS, choose_solver
from leftout.dynamics.weights_check import check_weights
from leftout.kernels import assemble
from leftout.kernels.base import Kernel
from leftout.kernels.evaluated_matrix import EvaluatedMatrix
from leftout.kernels.label_dependent import AnyKernel, FittedLabelKernel, LabelDependentKernel
from leftout.kernels.network.networks import NetworkKernels

SAMPLE = 4096
"""Examples from which a ridge is chosen where there is no spectrum of all of them."""

ROOM_OF_TILES = 4
"""Numbers of a matrix in tiles are made for other operations up to this part of the budget."""


@overload
def fit(
    kernel: AnyKernel,
    train: Data,
    *,
    rule: Rule | None = None,
    solver: SolverName | Literal["nystrom"] | Nystrom = "auto",
    tile_dtype: torch.dtype | None = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    memory: int | float | str | None = None,
) -> Fitted: ...


@overload
def fit(
    kernel: NetworkKernels,
    train: Data,
    *,
    rule: Rule | None = None,
    solver: SolverName | Literal["nystrom"] | Nystrom = "auto",
    tile_dtype: torch.dtype | None = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    memory: int | float | str | None = None,
) -> FittedNetworks: ...


def fit(
    kernel: AnyKernel | NetworkKernels,
    train: Data,
    *,
    rule: Rule | None = None,
    solver: SolverName | Literal["nystrom"] | Nystrom = "auto",
    tile_dtype: torch.dtype | None = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    memory: int | float | str | None = None,
) -> Fitted | FittedNetworks:
    """Return the model that `rule` makes of the kernel and the training examples.

    Args:
        kernel: which network, in its infinitely wide limit, or an `Empirical` one as it is. Its outputs
            are then in the units of the targets: those of a network trained on one-hot columns want
            data loaded with centre="none". One that sees labels, such as `LabelAware`, is fitted to
            those of the training examples first; NeuralTangentHierarchy warns (`ExpansionWarning`) where it
            is not to be relied on.
        train: Examples, a pair (inputs, targets) of arrays, or a Dataset. Whole-number targets of a
            pair are classes; others are taken as given.
        rule: how it was trained; Ridge(1.0) if not said. Losses are sums unless it says "mean". Of
            Ridge("auto") the ridge is chosen, and `fitted.ridge_choice` says from what.
        solver: "dense" keeps the kernel matrix, its factor and its inverse, 24n² bytes. "features" keeps the
            features of a kernel that is a product of such (`LinearFeatures`, a network's last layers, a
            projected Jacobian), exactly, in n d². "tiled" keeps one triangle of the inverse, and evaluates
            the kernel again when it is multiplied: Ridge with a ridge > 0, at the end of training, of a
            kernel with one value for each pair. "auto" takes features where 4d ≤ n, else is dense where that
            fits `memory`, else tiled. "nystrom", or lo.Nystrom(rank=…), sees the kernel from some of the
            examples: an approximation.
        tile_dtype: of the tiles: float64 takes 4n² bytes, float32 half of that and less time;
            solutions are refined in float64 either way. What fits, float64 first, if None.
        dtype: in which the kernel is evaluated; a dense one is kept, factored and inverted in float64.
        device: where everything is computed.
        memory: budget, in bytes or as "4GB"; 60 % of what is free if not said.

    Raises:
        LeftoutError: inputs that the kernel is not defined on, numbers that are not finite, or a
            Gram matrix that would not fit.

    Cost:
        the kernel, n² evaluations; factorisations come when something is asked.

    Example:
        >>> import leftout as lo
        >>> fitted = lo.fit(lo.kernels.ReLU(1), ([[1.0, 0.0], [0.6, 0.8]], [0.5, -0.5]), rule=lo.Ridge(0.1))
        >>> fitted.predict([[1.0, 0.0]]).shape
        torch.Size([1, 1])
    """
    if isinstance(kernel, NetworkKernels):
        check_rule(rule)
        same = examples_of(train, name="train")
        options: dict[str, Any] = {
            "rule": rule,
            "solver": solver,
            "tile_dtype": tile_dtype,
            "dtype": dtype,
            "device": device,
            "memory": memory,
        }
        return FittedNetworks(tuple(fit(member, same, **options) for member in kernel.kernels))
    check_kernel(kernel)
    check_rule(rule)
    rule = Ridge() if rule is None else rule
    check_choosable(kernel, rule)
    examples = coded_for(kernel, rule, examples_of(train, name="train"))
    if isinstance(kernel, Kernel):
        check_weights(kernel, examples, rule)
    return fit_kernel(
        kernel,
        examples,
        rule,
        solver=solver,
        tile_dtype=tile_dtype,
        dtype=dtype,
        device=device,
        memory=memory,
    )


def fit_kernel(
    kernel: AnyKernel,
    examples: Examples,
    rule: Rule,
    *,
    solver: SolverName | Literal["nystrom"] | Nystrom = "auto",
    tile_dtype: torch.dtype | None = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    memory: int | float | str | None = None,
) -> Fitted:
    """Return the model, whatever the weights of a network look like; arguments as `fit` checks them.

    Args:
        examples: as `coded_for` gives them.
    """
    where = usable_device(device) if device is not None else examples.inputs.device
    budget = memory_budget(memory, device=where)
    kernel = kernel.within(budget)
    check_solver(solver, kernel, examples.inputs)
    nystrom = Nystrom() if solver == "nystrom" else solver
    if isinstance(nystrom, Nystrom):
        near, of_features = nystrom_matrix(
            kernel, examples.inputs, nystrom, dtype=dtype, device=where, budget=budget
        )
        rows = KernelRows(near, examples.inputs, of_features, dtype=near.evaluated_in, memory=budget)
        return _with_best_ridge(rows, examples, rule) if is_auto(rule) else Fitted(rows, examples, rule)
    choice = choose_solver(kernel, rule, len(examples), budget, solver=nystrom, tile_dtype=tile_dtype)
    try:
        fixed = kernel.fit_labels(
            examples.inputs, examples.labels, examples.targets, dtype=dtype, device=where, memory=budget
        )
        gram = fixed.gram if isinstance(fixed, FittedLabelKernel) and fixed is not kernel else None
    except NotPositiveError as error:
        raise NotPositiveError(f"{error}{identical_inputs_sentence(examples)}") from None
    if fixed is not kernel and fixed.doubt:
        warnings.warn(fixed.doubt, ExpansionWarning, stacklevel=3)
    if gram is None:
        check_outputs("`kernel` tells apart", fixed.outputs, examples)
        n, outputs = len(examples) * (fixed.outputs or 1), fixed.outputs
        asked = solver == "features"
        if asked or (solver == "auto" and is_kept_as_rows(fixed, examples.inputs, rule, budget)):
            assert isinstance(fixed, Kernel)
            gram = feature_matrix(fixed, examples.inputs, device=where, budget=budget)
        elif choice.is_tiled:
            assert isinstance(fixed, Kernel)
            gram = EvaluatedMatrix(
                fixed,
                examples.inputs.to(where),
                dtype=dtype,
                memory=budget // ROOM,
                room=budget // ROOM_OF_TILES,
            )
        else:
            check_fits(
                f"A model of {len(examples)} examples{f', {outputs} rows each,' if outputs else ''}",
                MATRICES * 8 * n * n,
                budget,
                advice="Take fewer examples (`n_train`), or raise `memory`.",
            )
            gram = assemble.gram(fixed, examples.inputs, dtype=dtype, device=where, memory=budget)
    rows = KernelRows(
        fixed,
        examples.inputs,
        gram,
        dtype=fixed.dtype or dtype,
        memory=budget,
        tile_dtype=choice.tile_dtype or torch.float64,
    )
    if not is_auto(rule):
        return Fitted(rows, examples, rule)
    has_spectrum = not isinstance(gram, EvaluatedMatrix)
    return (_with_best_ridge if has_spectrum else _with_ridge_of_sample)(rows, examples, rule)


def _with_ridge_of_sample(rows: KernelRows, examples: Examples, rule: Rule) -> Fitted:
    """Return the model at the ridge of least left-out loss among examples drawn at random.

    A ridge is the variance of what targets hold beside the function, over that of the function. Where the
    kernel is that of the function it does not depend on how many examples there are.
    """
    assert isinstance(rule, Ridge)
    drawn = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0), device="cpu")
    some = drawn[:SAMPLE].sort().values
    part = Fitted(rows, examples, replace(rule, ridge=1.0)).subset(some)
    chosen = _with_best_ridge(part.rows, part.train, rule).ridge_choice
    assert chosen is not None
    choice = chosen.for_examples(len(examples), of=len(some))
    return Fitted(rows, examples, choice.rule, ridge_choice=choice)


def _with_best_ridge(rows: KernelRows, examples: Examples, rule: Rule) -> Fitted:
    """Return the model at the ridge of least left-out loss; the eigendecomposition stays with it."""
    assert isinstance(rule, Ridge)
    any_ridge = Fitted(rows, examples, replace(rule, ridge=1.0))
    choice = best_ridge(
        any_ridge.spectrum,
        any_ridge.residual,
        examples=len(examples),
        diagonal=float(rows.gram.diagonal().mean()),
        rule=rule,
    )
    return Fitted(rows, examples, choice.rule, any_ridge.factorisations, choice)


def is_kept_as_rows(kernel: AnyKernel, inputs: Tensor, rule: Rule, budget: int) -> bool:
    """Return whether a model keeps rows of features in place of their products, the matrix.

    That is where features are few, and under cross-entropy, which only multiplies the matrix, where it does
    not fit and the rows do.
    """
    if is_kept_as_features(kernel, inputs):
        return True
    features = feature_count(kernel, inputs)
    if features is None or not isinstance(rule, Logistic):
        return False
    n = row_count(kernel, inputs)
    return MATRICES * 8 * n * n > budget and ROOM * 8 * n * features <= budget


def coded_for(kernel: AnyKernel, rule: Rule, train: Examples) -> Examples:
    """Return the examples with targets as the loss of the rule takes them; inputs are checked.

    Raises:
        ShapeError, DataError: inputs that the kernel is not defined on, or targets that the loss does not
            take.
        OptionError: a kernel of training by another loss.
    """
    kernel.check("inputs", train.inputs)
    base = kernel.base if isinstance(kernel, LabelDependentKernel) else kernel
    if (
        isinstance(kernel, LabelDependentKernel)
        and not kernel.by_classes
        and not isinstance(rule, SpectralRule)
    ):
        raise OptionError(
            f"{kernel!r} follows training by squared loss, and `rule` is {rule!r}: pass Ridge, or another "
            f"kernel."
        )
    return rule.example_loss.coded(train, base.network_outputs(train.inputs), "train")


def check_solver(solver: object, kernel: AnyKernel, inputs: Tensor) -> None:
    """Raise unless `solver` is one, and one for this kernel.

    Raises:
        OptionError: no solver, or features of a kernel that has none.
    """
    if not isinstance(solver, Nystrom):
        check_choice("solver", solver, (*SOLVERS, "nystrom"))
    if solver == "features" and feature_count(kernel, inputs) is None:
        raise OptionError(
            f'`solver` cannot be "features" for {kernel!r}, which is no product of features: pass '
            'LinearFeatures(), an Empirical kernel, or solver="auto".'
        )


def check_rule(rule: object) -> None:
    """Raise unless `rule` is a rule, or None for the default."""
    is_ridge = is_real(rule) or (isinstance(rule, str) and rule == AUTO)
    advice = f"With this ridge it is lo.Ridge({rule!r})." if is_ridge else ""
    what = "a rule such as Ridge(1.0) or GradientFlow(1.0)"
    check_kind("rule", rule, (Rule, type(None)), what=what, advice=advice)


def check_kernel(kernel: object) -> None:
    """Raise unless the first argument of `fit` is a kernel, with how to make one of what was given."""
    what = A_KERNEL
    if isinstance(kernel, NetworkKernels):
        what = "a kernel of one network here; ask about each of kernel.kernels by itself"
    kinds = (Kernel, LabelDependentKernel)
    check_kind("kernel", kernel, kinds, what=what, advice=kernel_advice(kernel))
