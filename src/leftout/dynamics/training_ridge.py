"""Which ridge stands for a training run? Weight decay is one, and stopping early is another.

A run minimises the mean loss (1/n) Σ_j ℓ_j + ½ d ‖w‖², d its weight decay, for the time
τ = Σ_t rate_t / (1 − momentum). In a sum over examples, of whose curvature s is an eigenvalue,

    gradient flow until τ      (1 − e^{−τ (s/n + d)}) / (s + n d)
    ridge                      1 / (s + n d + n/τ)

agree where τ (s/n + d) is small, at τ/n, and where it is large, at 1/(s + n d); between, the flow has learned
up to 30 % more. Hence

    ridge = n d + n/τ

Adam divides the gradient of a weight by √v, v its second moment: time runs slower by √v, and a decay
that is not divided (AdamW's) weighs more by as much. With m the mean of √v over all weights

    Adam, decay in the gradient       n d + m n/τ,        τ = Σ_t rate_t: its averages do not lengthen steps
    AdamW, decay beside it            m (n d + n/τ)
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from leftout.core.checks import as_list, check_at_least, check_choice, check_count, is_real, shown
from leftout.core.errors import DataError, OptionError
from leftout.dynamics.scales import check_ridge_scale

Optimiser = Literal["sgd", "adam", "adamw"]
OPTIMISERS: tuple[Optimiser, ...] = ("sgd", "adam", "adamw")


def training_ridge(
    *,
    n: int,
    learning_rates: float | Sequence[float] | Tensor,
    steps: int | None = None,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    optimizer: Optimiser = "sgd",
    second_moments: Mapping[Any, Any] | Iterable[Tensor] | None = None,
) -> float:
    """Return the ridge that stands for a training run: its weight decay, and that it ended when it did.

    It belongs to a rule whose loss is a sum over examples, such as `Ridge(ridge)`; the run itself minimised a
    mean, as PyTorch's losses do by default. A run whose loss was c times that of the rule has the ridge / c:
    `MSELoss` over k outputs is 2/k times the ½ Σ (f − y)² of `Ridge`.

    Args:
        n: training examples.
        learning_rates: of every step, or the same for all `steps`; a step is one update of the weights, no
            epoch.
        steps: their number, where there is one rate.
        weight_decay, momentum: as PyTorch's optimisers have them; Adam's averages are no momentum.
        optimizer: "sgd"; "adam", whose weight decay is part of the gradient; or "adamw", whose decay is not.
            For these two the ridge is rougher: one number stands for a scale that each weight has of its own.
        second_moments: of Adam at the end of training: `optimizer.state_dict()`, or the averages of squared
            gradients themselves, `exp_avg_sq`, as tensors in a list or by name; only a state knows how far
            these are from settled, and is corrected for that as Adam does.

    Raises:
        OptionError: rates that add up to nothing, steps that are not as many as rates, an option of another
            optimiser, or Adam without its second moments, whose ridge would be off by orders of magnitude.
        DataError: second moments that are negative or not finite.

    Cost:
        a sum over the rates, and one over the second moments.

    Example:
        >>> import leftout as lo
        >>> ridge = lo.training_ridge(n=1000, learning_rates=0.1, steps=500, momentum=0.9, weight_decay=1e-4)
        >>> round(ridge, 3)  # 0.1 of weight decay, and 2 of stopping at τ = 500
        2.1

    Source:
        Ali, Kolter and Tibshirani 2019, "A continuous-time view of early stopping for least squares", for
        the correspondence of ridge and 1/τ.
    """
    check_count("n", n)
    check_at_least("weight_decay", weight_decay, 0)
    check_choice("optimizer", optimizer, OPTIMISERS)
    scale = _scale(optimizer, second_moments)
    stopping = n / _training_time(learning_rates, steps, _checked_momentum(momentum, optimizer))
    decay = n * weight_decay * (1.0 if optimizer == "adam" else scale)
    ridge = decay + scale * stopping
    check_ridge_scale(ridge)
    return ridge


def _training_time(
    learning_rates: float | Sequence[float] | Tensor, steps: int | None, momentum: float
) -> float:
    """Return τ = Σ_t rate_t / (1 − momentum)."""
    rates = as_list("learning_rates", learning_rates)
    if is_real(rates):
        if steps is None:
            raise OptionError(
                "`steps` must say how many steps were taken at this rate, or `learning_rates` hold a rate "
                "for every step."
            )
        check_count("steps", steps)
        check_at_least("learning_rates", rates, 0)
        total = float(rates) * steps
    else:
        total = _total(rates, steps)
    if not 0 < total < math.inf:
        raise OptionError(
            f"`learning_rates` must add up to a number > 0: the time that training took; got {total:g}."
        )
    return total / (1 - momentum)


def _total(rates: Any, steps: int | None) -> float:
    """Return the sum of rates, one a step."""
    if isinstance(rates, str | Mapping) or not isinstance(rates, Iterable):
        raise OptionError(f"`learning_rates` must be a number, or numbers, one a step; got {shown(rates)}.")
    numbers = list(rates)
    for rate in numbers:
        check_at_least("learning_rates", rate, 0)
    if steps is not None and steps != len(numbers):
        raise OptionError(
            f"`steps` must be left out, or be the number of `learning_rates`, {len(numbers)}, one for each "
            f"update of the weights; got {shown(steps)}."
        )
    return math.fsum(float(rate) for rate in numbers)


def _checked_momentum(momentum: float, optimizer: Optimiser) -> float:
    """Return the momentum, which makes every step 1 / (1 − momentum) as long."""
    check_at_least("momentum", momentum, 0)
    if momentum >= 1:
        raise OptionError(f"`momentum` must lie in [0, 1); got {shown(momentum)}.")
    if momentum and optimizer != "sgd":
        raise OptionError(
            f'`momentum` must be left out with optimizer="{optimizer}", whose averages of gradients do not '
            f"lengthen its steps; got {shown(momentum)}."
        )
    return float(momentum)


def _scale(optimizer: Optimiser, second_moments: Any) -> float:
    """Return the mean of √v over all weights; 1 of SGD, which does not divide gradients."""
    if optimizer == "sgd":
        if second_moments is not None:
            raise OptionError('`second_moments` must be left out with optimizer="sgd", which has none.')
        return 1.0
    if second_moments is None:
        raise OptionError(
            f'`second_moments` must be given with optimizer="{optimizer}", which divides gradients by their '
            "roots: pass optimizer.state_dict(). Without them a ridge is off by orders of magnitude."
        )
    total, count = 0.0, 0
    for moments in _moments(second_moments):
        if not bool(torch.isfinite(moments).all()) or bool((moments < 0).any()):
            raise DataError("`second_moments` must be averages of squares, finite and ≥ 0; these are not.")
        total += float(moments.double().sqrt().sum())
        count += moments.numel()
    if not total:
        raise OptionError(
            "`second_moments` must hold numbers above 0; got none. Pass optimizer.state_dict() of the end of "
            "training."
        )
    return total / count


def _moments(second_moments: Any) -> Iterator[Tensor]:
    """Yield second moments, one tensor for each parameter; those of a state corrected as Adam does."""
    if isinstance(second_moments, Mapping) and "param_groups" in second_moments:
        yield from _of_state(second_moments)
        return
    tensors = second_moments.values() if isinstance(second_moments, Mapping) else second_moments
    if isinstance(tensors, Tensor):
        tensors = [tensors]
    if isinstance(tensors, str) or not isinstance(tensors, Iterable):
        raise OptionError(
            "`second_moments` must be optimizer.state_dict(), or tensors in a list or by name; got "
            f"{shown(second_moments)}."
        )
    for moments in tensors:
        if not isinstance(moments, Tensor) or moments.is_meta or moments.is_complex():
            raise OptionError(f"`second_moments` must hold tensors of numbers; got {shown(moments)}.")
        yield moments


def _of_state(state: Mapping[str, Any]) -> Iterator[Tensor]:
    """Yield v / (1 − β₂^t) of every parameter of an optimiser's state."""
    try:
        for group in state["param_groups"]:
            for number in group["params"]:
                if number not in state["state"]:  # a parameter that has had no gradient
                    continue
                of_weight = state["state"][number]
                moments = of_weight["max_exp_avg_sq" if group.get("amsgrad") else "exp_avg_sq"]
                yield moments / (1 - group["betas"][1] ** float(of_weight["step"]))
    except (KeyError, TypeError, IndexError, ZeroDivisionError) as error:
        raise OptionError(
            "`second_moments` must be the state of Adam or AdamW after its training, as "
            f"optimizer.state_dict() has it; looking for step, betas and exp_avg_sq raised {error!r}."
        ) from error
