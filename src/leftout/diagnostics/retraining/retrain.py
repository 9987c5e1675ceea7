"""The effect of leaving examples out of a network's training, by training it again without them.

This is the ground truth for every attribution of a finite network. From the initial weights each training is
the original one without the example; from the trained weights ("warm") it is shorter, and ends at the same
network if the objective has one minimum: without a ridge it has many, and training ends at the nearest.
Narrow ReLU networks have more than one even with a ridge: the difference between the two starts is measured
on a sample, and reported.
"""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, SupportsIndex

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float64, Int64
from joblib import cpu_count
from torch import Tensor

from leftout.attribution.edits import Rows
from leftout.attribution.engine.labelled_result import SIGN, Of, check_of, labelled_array, network_attributes
from leftout.attribution.engine.query_blocks import queries_like
from leftout.attribution.groups import Groups, named_groups
from leftout.core.checks import check_at_least, check_choice, check_count, check_kind, check_path
from leftout.core.errors import NotConvergedWarning, OptionError
from leftout.data.pairs import Data
from leftout.diagnostics.retraining.runner import RetrainedNetwork, Start, retrain_groups
from leftout.dynamics.train import Trained

STARTS: tuple[Start, ...] = ("initial", "warm")

APART = 0.1
"""Difference between the two starts, relative to the largest effect, beyond which a warm start warns.

Two truths that differ by a share r correlate at √(1 − r²) or more: at 0.1 that is 0.995, so beyond it
the second digit of an agreement may depend on where training began. Stopping at the tolerance instead of the
minimum adds differences of some tolerance · max |y − f_0| / largest effect."""


def retrain(
    trained: Trained,
    query: Data,
    groups: Groups | Rows,
    *,
    of: Of = "loss",
    start: Literal["initial", "warm"] = "initial",
    check: int = 3,
    jobs: int | None = None,
    out: str | Path | None = None,
) -> xr.DataArray:
    """Return the effect of leaving examples out of a network's training, by training it again.

    Args:
        trained: from `train`: the same module, rule, limit of steps and tolerance are used.
        query: Examples, or a pair (inputs, targets) like the training data.
        groups: row numbers, each left out alone; or groups of them as for `leave_out`.
        of: "loss": loss without the group minus loss with it; "prediction": with minus without.
        start: the weights from which training begins; the ridge is around the initial ones in both cases.
            "warm" needs a ridge > 0 and a tolerance, or its end would depend on the start.
        check: with "warm", how many groups are trained from the initial weights as well.
        jobs: processes; None for one per core, or one on a GPU. Each uses one thread, so that the numbers do
            not depend on how many there are.
        out: folder that stores every finished training, so that an interrupted run can be continued.

    Returns:
        A DataArray (query, train), or (query, group) for groups; `of="prediction"` adds `output`.
        `at` is the end of training, or the number of steps of a network trained without a tolerance.
        Attributes: `not_converged`, how many trainings stopped short of a tolerance, their
        `largest_relative_gradient`, mean `steps`, and with "warm" `warm_difference`, the largest
        difference of a prediction between the two starts, relative to the largest effect.

    Raises:
        OptionError: a group that is empty or everything, a row number out of range or repeated;
            "warm" without a ridge, or for a network trained without a tolerance.
        StoreError: `out` holds trainings of another network, data or query, or cannot be written.

    Warns:
        NotConvergedWarning: the network, or one trained again, stopped short of its tolerance; or the
            two starts differ by more than a tenth of the largest effect.

    Cost:
        one training for each group. "warm" takes fewer steps, but steps in the weights of a TwoLayerNetwork,
        4 n d m flops each: for n < 2d steps from the initial weights are cheaper.

    Source:
        Rethinking influence functions, eq. 7.

    Example:
        >>> import leftout as lo, torch
        >>> inputs = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
        >>> data, module = (inputs, torch.tensor([1.0, -1.0, 0.5])), torch.nn.Linear(2, 1).double()
        >>> trained = lo.train(module, data, rule=lo.Ridge(0.1))
        >>> effect = lo.retrain(trained, data, [0, 1], jobs=1)
        >>> fitted = lo.fit(lo.kernels.Empirical(module, weights="initial"), data, rule=lo.Ridge(0.1))
        >>> exact = lo.leave_one_out(fitted, data).values[:, :2]
        >>> effect.dims, bool((abs(effect.values - exact) < 1e-4).all())  # a linear module: they agree
        (('query', 'train'), True)
    """
    check_kind("trained", trained, Trained, what="a trained network, from `train`")
    check_of(of)
    check_choice("start", start, STARTS)
    if start == "warm":
        _check_warm(trained)
    check_at_least("check", check, 0)
    if jobs is not None:
        check_count("jobs", jobs)
    group_list = _as_list(groups)
    singles = not isinstance(group_list, Mapping) and all(_is_row(network) for network in group_list)
    names, rows = _names_and_rows(trained, group_list, singles)
    examples = queries_like(trained.train, query)
    if trained.tolerance is not None:  # without a tolerance all steps are taken
        trained.check_converged()
    if out is not None:
        check_path("out", out)
    folder = None if out is None else Path(out)
    count = jobs or _processes(trained)
    networks = retrain_groups(trained, examples, rows, start=start, jobs=count, folder=folder)
    before = trained.predict(examples).cpu()
    after = torch.stack([torch.from_numpy(network.predictions) for network in networks], dim=1)  # (m, g, k)
    attrs = network_attributes(
        trained,
        examples,
        of=of,
        method="retrain",
        sign=SIGN[of],
        start=start,
        **_training_summary(trained, networks),
    )
    if start == "warm" and check:
        repeated = _sample(len(rows), int(check))
        from_initial = retrain_groups(
            trained, examples, [rows[i] for i in repeated], start="initial", jobs=count, folder=folder
        )
        attrs["checked"] = len(repeated)
        attrs["warm_difference"] = _start_difference(before, after, from_initial, repeated)
        _warn_apart(attrs["warm_difference"], len(repeated))
    _warn_not_converged(trained, networks)
    axes: dict[str, Sequence[str]] = {"query": examples.ids, "train" if singles else "group": names}
    if of == "prediction":
        axes["output"] = _output_names(trained)
    values = _changes(before, after, examples.targets, of)
    return labelled_array(
        values.numpy()[None],
        times=[_moment(trained)],
        scalar=True,
        coordinates=axes,
        attrs=attrs,
        name="influence",
    )


