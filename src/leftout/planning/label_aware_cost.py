"""What does it take to teach a kernel labels, and to teach it again without each example?

Without an example it is another kernel. At each training time n of them are taught, fitted - n³/3 at the end
of training, 9n³ at a finite time - and asked about the queries and about the example that they never saw. To
choose among s strengths above 0, n are taught, and fitted s times each. Counted as it is done, and priced by
`machine`, as everything in `cost`.
"""

import math
from dataclasses import dataclass

from leftout.diagnostics.model_selection import STRENGTHS
from leftout.kernels.label_dependent import LabelDependentKernel
from leftout.kernels.pairwise.label_aware import LabelAware
from leftout.planning.cost import Cost
from leftout.planning.machine import Lessons
from leftout.storage import score_store as store

FOLLOWED = 0.5
"""Share of the strengths at which the kernel can be followed over time: stronger ones make it indefinite.

3 to 6 of 9 on digits, by either estimator and on two base kernels; at strength 0 nothing is taught.
"""

ASKED = 6
"""Times that an audit asks the kernel as it is about all queries, beside once for each training time."""

PRODUCTS = 50
"""Products with K until its largest eigenvalue is known, which a rate has to stay below."""

PASSES = 6
"""Passes over n² numbers to give a kernel another strength."""

MATRICES = 12
"""Matrices of n² numbers: pairs, those of a part of them, and what is made on the way."""


@dataclass(frozen=True)
class Teaching:
    """What labels take in an audit, beside the kernel that saw none.

    Attributes:
        choosing: seconds of choosing a strength; 0 where there is none to choose.
        without_each: seconds of the models without each example; 0 where labels are frozen.
        kept: seconds of the kernel as all labels made it.
        certified: seconds of the examples really left out; 0 where labels are frozen.
        fits: models that are made.
        strengths: that are tried.
        held: bytes, beyond those of the process before.
        method: how it is done.
    """

    choosing: float
    without_each: float
    kept: float
    certified: float
    fits: int
    strengths: int
    held: int
    method: str

    @property
    def seconds(self) -> float:
        """Return the seconds of the whole."""
        return self.choosing + self.without_each + self.kept + self.certified


def teaching(kernel: LabelDependentKernel, cost: Cost) -> Teaching:
    """Return what is counted for a kernel that sees labels.

    Args:
        cost: of what is asked, on a machine on which this kernel was tried.

    Accuracy:
        within a factor of 2, as `plan`. n² is reckoned with beyond what was tried: of a hierarchy of more
        than a hundred examples that is too much (2.4 times what 200 took), and of one by orthants, which
        cost n⁴, too little.
    """
    work = cost.work
    pieces = _Pieces(cost)
    last = work.times[-1]
    chooses = isinstance(kernel, LabelAware) and kernel.strength is None
    strengths = len(STRENGTHS) if chooses else 0
    fitted = _followed(strengths - STRENGTHS.count(0) if chooses else 0, last)
    stays = kernel.frozen or (isinstance(kernel, LabelAware) and kernel.strength == 0)
    again = 0 if stays else sum(time > 0 for time in work.times)
    fits = work.n * again + round(work.n * fitted)
    said = f"{fits} fits of {work.n - 1} examples" if fits else "once, by all examples"
    each = 0.0 if stays else pieces.without_each()
    return Teaching(
        choosing=pieces.choosing(strengths, fitted, last) if chooses else 0.0,
        without_each=each,
        kept=pieces.first() + (ASKED + len(work.times)) * pieces.asked(),
        certified=0.0 if stays else work.refits * pieces.refit(last),
        fits=fits,
        strengths=strengths,
        held=8 * work.n**2 * (MATRICES + work.k * max(1, again)),
        method=said + (f", {strengths} strengths tried" if strengths else ""),
    )


def _followed(strengths: int, time: float) -> float:
    """Return how many strengths are fitted."""
    if time == 0:
        return 0.0
    return strengths if time == math.inf else FOLLOWED * strengths


@dataclass(frozen=True)
class _Pieces:
    """Seconds of what teaching is made of."""

    cost: Cost

    @property
    def lessons(self) -> Lessons:
        """Return what was measured."""
        found = self.cost.machine.lessons
        assert found is not None, "the kernel was tried"
        return found

    @property
    def pairs(self) -> int:
        """Return the pairs of training examples."""
        return self.cost.work.n**2

    def first(self) -> float:
        """Return seconds of teaching by all examples, whose base is there."""
        return self.pairs * self.lessons.first

    def again(self) -> float:
        """Return seconds of teaching by all examples but one."""
        return self.pairs * self.lessons.again

    def own(self) -> float:
        """Return seconds of asking about one input."""
        return self.pairs * self.lessons.own

    def asked(self) -> float:
        """Return seconds of asking about all queries, a block after another."""
        work = self.cost.work
        return math.ceil(work.m / store.BLOCK) * self.own() + work.m * work.n * self.lessons.asked

    def fit(self, time: float) -> float:
        """Return seconds of one fit."""
        work, machine = self.cost.work, self.cost.machine
        if time == 0:
            return 0.0
        if time < math.inf:
            spectrum = machine.eigh(work.n) + 8 * 4 * self.pairs / machine.fresh
            return spectrum + 2 * self.pairs * machine.thin
        rated = PRODUCTS * (self._passes(1) + machine.call) if work.rule.can_diverge else 0.0
        return self.lessons.indefinite(work.n) + rated

    def without_each(self) -> float:
        """Return seconds of the models without each example, and of what they say, at each time."""
        times = self.cost.work.times
        each = sum(self.again() + self.fit(time) + self.asked() + self.own() for time in times)
        return self.cost.work.n * each

    def choosing(self, strengths: int, fitted: float, time: float) -> float:
        """Return seconds of trying strengths, the base made for that alone."""
        tried = self.again() + fitted * (self.fit(time) + self._passes(PASSES) + self.own())
        spectra = strengths * self.cost.machine.eigh(self.cost.work.n)
        return self.cost.kernel() + self.first() + spectra + self.cost.work.n * tried

    def refit(self, time: float) -> float:
        """Return seconds of an example really left out: all from nothing, and by the engine."""
        work, machine = self.cost.work, self.cost.machine
        from_nothing = self.cost.kernel() + self.first() + work.m * work.n * machine.cross
        return from_nothing + self.again() + 2 * (self.fit(time) + self.asked())

    def _passes(self, count: float) -> float:
        return 8 * self.pairs * count / self.cost.machine.streamed
