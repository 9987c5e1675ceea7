"""What would be predicted without a whole group: groups do not add up, each is a removal of its own.

A group takes a block of the resolvents with it or, where that is cheaper, the rest is fitted again; the
numbers are the same. Without all examples the network stays at f_0.
"""

from collections.abc import Sequence

import xarray as xr

from leftout.attribution.between_networks import asked_of_networks
from leftout.attribution.engine.at_times import edits
from leftout.attribution.engine.effect_array import effect_array
from leftout.attribution.engine.labelled_result import SIGN, Of, check_of
from leftout.attribution.engine.query_blocks import is_scalar, queries_of
from leftout.attribution.estimator_questions import asked_of_estimators, estimator_leave_out
from leftout.attribution.groups import Groups, named_groups
from leftout.data.pairs import Data
from leftout.dynamics.fitted import Fitted, check_fitted
from leftout.dynamics.rules import At


@asked_of_estimators(estimator_leave_out)
@asked_of_networks
def leave_out(
    fitted: Fitted, query: Data, groups: Groups, *, at: At | Sequence[At] = None, of: Of = "loss"
) -> xr.DataArray:
    """Return the exact effect on every query of removing each group of training examples.

    Args:
        groups: row numbers of the training examples that go together; a mapping names the groups.
            Groups may overlap: each is removed from the full data, by itself.
        at: training time or a sequence of them; None is the end of training.
        of: "loss": loss without the group minus loss with it; "prediction": with minus without.

    Returns:
        A DataArray (query, group); `of="prediction"` adds `output`.

    Raises:
        OptionError: an empty group, a row number out of range or repeated within a group.

    Cost:
        a group of g examples: g³ at the end of training after the inverse; at finite times
        160·(g²n + g³) flops a window of times or 9(n − g)³, whichever is less. A kernel that depends on
        labels is fitted to them again, and the model in (n − g)³/3 at the end as well.

    Example:
        >>> import leftout as lo
        >>> train, query = lo.load("digits", n_train=40, n_query=10)
        >>> fitted = lo.fit(lo.kernels.ReLU(1), train, rule=lo.Ridge(0.1))
        >>> lo.leave_out(fitted, query, {"first ten": range(10), "pair": [3, 7]}).sizes["group"]
        2
    """
    check_fitted(fitted)
    check_of(of)
    names, rows = named_groups(groups, len(fitted))
    examples = queries_of(fitted, query)
    times = fitted.times(at)
    values = edits(fitted, times).without_groups(examples, rows, of)
    return effect_array(
        fitted,
        examples,
        values if of == "loss" else -values,
        times=times,
        scalar=is_scalar(at),
        of=of,
        axis="group",
        names=names,
        method="leave_out",
        sign=SIGN[of],
    )
