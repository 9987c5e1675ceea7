"""What the arguments of `lo.audit` mean: which is the kernel, which are the data, and what is not said.

    audit(kernel, train, query)        as they are
    audit(data), audit(train=data)     loaded, scaled and split as `leftout audit DATA` does
    audit(X, y), audit((X, y))         the same
    audit(train, query)                two of Examples, or two pairs
    audit(examples)                    split; nothing else about them changes

The type of the first argument decides. Whatever may mean two things is refused.
"""

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from leftout.core.checks import shown
from leftout.core.errors import OptionError
from leftout.core.wording import did_you_mean, name_list
from leftout.data.examples import Examples
from leftout.data.load import load
from leftout.data.objects import is_frame
from leftout.data.split_examples import split_examples
from leftout.diagnostics.model_selection import Selection
from leftout.dynamics.default_model import ModelDefaults, defaults_for
from leftout.dynamics.fit import check_kernel
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.kernel_advice import CALLS, is_estimator
from leftout.dynamics.rules import Ridge, Rule
from leftout.kernels.base import Kernel
from leftout.kernels.label_dependent import AnyKernel, LabelDependentKernel
from leftout.kernels.network.empirical import Empirical

LOADING = frozenset(inspect.signature(load).parameters) - {"data", "seed"}
"""Options of `lo.load` that an audit takes as well; the seed of both is one."""

SPLITTING = frozenset({"n_train", "n_query", "labels"})
"""Those that say something of Examples, which are scaled and coded already."""

ONE_CALL = 'lo.audit("digits"), lo.audit("table.csv"), lo.audit(frame, target="y") or lo.audit(X, y)'


@dataclass(frozen=True, eq=False)
class AuditData:
    """A kernel, or the choice of one, with its data, and the rule where none is given."""

    kernel: AnyKernel | Selection
    train: Any
    query: Any
    rule: Rule


def audit_data(
    data: tuple[Any, ...],
    *,
    kernel: Any,
    train: Any,
    query: Any,
    over_time: bool,
    seed: int,
    loading: dict[str, Any],
) -> AuditData:
    """Return what to audit.

    Args:
        data: the arguments of `audit` that have no name.
        over_time: whether its rule has a training time, or it is asked about one.
        loading: options of `load`.

    Raises:
        OptionError: arguments that may mean two things, or none.
        LeftoutError: whatever `load` refuses.
    """
    if data and isinstance(data[0], Kernel | LabelDependentKernel | Selection):
        if kernel is not None:
            raise OptionError("`kernel` must be given once; it stands first, and by name.")
        kernel, *rest = data
        _check_count(rest)
        sets = _named_sets(rest, train, query)
    else:
        _check_no_model(data)
        _check_count(data)
        sets = _sets_of_data(data, train, query)
    if kernel is not None:
        return _of_kernel(kernel, *sets, over_time=over_time, seed=seed, loading=loading)
    train, query = sets
    if train is None:
        also = " `query` alone is none." if query is not None else ""
        raise OptionError(f"`audit` needs data: {ONE_CALL}.{also}")
    defaults = defaults_for(None, over_time=over_time)
    if isinstance(train, Examples) and query is not None and not isinstance(query, Examples):
        return _as_they_are(defaults.kernel, train, query, rule=defaults.rule, loading=loading)
    return _load_and_split(defaults, train, query, seed=seed, loading=loading)


def check_loading(loading: dict[str, Any], own: Iterable[str] = ()) -> None:
    """Raise at an option that `load` has not, with the one that may have been meant, also of the `own`."""
    for name in loading:
        if name not in LOADING:
            raise OptionError(
                f"`{name}` must be an option of `audit` or of `load`: {name_list(sorted(LOADING))}."
                f"{did_you_mean(name, sorted({*LOADING, *own}))}"
            )


def _check_no_model(data: Sequence[Any]) -> None:
    """Raise where the first argument is a model, or what a kernel could be made of."""
    if data and is_estimator(data[0]):
        raise OptionError(
            "`audit` is of data, lo.audit(X, y), and an estimator of scikit-learn that is fitted is asked by "
            "lo.from_sklearn(estimator, X, y)."
        )
    if data and (isinstance(data[0], nn.Module | Fitted) or len(data) == 3):
        check_kernel(data[0])


def _check_count(data: Sequence[Any]) -> None:
    if len(data) > 2:
        raise OptionError(
            f"`audit` takes a kernel and two more without a name, train and query; got {len(data)} more."
        )


def _sets_of_data(data: Sequence[Any], train: Any, query: Any) -> tuple[Any, Any]:
    """Return data and queries where no kernel stands first: two are inputs and targets, or two sets."""
    if not data:
        return train, query
    if len(data) == 2 and isinstance(data[0], Examples):
        return _named_sets(data, train, query)
    if train is not None:
        raise OptionError("`train` must be left out where the data stand first; they are given twice.")
    if len(data) == 1:
        return data[0], query
    _check_pair(*data)
    return tuple(data), query


