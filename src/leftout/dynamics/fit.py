"""Which model do a kernel, training examples and a rule make? The Gram matrix now, all else when asked."""

import warnings

import torch
from jaxtyping import Int64
from torch import Tensor

from leftout.core.blocks import check_fits, memory_budget
from leftout.core.device import usable_device
from leftout.core.errors import DataError, ExpansionWarning, NotPositiveError, OptionError
from leftout.data.examples import Examples
from leftout.data.pairs import Data, examples_of
from leftout.dynamics.fitted import Fitted, check_outputs, repeated
from leftout.dynamics.rules import Ridge, Rule
from leftout.kernels import assemble
from leftout.kernels.base import Kernel
from leftout.kernels.label_dependent import FittedLabelKernel, LabelDependentKernel


def fit(
    kernel: Kernel | LabelDependentKernel,
    train: Data,
    *,
    rule: Rule | None = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    memory: int | float | str | None = None,
) -> Fitted:
    """Return the model that `rule` makes of the kernel and the training examples.

    Args:
        kernel: which network, in its infinitely wide limit, or an `Empirical` one as it is. Its outputs
            are then in the units of the targets: those of a network trained on one-hot columns want
            data loaded with centre="none". One that sees labels, such as `LabelAware`, is taught by
            the training examples first; NeuralTangentHierarchy warns (`ExpansionWarning`) where it is not to
            be relied on.
        train: Examples, a pair (inputs, targets) of arrays, or a Dataset. Whole-number targets of a
            pair are classes; others are taken as given.
        rule: how it was trained; Ridge(1.0) if not said. Losses are sums unless it says "mean".
        dtype: in which the kernel is evaluated; it is kept, factored and inverted in float64.
        device: where everything is computed.
        memory: budget, in bytes or as "4GB"; 60 % of what is free if not said.

    Raises:
        LeftoutError: inputs that the kernel is not defined on, numbers that are not finite, or a
            Gram matrix that would not fit.

    Cost:
        the kernel, n² evaluations; factorisations come when something is asked.
    """
    examples = examples_of(train, name="train")
    where = usable_device(device) if device is not None else examples.inputs.device
    budget = memory_budget(memory, device=where)
    kernel.check("inputs", examples.inputs)
    if isinstance(kernel, FittedLabelKernel) and not (kernel.asked.frozen or kernel.ignores_labels):
        raise OptionError(
            "`kernel` was taught by examples already, and `fit` would have to teach it again: pass what was "
            "asked, kernel.asked; or keep it as it is, kernel.freeze_labels()."
        )
    if isinstance(kernel, LabelDependentKernel):
        return _taught(kernel, examples, rule or Ridge(), dtype=dtype, where=where, budget=budget)
    check_outputs("`kernel` tells apart", kernel.outputs, examples)
    n = len(examples) * (kernel.outputs or 1)
    check_fits(
        f"A model of {len(examples)} examples{_rows_said(kernel)}",
        3 * 8 * n * n,
        budget,
        advice="Take fewer examples (`n_train`), or raise `memory`.",
    )
    gram = assemble.gram(kernel, examples.inputs, dtype=dtype, device=where, memory=budget)
    made_in = kernel.dtype or dtype
    return Fitted(kernel, examples, rule or Ridge(), gram, kernel_dtype=made_in, memory=budget)


def _taught(
    kernel: LabelDependentKernel,
    examples: Examples,
    rule: Rule,
    *,
    dtype: torch.dtype,
    where: torch.device,
    budget: int,
) -> Fitted:
    """Return the model of a kernel that the examples have to teach first."""
    try:
        taught = kernel.fit_labels(
            examples.inputs,
            labels_of(kernel, examples),
            examples.targets,
            dtype=dtype,
            device=where,
            memory=budget,
        )
        gram = taught.gram
    except NotPositiveError as error:
        raise NotPositiveError(f"{error}{repeated(examples)}") from None
    if taught.doubt:
        warnings.warn(taught.doubt, ExpansionWarning, stacklevel=3)
    made_in = taught.dtype or dtype
    return Fitted(taught, examples, rule, gram, kernel_dtype=made_in, memory=budget)


def labels_of(kernel: LabelDependentKernel, examples: Examples) -> Int64[Tensor, " n"]:
    """Return the classes that teach a kernel, zeros for one that targets teach; raise where it has none."""
    if examples.labels is None and not kernel.by_classes:
        return torch.zeros(len(examples), dtype=torch.int64)
    if examples.labels is None:
        raise DataError(
            "`train` must have classes for a kernel that sees labels; got numbers. Take the kernel "
            f"that it builds on, or give classes: {kernel!r}."
        )
    return examples.labels


def _rows_said(kernel: Kernel) -> str:
    """Return how many rows an example has, where that is not one."""
    return f", {kernel.outputs} rows each," if kernel.outputs else ""
