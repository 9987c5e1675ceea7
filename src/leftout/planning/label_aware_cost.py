"""Seconds of a kernel that is fitted to labels, beside those of the kernel that it builds on.

Without an example it is another kernel: at each training time it is fitted to labels n times, a model to it -
n³/3 at the end of training, 9n³ at a finite time - and both are evaluated at the queries and at the example
left out. To choose among s strengths above 0, the kernel is fitted n times, and a model s times each.
"""

from dataclasses import dataclass

from leftout.attribution.engine.refit_each import models_work, refit_from_scratch_work
from leftout.diagnostics.model_selection import STRENGTHS, choose_strength_work, fitted_strengths
from leftout.kernels.label_dependent import LabelDependentKernel, label_cross_work, label_fit_work
from leftout.kernels.pairwise.label_aware import LabelAware
from leftout.planning.cost import Cost
from leftout.planning.label_fit_memory import fits_without_each, stays
from leftout.storage import score_store as store

EVALUATIONS = 6
"""Times that an audit evaluates the kernel of all labels at all queries, beside once a training time."""


@dataclass(frozen=True)
class LabelFitCost:
    """What labels take in an audit, beside the kernel that is not fitted to them.

    Attributes:
        choosing: seconds of choosing a strength; 0 where there is none to choose.
        without_each: seconds of the models without each example; 0 where labels are frozen.
        with_all: seconds of the kernel fitted to all labels.
        certified: seconds of the examples really left out; 0 where labels are frozen.
        fits: models that are made.
        method: how it is done.
    """

    choosing: float
    without_each: float
    with_all: float
    certified: float
    fits: int
    method: str

    @property
    def seconds(self) -> float:
        """Return the seconds of all together."""
        return self.choosing + self.without_each + self.with_all + self.certified


def label_fit_cost(kernel: LabelDependentKernel, cost: Cost) -> LabelFitCost:
    """Return what a kernel that is fitted to labels takes.

    Args:
        cost: of what is asked, on a machine on which this kernel was tried.

    Accuracy:
        within a factor of 2, as `plan`. Time is taken to grow with n² beyond what was tried: of a hierarchy
        of more than a hundred examples that is too much (2.4 times what 200 took), and of one by orthants,
        which cost n⁴, too little.
    """
    audit, seconds = cost.audit, cost.machine.seconds
    n, m, rule, last = audit.n, audit.m, audit.rule, audit.last_time
    chooses = isinstance(kernel, LabelAware) and kernel.strength is None
    fits = fits_without_each(kernel, audit)
    fixed = stays(kernel)
    if chooses:
        fits += round(n * fitted_strengths(last))
    method = f"{fits} fits of {n - 1} examples" if fits else "once, by all examples"
    evaluations = EVALUATIONS + len(audit.times)
    with_all = label_fit_work(n) + evaluations * label_cross_work(m, n, size=store.BLOCK)
    models = models_work(m, n, rule, audit.times, size=store.BLOCK)
    certified = audit.refit_examples * refit_from_scratch_work(m, n, rule, last, size=store.BLOCK)
    return LabelFitCost(
        choosing=seconds(choose_strength_work(n, rule, last)) if chooses else 0.0,
        without_each=0.0 if fixed else seconds(models),
        with_all=seconds(with_all),
        certified=0.0 if fixed else seconds(certified),
        fits=fits,
        method=method + (f", {len(STRENGTHS)} strengths tried" if chooses else ""),
    )