def _check_warm(trained: Trained) -> None:
    """Raise where the end of training depends on where it began."""
    if trained.rule.ridge == 0:
        raise OptionError(
            "`start` must be 'initial' without a ridge: there is more than one minimum, and from the "
            f"trained weights training stays at its own; got 'warm' under {trained.rule!r}. Train "
            "with a ridge > 0, or from the initial weights."
        )
    if trained.tolerance is None:
        raise OptionError(
            "`start` must be 'initial' for a network that took all its steps: from the trained "
            f"weights it would be one of {trained.steps} more; got 'warm' with tolerance=None. Train to "
            "a tolerance, or from the initial weights."
        )


def _moment(trained: Trained) -> float:
    """Return the training time of the influence: the end, or the number of steps without a tolerance."""
    return math.inf if trained.tolerance is not None else float(trained.limit)


def _as_list(groups: Groups | Rows) -> Mapping[Any, Any] | list[Any]:
    """Return named groups unchanged; rows or groups, one or several, as a list."""
    if isinstance(groups, Mapping):
        return groups
    several = isinstance(groups, Iterable) and bool(getattr(groups, "ndim", True))
    return list(groups) if several else [groups]  # type: ignore[arg-type]


def _is_row(group: object) -> bool:
    return isinstance(group, SupportsIndex) and not getattr(group, "ndim", 0)


def _names_and_rows(
    trained: Trained, groups: Mapping[Any, Any] | list[Any], singles: bool
) -> tuple[list[str], list[Int64[Tensor, " _"]]]:
    """Return names and row numbers of the groups; raise if one holds all examples."""
    n = len(trained.train)
    names, rows = named_groups([[row] for row in groups] if singles else groups, n)
    everything = [name for name, group in zip(names, rows, strict=True) if len(group) == n]
    if everything:
        raise OptionError(
            f"`groups`: group {everything[0]!r} holds all {n} training examples; nothing would be "
            "left to train on."
        )
    if singles:
        names = [trained.train.ids[int(group[0])] for group in rows]
    return names, rows


def _processes(trained: Trained) -> int:
    """Return the default number of parallel trainings: one per core, or one on a GPU."""
    device = next(trained.module.parameters()).device.type
    return int(cpu_count()) if device == "cpu" else 1


def _changes(
    before: Float64[Tensor, "m k"], after: Float64[Tensor, "m g k"], targets: Float64[Tensor, "m k"], of: Of
) -> Tensor:
    change = after - before[:, None]
    if of == "prediction":
        return -change
    # ½ (e + c)² − ½ e² without cancellation.
    return (change * ((before - targets)[:, None] + change / 2)).sum(-1)


def _training_summary(trained: Trained, networks: Sequence[RetrainedNetwork]) -> dict[str, float | int]:
    return {
        "not_converged": len(_not_converged(trained, networks)),
        "largest_relative_gradient": max(network.relative_gradient for network in networks),
        "steps": float(np.mean([network.steps for network in networks])),
    }


def _sample(count: int, check: int) -> list[int]:
    generator = torch.Generator().manual_seed(0)
    return sorted(torch.randperm(count, generator=generator, device="cpu")[:check].tolist())


def _start_difference(
    before: Float64[Tensor, "m k"],
    after: Float64[Tensor, "m g k"],
    from_initial: Sequence[RetrainedNetwork],
    repeated: Sequence[int],
) -> float:
    """Return the largest difference between the two starts, relative to the largest effect of the sample."""
    predictions = torch.stack([torch.from_numpy(network.predictions) for network in from_initial], dim=1)
    effect = float((predictions - before[:, None]).abs().max())
    return float((after[:, list(repeated)] - predictions).abs().max()) / (effect or 1.0)


def _warn_apart(difference: float, checked: int) -> None:
    if difference > APART:
        warnings.warn(
            f"The start makes a difference of {difference:.2g} of the largest effect, on {checked} "
            f"trainings that were repeated from the initial weights (acceptable: {APART:g}): the "
            "network has more than one minimum there, or its tolerance is too large for these "
            "effects. Pass start='initial', or train a wider network or to a smaller tolerance.",
            NotConvergedWarning,
            stacklevel=3,
        )


def _not_converged(trained: Trained, networks: Sequence[RetrainedNetwork]) -> list[RetrainedNetwork]:
    """Return the trainings that stopped short of the tolerance; none if there is no tolerance."""
    return [network for network in networks if not network.converged and trained.tolerance is not None]


def _warn_not_converged(trained: Trained, networks: Sequence[RetrainedNetwork]) -> None:
    short = _not_converged(trained, networks)
    if short:
        warnings.warn(
            f"{len(short)} of {len(networks)} networks trained again stopped short of convergence; one "
            f"of them {short[0].status}",
            NotConvergedWarning,
            stacklevel=3,
        )


def _output_names(trained: Trained) -> list[str]:
    outputs, classes = trained.train.targets.shape[1], trained.train.classes
    if classes is None or len(classes) not in (outputs, 2):
        return [str(c) for c in range(outputs)]
    return list(classes) if len(classes) == outputs else [classes[-1]]