def _named_sets(data: Sequence[Any], train: Any, query: Any) -> tuple[Any, Any]:
    """Return training examples and queries, those without a name first."""
    names = {"train": train, "query": query}
    for (name, named), given in zip(names.items(), data, strict=False):
        if named is not None:
            raise OptionError(f"`{name}` must be given once; it stands without a name, and with it.")
        names[name] = given
    return names["train"], names["query"]


def _of_kernel(
    kernel: Any, train: Any, query: Any, *, over_time: bool, seed: int, loading: dict[str, Any]
) -> AuditData:
    """Return what to audit with a kernel: two sets as they are, or one that is loaded and split."""
    inner = kernel.kernel if isinstance(kernel, Selection) else kernel
    check_kernel(inner)
    if train is None:
        raise OptionError(
            f"`audit` needs data with a kernel: lo.audit(kernel, train, query), or without one {ONE_CALL}."
        )
    if query is not None:
        if _is_bare(query):
            written = "(kernel, (X, y))" if _is_bare(train) else "(kernel, train, (X, y))"
            raise OptionError(f"Behind a kernel inputs and targets are one pair: lo.audit{written}.")
        return _as_they_are(kernel, train, query, rule=Ridge(), loading=loading)
    if isinstance(inner, Empirical):
        raise OptionError(
            "`query` must be given with the kernel of a network of your own, whose inputs are scaled as it "
            'was trained: train, query = lo.load(data, normalise=…, centre="none"), then lo.audit(kernel, '
            "train, query)."
        )
    defaults = defaults_for(inner, over_time=over_time)
    resolved = _load_and_split(defaults, train, query, seed=seed, loading=loading)
    return AuditData(kernel, resolved.train, resolved.query, resolved.rule)


def _as_they_are(
    kernel: AnyKernel | Selection, train: Any, query: Any, *, rule: Rule, loading: dict[str, Any]
) -> AuditData:
    """Return two sets that nothing is done to."""
    for name, option in loading.items():
        raise OptionError(
            f"`{name}` must be left out where `train` and `query` are used as they are; got {shown(option)}. "
            f"Load them with it: train, query = lo.load(data, {name}=…)."
        )
    return AuditData(kernel, train, query, rule)


def _load_and_split(
    defaults: ModelDefaults, train: Any, query: Any, *, seed: int, loading: dict[str, Any]
) -> AuditData:
    """Return data that are read, scaled for the kernel, and split where there are no queries."""
    given = {name: option for name, option in loading.items() if option is not None}
    if isinstance(train, Examples) and query is None:
        for name in sorted(set(given) - SPLITTING):
            raise OptionError(
                f"`{name}` must be left out for Examples, which are used as they are; got "
                f"{shown(given[name])}."
            )
        labels = given.pop("labels", None)
        pair = split_examples(train, seed=seed, **given)
        if labels is not None:
            pair = load(pair, labels=labels)
    else:
        _check_targets(train, query)
        pair = defaults.load(train if query is None else (train, query), seed=seed, **loading)
    return AuditData(defaults.kernel, *pair, defaults.rule)


def _check_pair(inputs: Any, targets: Any) -> None:
    """Raise where two arguments are no inputs and targets, and no training examples and queries."""
    if isinstance(targets, str):
        if is_frame(inputs) or isinstance(inputs, str):
            raise OptionError(f"Name the column to predict: lo.audit(data, target={targets!r}).")
        raise OptionError(
            f"`audit` takes inputs and targets, lo.audit(X, y); got {shown(targets)} in place of y."
        )
    if isinstance(inputs, str):
        raise OptionError(
            f"`audit` takes one data set, {ONE_CALL}; got {shown(inputs)} and {type(targets).__name__}. A "
            "kernel is an object: lo.audit(lo.kernels.ReLU(2), train, query)."
        )


def _check_targets(train: Any, query: Any) -> None:
    """Raise where inputs come without targets, or the name of a kernel without data."""
    if query is None and _is_bare(train):
        raise OptionError("`audit` needs the targets of these inputs: lo.audit(X, y).")
    if isinstance(train, str) and train in CALLS:
        raise OptionError(
            f"`audit` needs data, and {train!r} names a kernel: "
            f"lo.audit(data, kernel=lo.kernels.{CALLS[train]})."
        )


def _is_bare(given: Any) -> bool:
    """Return whether an object is an array, or a list of rows, that is no pair."""
    array = getattr(given, "ndim", 0) >= 1 and not is_frame(given)
    return array or (isinstance(given, list) and len(given) > 2)
